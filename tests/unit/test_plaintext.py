"""Plain text: documents between empty lines, in parts of whole documents."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import TYPE_CHECKING

import pytest
import zstandard

from kit.corpus import plaintext
from kit.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "一行目\n二行目\n\n\n \n次の文書  \n\n最後の文書"
DOCUMENTS = [["一行目", "二行目"], ["次の文書  "], ["最後の文書"]]
PACKERS = {
    ".txt": bytes,
    ".xz": lzma.compress,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
packed = pytest.mark.parametrize("suffix", [suffix for suffix in PACKERS if suffix != ".txt"])


def documents(source: Path, folder: Path, unit_bytes: int = 10**6) -> list[list[str]]:
    folder.mkdir(exist_ok=True)
    parts = plaintext.split(source, folder, unit_bytes)
    return [document for part in parts for document in plaintext.documents(part)]


def refusal(source: Path, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        documents(source, folder)
    assert str(source) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def long_text() -> bytes:
    """Text that fills several blocks of any of the compressions."""
    import random

    letters = random.Random(1)
    return "\n\n".join(
        "".join(letters.choices("日本語駅伝襷", k=60)) for _ in range(9_000)
    ).encode()


@pytest.mark.parametrize("suffix", PACKERS)
def test_empty_lines_stand_between_documents(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    source.write_bytes(PACKERS[suffix](TEXT.encode()))
    assert documents(source, tmp_path / "parts") == DOCUMENTS


def test_line_ends_of_windows_are_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.replace("\n", "\r\n").encode())
    assert documents(tmp_path / "a.txt", tmp_path / "parts") == DOCUMENTS


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("一\u2028二\x85三\r四\n".encode())
    assert documents(tmp_path / "a.txt", tmp_path / "parts") == [["一\u2028二\x85三\r四"]]


@pytest.mark.parametrize("unit_bytes", [1, 200, 3_000, 10**6])
def test_a_text_is_cut_at_document_boundaries_and_joined_is_the_whole(
    tmp_path: Path, unit_bytes: int
) -> None:
    whole = [[f"文書{number}", "本文" * (number % 7)] for number in range(100)]
    whole = [[line for line in document if line] for document in whole]
    text = "\n\n".join("\n".join(document) for document in whole)
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    parts = plaintext.split(tmp_path / "a.txt", tmp_path, unit_bytes)
    sizes = [
        sum(len("\n".join(document).encode()) for document in plaintext.documents(part))
        for part in parts
    ]
    assert all(size >= unit_bytes for size in sizes[:-1])
    assert len(parts) == (100 if unit_bytes == 1 else len(parts))
    assert [document for part in parts for document in plaintext.documents(part)] == whole


def test_an_empty_file_is_one_part_without_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "b.txt").write_bytes(b"\n\n \n")
    for name in ("a.txt", "b.txt"):
        parts = plaintext.split(tmp_path / name, tmp_path, 10)
        assert len(parts) == 1
        assert list(plaintext.documents(parts[0])) == []


def test_what_is_not_utf8_is_refused_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("一\n二\n".encode() + b"abc\x80\n")
    assert "a.txt, line 3: byte 4 of the line is not UTF-8" in refusal(
        tmp_path / "a.txt", tmp_path / "parts"
    )
    (tmp_path / "b.txt").write_bytes("日本語".encode("euc-jp"))
    assert "b.txt, line 1: byte 1" in refusal(tmp_path / "b.txt", tmp_path / "parts")


def test_a_refused_text_leaves_no_part_that_looks_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\ntwo\n\x80")
    refusal(tmp_path / "a.txt", tmp_path / "parts")
    assert not list((tmp_path / "parts").iterdir())


@packed
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_a_text_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    source = tmp_path / f"a{suffix}"
    whole = PACKERS[suffix](long_text())
    source.write_bytes(whole[: int(share * len(whole))])
    assert "damaged or cut" in refusal(source, tmp_path / "parts")


@packed
def test_a_damaged_text_is_refused(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    whole = bytearray(PACKERS[suffix](long_text()))
    for at in range(len(whole) // 3, len(whole) // 3 + 40):
        whole[at] ^= 0xA5
    source.write_bytes(bytes(whole))
    refusal(source, tmp_path / "parts")


@packed
def test_a_text_that_is_not_compressed_as_its_name_says_is_refused(
    tmp_path: Path, suffix: str
) -> None:
    (tmp_path / f"a{suffix}").write_text(TEXT, encoding="utf-8")
    refusal(tmp_path / f"a{suffix}", tmp_path / "parts")


def test_a_document_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plaintext, "_MEMORY", 1_000)
    (tmp_path / "a.txt").write_text("あ" * 99 + "\n" + "行\n" * 2_000, encoding="utf-8")
    assert "put empty lines between documents" in refusal(tmp_path / "a.txt", tmp_path / "parts")
    (tmp_path / "b.txt").write_text("あ" * 5_000, encoding="utf-8")
    assert "characters" in refusal(tmp_path / "b.txt", tmp_path / "parts")
