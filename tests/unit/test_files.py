"""Files that are whole or absent."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from kit.errors import InputError
from kit.store import files
from kit.store.files import atomic, file_hash, is_temporary, zstd_reader, zstd_writer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from kit.store.files import atomic
with atomic(Path(sys.argv[1])) as out:
    out.write(b"x" * 5_000_000)
    out.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write_half(opened: AbstractContextManager[IO[Any]], half: str | bytes, error: type) -> None:
    """Write half of a file and fail."""
    with opened as out:
        out.write(half)
        raise error


def test_a_written_file_holds_what_was_written_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    with atomic(tmp_path / "deep" / "a.bin") as out:
        out.write(b"abc")
        assert not (tmp_path / "deep" / "a.bin").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.bin"]
    assert (tmp_path / "deep" / "a.bin").read_bytes() == b"abc"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write_half(atomic(tmp_path / "a.bin"), b"half", error)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(LookupError):
        write_half(atomic(tmp_path / "a.txt", "w"), "new", LookupError)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_killed_write_leaves_the_file_as_it_was(
    tmp_path: Path, root: Path, before: bytes | None
) -> None:
    target = tmp_path / "a.bin"
    if before is not None:
        target.write_bytes(before)
    done = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(target)], cwd=root, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert (target.read_bytes() if target.exists() else None) == before
    left = [path for path in tmp_path.iterdir() if path != target]
    assert left
    assert all(is_temporary(path) for path in left)


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with atomic(tmp_path / "a") as one, atomic(tmp_path / "a") as other:
        one.write(b"1" * 10)
        other.write(b"2" * 10)
    assert (tmp_path / "a").read_bytes() in (b"1" * 10, b"2" * 10)


def test_json_of_equal_values_is_equal_bytes(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a", {"b": 1, "a": "日本"})
    files.write_json(tmp_path / "b", {"a": "日本", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "日本" in (tmp_path / "a").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a").read_bytes()) == files.read_json(tmp_path / "b")


@pytest.mark.parametrize(
    "text",
    ["", "一行\n", "最後に改行がない", "a\r\nb\rc\n", "\u2028\x85\x0b\n", "🗾" * 70_000 + "\n"],
)
def test_zstd_gives_back_the_text(tmp_path: Path, text: str) -> None:
    with zstd_writer(tmp_path / "a.zst") as out:
        out.write(text)
    with zstd_reader(tmp_path / "a.zst") as stream:
        assert stream.read() == text


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    lines = ["a\r\n", "b\x85c\u2028d\rd\x0c\n", "e"]
    with zstd_writer(tmp_path / "a.zst") as out:
        out.writelines(lines)
    with zstd_reader(tmp_path / "a.zst") as stream:
        assert list(stream) == lines


def test_equal_text_gives_equal_bytes_however_it_is_written(tmp_path: Path) -> None:
    lines = [f"{number}行目\n" for number in range(5_000)]
    with zstd_writer(tmp_path / "a.zst") as out:
        out.writelines(lines)
    with zstd_writer(tmp_path / "b.zst") as out:
        for line in lines:
            out.write(line)
    assert (tmp_path / "a.zst").read_bytes() == (tmp_path / "b.zst").read_bytes()


def test_a_bit_that_flipped_in_a_zstd_file_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    path, text = tmp_path / "a.zst", "襷をつなぐ駅伝の走者 123\n" * 3
    with zstd_writer(path) as out:
        out.write(text)
    whole = path.read_bytes()
    refused = 0
    for place, bit in itertools.product(range(len(whole)), range(8)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            with zstd_reader(path) as stream:
                assert stream.read() == text
        except InputError:
            refused += 1
    assert refused > 7 * len(whole)


def test_an_exception_leaves_no_zstd_file(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        write_half(zstd_writer(tmp_path / "a.zst"), "half", LookupError)
    assert list(tmp_path.iterdir()) == []


def test_a_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than one chunk
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content)
    (tmp_path / "c").write_bytes(content[:-1] + b"\0")
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b") != file_hash(tmp_path / "c")


def test_a_hash_of_text_is_the_same_on_every_machine() -> None:
    assert files.text_hash("駅伝") == 10_442_249_243_099_128_091


PRINTS = """
import sys
from kit.cluster.entry import spare_output

if sys.argv[1] == "spared":
    spare_output()
for stream in (sys.stdout, sys.stderr):
    print("a line for the log", file=stream, flush=True)
    print("駅伝" * 10_000, file=stream, flush=True)
"""


@pytest.mark.parametrize("how", ["spared", "not spared"])
def test_a_log_on_a_full_disk_is_no_error_to_who_writes_it(root: Path, how: str) -> None:
    with Path("/dev/full").open("wb") as full:  # a disk with no room left
        command = [sys.executable, "-c", PRINTS, how]
        done = subprocess.run(command, cwd=root, stdout=full, stderr=full, check=False)
    assert (done.returncode == 0) is (how == "spared")


def test_a_log_says_what_is_printed(root: Path) -> None:
    command = [sys.executable, "-c", PRINTS, "spared"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == "a line for the log\n" + "駅伝" * 10_000 + "\n"
