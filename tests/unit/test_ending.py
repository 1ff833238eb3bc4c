"""How a command ends that meets a file of somebody else."""

from __future__ import annotations

import errno
import getpass
import io
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from jobs import command, ending


def test_a_file_that_one_may_not_touch_is_a_line_with_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    temporary = tmp_path / ".partial-1234-jobs.json"
    with pytest.raises(SystemExit) as left, ending.in_order():
        raise PermissionError(errno.EACCES, "Permission denied", str(temporary))
    assert left.value.code == 2
    said = capsys.readouterr().err
    me = getpass.getuser()
    assert said.startswith(f"error: {tmp_path}: permission denied; it belongs to {me} (drwx")
    assert said.count("\n") == 1
    assert f"and you are {me}" in said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "No space left on device; free some space, and try again"),
        (
            errno.EROFS,
            "Read-only file system; have it mounted for writing, or use another workspace=",
        ),
    ],
)
def test_a_disk_that_cannot_be_written_is_a_line_with_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int, said: str
) -> None:
    temporary = str(tmp_path / ".partial-1234-jobs.json")
    copied = shutil.Error([("a", temporary, f"[Errno {number}] {os.strerror(number)}: 'a' -> 'b'")])
    plain = OSError(number, os.strerror(number), temporary)
    for error in (plain, copied) if number == errno.ENOSPC else (plain,):
        with pytest.raises(SystemExit) as left, ending.in_order():
            raise error
        assert left.value.code == 1
        assert capsys.readouterr().err == f"error: {tmp_path}: {said}\n"


@pytest.mark.parametrize(("encoding", "written"), [("euc_jp", "駅伝 ??"), ("utf-8", "駅伝 ⠉🏃")])
def test_a_sign_that_a_locale_lacks_is_no_traceback(
    encoding: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding, write_through=True))
    with ending.in_order():
        print("駅伝 ⠉🏃", end="")
        command.print_json({"駅伝": "⠉"})
    text = file.getvalue().decode(encoding)
    assert text.startswith(written)
    assert json.loads(text[len(written) :]) == {"駅伝": "⠉"}


def test_an_error_of_another_kind_is_a_traceback() -> None:
    with pytest.raises(FileNotFoundError), ending.in_order():
        Path("/no/such/file").read_text(encoding="utf-8")
