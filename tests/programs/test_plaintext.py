"""Plain text packed by the program xz, and a disk too small for its parts."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from kit.errors import InputError
from tests.disk import fill, small_disk
from tests.unit.test_plaintext import cut, long_text, read

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(shutil.which("xz") is None, reason="there is no xz")
def test_a_file_of_xz_with_block_size_is_cut_at_blocks(tmp_path: Path) -> None:
    text = long_text()
    (tmp_path / "a").write_bytes(text)
    subprocess.run(["xz", "-0", "--block-size=200000", tmp_path / "a"], check=True)
    assert str(tmp_path / "a.xz") not in [p["path"] for p in cut(tmp_path / "a.xz", 49_000)]
    found = cut(tmp_path / "a.xz", 200_000)
    assert [piece["start"] for piece in found] == [*range(0, len(text), 200_000)]
    assert read(found) == [[line] for line in text.decode().split("\n\n")]


def test_a_full_disk_is_told_with_the_part_that_did_not_fit(tmp_path: Path) -> None:
    source = tmp_path / "a.gz"
    source.write_bytes(long_text(".gz"))
    (tmp_path / "small").mkdir()
    with small_disk(tmp_path / "small", "256k"):
        fill(tmp_path / "small")
        with pytest.raises(InputError, match=r"part-00000.*cannot be written \(No space left"):
            cut(source, folder=tmp_path / "small")
