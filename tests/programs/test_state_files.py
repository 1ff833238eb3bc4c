"""A checkpoint's files: what a pickle in them would call is not called, and whose they are counts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kit.errors import CheckpointError
from kit.store.files import write_json
from kit.training import state_files
from kit.training.checkpoint import RECORD, STATE, Checkpoint

if TYPE_CHECKING:
    from pathlib import Path


class Attack:
    """Unpickled, it makes a file."""

    def __init__(self, hole: Path) -> None:
        self._hole = hole

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self._hole}'",)


def never() -> None:
    raise AssertionError


def test_tensors_and_plain_values_are_read_without_deepspeed(tmp_path: Path) -> None:
    state = {"module": {"a": torch.arange(3.0)}, "shapes": [torch.Size([3])], "version": "0.19.8"}
    torch.save(state, tmp_path / "a.pt")
    read = state_files.read(tmp_path / "a.pt", "cpu", never)
    assert torch.equal(read["module"]["a"], torch.arange(3.0))
    assert (read["shapes"], read["version"]) == (state["shapes"], "0.19.8")
    state_files.refuse_code(tmp_path)


def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path: Path) -> None:
    file, hole = tmp_path / "a.pt", tmp_path / "hole"
    torch.save({"module": {"a": torch.zeros(2), "b": Attack(hole)}}, file)
    for read in (
        lambda: state_files.read(file, "cpu", never),
        lambda: state_files.refuse_code(tmp_path),
    ):
        with pytest.raises(
            CheckpointError, match=r"a\.pt: not loaded, as it would call posix\.system"
        ):
            read()
    assert not hole.exists()


def committed(folder: Path) -> Checkpoint:
    (folder / STATE).mkdir()
    (folder / STATE / "a.pt").write_bytes(b"state")
    write_json(folder / RECORD, {"files": {"a.pt": {"size": 5, "xxh3": "0"}}})
    return Checkpoint(folder, 1, 1)


def test_ones_own_files_may_be_unpickled_if_they_have_not_changed(tmp_path: Path) -> None:
    checkpoint = committed(tmp_path)
    checkpoint.ensure_own()
    with pytest.raises(CheckpointError, match=r"a\.pt has changed since it was written"):
        checkpoint.ensure_intact_and_own()


@pytest.mark.skipif(os.geteuid() != 0, reason="chown needs root")
def test_files_of_another_user_are_not_unpickled_and_those_of_root_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = committed(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    checkpoint.ensure_own()  # root's
    monkeypatch.undo()
    os.chown(checkpoint.state / "a.pt", 4321, 4321)
    with pytest.raises(CheckpointError) as refused:
        checkpoint.ensure_own()
    assert str(refused.value) == (
        f"{checkpoint.state / 'a.pt'}: belongs to user 4321, and unpickling it can run code as you; if you "
        f"trust them, make it yours: copy {tmp_path} with `cp -r`, and replace it"
    )
