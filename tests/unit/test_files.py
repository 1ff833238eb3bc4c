"""Files that are whole or absent."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from kit.errors import InputError
from kit.store import files
from kit.store.files import atomic, file_hash, is_temporary, zstd_reader, zstd_writer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


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


def test_a_file_is_on_disk_before_it_has_its_name_and_so_is_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[tuple[str, Path, bytes | None]] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        happened.append(("sync", path, path.read_bytes() if path.is_file() else None))
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        happened.append(("rename", path, None))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    with atomic(tmp_path / "a.bin") as out:
        out.write(b"abc")
    kinds, paths, contents = zip(*happened, strict=True)
    assert kinds == ("sync", "rename", "sync")
    assert contents[0] == b"abc"  # all of it has left Python's buffer
    assert is_temporary(paths[0])
    assert paths[1:] == (paths[0], tmp_path)


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


def test_a_hash_of_a_range_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10
    (tmp_path / "a").write_bytes(content)
    for start, end in ((0, 7), (3, 1000), (5, None), (2560, None)):
        (tmp_path / "b").write_bytes(content[start:end])
        assert file_hash(tmp_path / "a", start, end) == file_hash(tmp_path / "b"), (start, end)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "二\n"),
        ("", "二\n"),
        ("一\n", "一\n二\n"),
        ("一", "一\n二\n"),
        ("a\nb", "a\nb\n二\n"),
    ],
)
def test_a_line_is_appended_on_a_line_of_its_own(
    tmp_path: Path, before: str | None, after: str
) -> None:
    path = tmp_path / "a.jsonl"
    if before is not None:
        path.write_text(before, encoding="utf-8")
    files.append_line(path, "二")
    assert path.read_text(encoding="utf-8") == after
