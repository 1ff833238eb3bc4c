"""One look at many folders."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from kit.errors import StageError
from kit.store import look, manifest

if TYPE_CHECKING:
    from pathlib import Path

CAUSES = manifest.causes("preprocess", 1, {}, {})


def made(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a").write_text("abc")
    manifest.commit(folder, CAUSES)
    return folder


def test_within_a_look_a_folder_is_as_it_was_first_seen(tmp_path: Path) -> None:
    folder = made(tmp_path / "unit")
    with look.once():
        assert manifest.state(folder, CAUSES) == "done"
        seen = manifest.fingerprint(folder, "jobs.preprocess")
        manifest.invalidate(folder)
        (folder / "a").unlink()
        with look.once():  # a part of the same
            assert manifest.state(folder, CAUSES) == "done"
        assert manifest.fingerprint(folder, "jobs.preprocess") == seen
    assert manifest.state(folder, CAUSES) == "missing"
    with pytest.raises(StageError, match=r"unit: missing; run ekiden preprocess first"):
        manifest.fingerprint(folder, "jobs.preprocess")


def test_other_threads_have_looks_of_their_own(tmp_path: Path) -> None:
    folder = made(tmp_path / "unit")
    found = []
    with look.once():
        manifest.state(folder, CAUSES)
        manifest.invalidate(folder)
        other = threading.Thread(target=lambda: found.append(manifest.state(folder, CAUSES)))
        other.start()
        other.join()
    assert found == ["missing"]


def test_a_fact_is_of_the_very_object() -> None:
    with look.once():
        found = [look.remember_of([number], "a name", lambda n=number: n) for number in range(50)]
    assert found == [*range(50)]


def test_what_raises_is_tried_again() -> None:
    answers = iter([ValueError("not yet"), 3])

    def find() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with look.once():
        with pytest.raises(ValueError, match="not yet"):
            look.remember("a", find)
        assert look.remember("a", find) == 3
        assert look.remember("a", find) == 3
