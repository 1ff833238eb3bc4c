"""Documents of a piece: of the file that was cut, and of no other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from kit.corpus import documents, download
from kit.corpus.bad_input import BadInput
from kit.errors import InputError
from kit.store import manifest
from kit.store.units import make_units
from tests.conftest import units_of

if TYPE_CHECKING:
    from tests.conftest import Workdir


def piece(workdir: Workdir, name: str) -> dict[str, Any]:
    """The whole source as one piece."""
    units = [u for u in units_of(download, workdir.recipe("corpus.unit_mb=100")) if u.name == name]
    make_units("download", units)
    (found,) = manifest.read(units[0].folder, "jobs.download")["pieces"]
    return dict(found)


@pytest.mark.parametrize("name", ["jawiki", "web"])
def test_another_file_of_the_same_size_is_refused(workdir: Workdir, name: str) -> None:
    found = piece(workdir, name)
    os.utime(found["path"], ns=(1, 1))
    for on_bad_input in ("stop", "skip"):
        with pytest.raises(InputError, match=r"changed since ekiden download cut it"):
            next(documents.read(found, BadInput(on_bad_input), "default"))


def test_a_text_that_is_cut_short_while_it_is_read_is_refused(workdir: Workdir) -> None:
    workdir.web.write_text("文書である。\n\n" * 300_000)
    found = documents.read(piece(workdir, "web"), BadInput("skip"), "default")
    next(found)
    os.truncate(workdir.web, 3_000_000)
    with pytest.raises(InputError, match=r"changed since ekiden download cut it"):
        list(found)
