"""Plain text: documents between blank lines, in pieces that share no document and lose none."""

from __future__ import annotations

import bz2
import functools
import gzip
import itertools
import lzma
import os
import random
import re
import shutil
import tempfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.corpus import line_ends, plaintext
from kit.corpus.bad_input import BadInput
from kit.corpus.raw import lines as raw_lines
from kit.corpus.raw import pieces
from kit.corpus.raw.lines import LINE_BYTES
from kit.errors import InputError

if TYPE_CHECKING:
    from collections import Counter

TEXT = "一行目\n二行目\n\n\n \n次の文書  \n\n最後の文書"
DOCUMENTS = [["一行目", "二行目"], ["次の文書  "], ["最後の文書"]]
PACKERS = {
    ".txt": bytes,
    ".xz": lzma.compress,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
kinds = pytest.mark.parametrize("suffix", PACKERS)
packed = pytest.mark.parametrize("suffix", [suffix for suffix in PACKERS if suffix != ".txt"])
Piece = dict[str, Any]


def cut(source: Path, unit_bytes: int = 10**6, folder: Path | None = None) -> list[Piece]:
    folder = folder or source.parent / f"parts-of-{source.name}"
    folder.mkdir(exist_ok=True)
    return pieces.cut("plaintext", source, folder, unit_bytes, 0)


def read(found: list[Piece], faults: BadInput | None = None, **limits: Any) -> list[list[str]]:
    faults = faults or BadInput("stop")
    return [text for piece in found for text in plaintext.documents(piece, faults, **limits)]


def documents(source: Path) -> list[list[str]]:
    return read(cut(source))


def at_hand(path: Path, start: int, end: int) -> Piece:
    """A range of a seekable text as a piece, wherever it begins and ends."""
    found = path.stat()
    facts = {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "xxh3": ""}
    return {"path": str(path), "start": start, "end": end} | facts


def ranges(path: Path, size: int, cuts: set[int]) -> list[Piece]:
    ends = sorted({cut for cut in cuts if 0 < cut < size} | {size})
    starts = [0, *ends[:-1]]
    return [at_hand(path, start, end) for start, end in zip(starts, ends, strict=True)]


def blocks(*texts: bytes) -> bytes:
    """An xz file with a block for each text."""
    return b"".join(map(lzma.compress, texts))


def refusal(source: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(cut(source, 10**8))
    assert str(source) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@functools.cache
def long_text(suffix: str = ".txt") -> bytes:
    """Text that fills several blocks of bz2 and of zstd, compressed."""
    letters = random.Random(1)
    lines = ("".join(letters.choices("日本語駅伝襷", k=60)) for _ in range(5_500))
    return PACKERS[suffix]("\n\n".join(lines).encode())


@kinds
def test_blank_lines_stand_between_documents(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    source.write_bytes(PACKERS[suffix](TEXT.encode()))
    assert documents(source) == DOCUMENTS


def test_line_ends_of_windows_are_line_ends(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert documents(source) == DOCUMENTS
    (tmp_path / "a.gz").write_bytes(gzip.compress(source.read_bytes()))
    assert documents(tmp_path / "a.gz") == DOCUMENTS


ODD_ENDS = ["\v", "\f", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("end", ["\r", "\r\n", *ODD_ENDS])
def test_all_mandatory_breaks_of_unicode_end_a_line(tmp_path: Path, end: str) -> None:
    source = tmp_path / "a.txt"
    text = "駅伝は日本で始まった。\n二行目です\n\nマラソンは長い。\n\n山の駅伝は高い。\n"
    source.write_bytes(text.replace("\n", end).encode())
    lines = [["駅伝は日本で始まった。", "二行目です"], ["マラソンは長い。"], ["山の駅伝は高い。"]]
    assert documents(source) == lines
    in_article = lines if end in ("\r", "\r\n") else [[text.replace("\n", end)]]
    assert read(cut(source), others=line_ends.PYTHON) == in_article


def test_no_other_character_ends_a_line(tmp_path: Path) -> None:
    ends = {"\n", "\r", *ODD_ENDS}
    others = [chr(code) for code in range(1, 0x3100) if chr(code) not in ends]
    (tmp_path / "a.txt").write_bytes("".join(f"霧{character}駅" for character in others).encode())
    ((line,),) = documents(tmp_path / "a.txt")
    assert line == "".join(f"霧{character}駅" for character in others)


def blocks_of(lines: list[str]) -> list[list[str]]:
    """Lines as documents, by the definition: a blank one closes a document."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip(" \t\r\n\v\f"):
            found[-1] += [line] if line.strip() else []
        else:
            found.append([])
    return [document for document in found if document]


@pytest.mark.parametrize("name", ["UNICODE", "PYTHON"])
@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.sampled_from("あa　 \t\r\r\n\n\v\f\x85\u2028\u2029"), max_size=40),
    chunk=st.integers(1, 7),
)
def test_lines_end_as_defined_however_the_text_arrives(name: str, text: str, chunk: int) -> None:
    pattern = {"UNICODE": "\r\n|[\n\r\v\f\x85\u2028\u2029]", "PYTHON": "\r\n|[\n\r]"}[name]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("kit.corpus.raw.lines.CHUNK", chunk)
        source = Path(folder) / "a.txt"
        source.write_bytes(text.encode())
        found = read([at_hand(source, 0, len(text.encode()))], others=getattr(line_ends, name))
    assert found == blocks_of(re.split(pattern, text))


def test_a_file_of_carriage_returns_is_cut_into_pieces(tmp_path: Path) -> None:
    whole = [[f"文書{number}", "本文"] for number in range(100)]
    text = "\r\r".join("\r".join(document) for document in whole).encode()
    for name, data in (("a.txt", text), ("a.gz", gzip.compress(text))):
        (tmp_path / name).write_bytes(data)
        found = cut(tmp_path / name, 200)
        assert len(found) > 5
        assert read(found) == whole


def test_a_line_of_ideographic_spaces_is_left_out_and_parts_no_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("一\n\u3000\n二\n", encoding="utf-8")
    assert documents(tmp_path / "a.txt") == [["一", "二"]]


@kinds
@pytest.mark.parametrize("unit_bytes", [1, 200, 3_000, 10**6])
def test_a_text_is_cut_at_document_boundaries_and_joined_is_the_whole(
    tmp_path: Path, suffix: str, unit_bytes: int
) -> None:
    whole = [[f"文書{number}", "本文" * (number % 7)] for number in range(100)]
    whole = [[line for line in document if line] for document in whole]
    text = "\n\n".join("\n".join(document) for document in whole)
    source = tmp_path / f"a{suffix}"
    source.write_bytes(PACKERS[suffix](text.encode()))
    found = cut(source, unit_bytes)
    parts = [read([piece]) for piece in found]
    sizes = [sum(len("\n".join(document).encode()) + 2 for document in part) for part in parts]
    assert all(size >= unit_bytes for size in sizes[:-1])
    assert max(sizes) < unit_bytes + 60
    assert len(parts) == (100 if unit_bytes == 1 else len(parts))
    assert [document for part in parts for document in part] == whole
    assert all((Path(piece["path"]) == source) == (suffix == ".txt") for piece in found)


LETTERS = st.sampled_from(
    [*"ab\n\n\n \r\r", *"\v\x85\u2028\u2029", "\0", "あ", "\u3000", "\udcff", "\udce2\udc80"]
)
TEXTS = st.lists(LETTERS, max_size=60).map(
    lambda letters: "".join(letters).encode(errors="surrogateescape")
)
quickly = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def counted(found: list[Piece], **limits: int) -> tuple[list[list[str]], Counter[str]]:
    faults = BadInput("skip")
    return read(found, faults, **limits), faults.counts


@quickly
@given(text=TEXTS, cuts=st.sets(st.integers(1, 60)), characters=st.integers(2, 9))
def test_wherever_a_text_is_cut_each_document_and_fault_is_read_once(
    tmp_path: Path, text: bytes, cuts: set[int], characters: int
) -> None:
    source = tmp_path / "a.txt"
    source.write_bytes(text)
    limits = {"characters": characters}
    whole = counted([at_hand(source, 0, len(text))], **limits)
    assert counted(ranges(source, len(text), cuts), **limits) == whole
    packed = tmp_path / "a.xz"
    bounds = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    packed.write_bytes(blocks(*(text[a:b] for a, b in itertools.pairwise(bounds))))
    assert counted(ranges(packed, len(text), cuts), **limits) == whole
    parts = cut(Path(shutil.copy(source, tmp_path / "b.txt")), characters)
    assert counted(parts, **limits) == whole
    (tmp_path / "a.gz").write_bytes(gzip.compress(text))
    assert counted(cut(tmp_path / "a.gz", characters), **limits) == whole


def test_at_every_byte_a_text_may_be_cut(tmp_path: Path) -> None:
    text = b"a\n\n \nb\xff\n\nc\r\n\r\nd\xc2\x85e\r\r\xe2\x80\xa8f"
    source = tmp_path / "a.txt"
    source.write_bytes(text)
    whole = counted([at_hand(source, 0, len(text))])
    assert whole == ([["a"], ["c"], ["d", "e"], ["f"]], {"not_utf8": 1})
    for cuts in itertools.combinations(range(1, len(text)), 2):
        assert counted(ranges(source, len(text), set(cuts))) == whole


@quickly
@given(text=TEXTS, unit_bytes=st.integers(1, 20), chunk=st.integers(1, 9))
def test_parts_joined_are_the_text_however_it_arrives(
    text: bytes, unit_bytes: int, chunk: int
) -> None:
    class Slow:
        """A decompressor that gives little at a time."""

        def __init__(self, size: int) -> None:
            self.left, self.size = text, size

        def read(self, size: int = 0) -> bytes:
            given, self.left = self.left[: self.size], self.left[self.size :]
            return given

    def parts(size: int) -> list[bytes]:
        cutter = pieces.Cutter(Slow(size), unit_bytes, "plaintext")
        found = []
        while cutter.more:
            found.append(b"".join(cutter.part()))
        return found

    assert b"".join(parts(chunk)) == text
    assert parts(chunk) == parts(10**6)
    assert all(len(part) >= unit_bytes for part in parts(chunk)[:-1])


def test_xz_of_several_blocks_is_cut_at_blocks_and_not_copied(tmp_path: Path) -> None:
    source = tmp_path / "a.xz"
    text = long_text()
    size = 100_000
    source.write_bytes(blocks(*(text[at : at + size] for at in range(0, len(text), size))))
    found = cut(source, 150_000)
    assert [piece["end"] for piece in found[:-1]] == [
        2 * size * number for number in range(1, len(found))
    ]
    assert {piece["path"] for piece in found} == {str(source)}
    assert read(found) == [[line] for line in text.decode().split("\n\n")]
    assert read(found[::-1][:1])  # a piece needs none of the others
    assert len({piece["xxh3"] for piece in found}) == len(found) > 5


def test_xz_of_few_large_blocks_is_made_into_parts(tmp_path: Path) -> None:
    text = long_text()
    (tmp_path / "a.xz").write_bytes(blocks(text[:9], text[9:]))
    found = cut(tmp_path / "a.xz", 100_000)
    assert len(found) > 5
    assert all(piece["start"] == 0 for piece in found)
    assert read(found) == [[line] for line in text.decode().split("\n\n")]


@kinds
def test_an_empty_text_is_one_piece_without_documents(tmp_path: Path, suffix: str) -> None:
    for name, text in (("a", b""), ("b", b"\n\n \n")):
        source = tmp_path / f"{name}{suffix}"
        source.write_bytes(PACKERS[suffix](text))
        found = cut(source, 10)
        assert len(found) == 1
        assert read(found) == []


def test_what_is_not_utf8_is_refused_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("一\n二\n".encode() + b"abc\x80\n")
    assert "a.txt, line 3: byte 4 of the line is not UTF-8" in refusal(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_bytes("日本語".encode("euc-jp"))
    assert "b.txt, line 1: byte 1" in refusal(tmp_path / "b.txt")


def test_in_the_middle_of_a_file_a_place_is_a_byte(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\ntwo\n\n\x80\n")
    with pytest.raises(InputError, match=r"a\.txt, the line at byte 10 of the text: byte 1"):
        read(cut(tmp_path / "a.txt", 5)[1:])


BAD = {
    "not_utf8": b"abc\x80",
    "nul": b"a\0b",
    "line_too_long": b"x" * (LINE_BYTES + 1),
}


@pytest.mark.parametrize(("kind", "line"), BAD.items(), ids=BAD)
def test_a_bad_line_is_passed_over_and_counted(tmp_path: Path, kind: str, line: bytes) -> None:
    source = tmp_path / "a.txt"
    source.write_bytes(b"one\n" + line + b"\n\ntwo\n" + line + b"\nthree\n" + line)
    faults = BadInput("skip")
    assert read(cut(source, 10**8), faults) == [["one"], ["two", "three"]]
    assert faults.counts == {kind: 3}
    assert [place.split(":")[0] for place in faults.places[kind]] == [
        f"{source}, line {number}" for number in (2, 5, 7)
    ]
    with pytest.raises(InputError, match=r"a\.txt, line 2: .*; or skip such input"):
        documents(source)


def test_a_line_of_the_greatest_length_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\n" + b"x" * LINE_BYTES + b"\ny\n")
    assert documents(tmp_path / "a.txt") == [["x" * LINE_BYTES, "y"]]


def test_a_document_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("あ" * 99 + "\n" + "行\n" * 2_000, encoding="utf-8")
    for limits in ({"characters": 1_000}, {"limit": 1_000}):
        with pytest.raises(InputError, match=r"line 9\d\d|line 100\d") as caught:
            read(cut(tmp_path / "a.txt"), **limits)
        assert "put blank lines between documents" in str(caught.value)


def test_a_document_that_is_too_long_is_passed_over_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\n" + b"long\n" * 9 + b"\ntwo\n")
    faults = BadInput("skip")
    assert read(cut(tmp_path / "a.txt"), faults, characters=20) == [["one"], ["two"]]
    assert faults.counts == {"document_too_long": 1}


@pytest.mark.parametrize("suffix", [".txt", ".xz", ".zst"])
def test_a_line_that_never_ends_takes_no_memory(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    source.write_bytes(PACKERS[suffix](b"one\n\n" + b"x" * 50_000_000 + b"\n\ntwo\n"))
    faults = BadInput("skip")
    tracemalloc.start()
    found = read(cut(source), faults)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [["one"], ["two"]]
    assert faults.counts == {"line_too_long": 1}
    assert peak < 40_000_000


@packed
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_a_text_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    source = tmp_path / f"a{suffix}"
    whole = long_text(suffix)
    source.write_bytes(whole[: int(share * len(whole))])
    assert "damaged or truncated" in refusal(source)


@packed
def test_a_damaged_text_is_refused(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    whole = bytearray(long_text(suffix))
    for at in range(len(whole) // 3, len(whole) // 3 + 40):
        whole[at] ^= 0xA5
    source.write_bytes(bytes(whole))
    refusal(source)
    assert not list((tmp_path / f"parts-of-a{suffix}").iterdir())


@packed
def test_a_text_of_several_streams_is_read_to_its_end(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    pack = PACKERS[suffix]
    source.write_bytes(pack(b"one\n\n") + pack(b"") + pack(b"two\n"))
    assert documents(source) == [["one"], ["two"]]


def test_a_stream_may_end_where_a_read_ends(tmp_path: Path) -> None:
    digits = "".join(random.Random(1).choices("0123456789", k=4_000))
    heads = (f"{digits[:size]}\n\n".encode() for size in range(500, 4_000))
    head = next(head for head in heads if len(PACKERS[".zst"](head)) % 256 == 0)
    (tmp_path / "a.zst").write_bytes(PACKERS[".zst"](head) + PACKERS[".zst"](b"end\n"))
    assert documents(tmp_path / "a.zst")[-1] == ["end"]


@packed
def test_what_follows_a_stream_and_is_none_is_refused(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    second = bytearray(PACKERS[suffix](b"two\n"))
    second[0] ^= 0xFF  # where Python's own openers see the end of the file
    source.write_bytes(PACKERS[suffix](b"one\n\n") + bytes(second))
    assert "damaged or truncated" in refusal(source)


def test_a_wrong_checksum_of_xz_is_refused_with_its_place(tmp_path: Path) -> None:
    source = tmp_path / "a.xz"
    text = long_text()
    size = 200_000
    packs = [lzma.compress(text[at : at + size]) for at in range(0, len(text), size)]
    bad = bytearray(packs[1])
    index = int.from_bytes(bad[-8:-4], "little") * 4 + 4
    bad[-12 - index - 1] ^= 1  # the last byte of the block's check, before the index
    source.write_bytes(b"".join([packs[0], bytes(bad), *packs[2:]]))
    found = cut(source, size)
    assert len(found) == len(packs)
    assert read(found[2:])
    with pytest.raises(InputError, match=r"a\.xz: damaged or truncated near byte \d+ of its text"):
        read(found[1:2])
    source.write_bytes(bytes(bad))
    assert "a.xz: damaged or truncated near byte" in refusal(source)


@packed
def test_a_text_that_is_not_compressed_as_its_name_says_is_refused(
    tmp_path: Path, suffix: str
) -> None:
    (tmp_path / f"a{suffix}").write_text(TEXT, encoding="utf-8")
    refusal(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".txt", ".xz", ".gz"])
def test_a_file_that_changed_after_it_was_cut_is_refused(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    source.write_bytes(PACKERS[suffix](b"one\n"))
    if suffix == ".xz":
        source.write_bytes(blocks(b"one\n", b"two\n"))
    found = cut(source, 4)
    path = Path(found[0]["path"])
    was = path.read_bytes()
    path.write_bytes(was[:-1] + bytes([was[-1] ^ 1]))
    os.utime(path, ns=(0, found[0]["mtime_ns"] + (suffix != ".gz")))
    with pytest.raises(
        InputError, match=r"changed since ekiden download cut it; run ekiden download again"
    ):
        read(found)
    path.unlink()
    with pytest.raises(InputError, match=r"changed since ekiden download cut it"):
        read(found)


def test_where_a_text_is_cut_equal_bytes_come_of_it(tmp_path: Path) -> None:
    source = tmp_path / "a.gz"
    source.write_bytes(long_text(".gz"))
    one, two = (cut(source, 10**5, tmp_path / name) for name in ("one", "two"))
    assert [piece["xxh3"] for piece in one] == [piece["xxh3"] for piece in two]


@pytest.mark.parametrize(("chunk", "characters", "limit"), [(9, 60, 9), (60, 300, 60)])
@pytest.mark.parametrize("others", [line_ends.UNICODE, line_ends.PYTHON])
def test_lines_read_at_once_are_those_read_one_by_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
    characters: int,
    limit: int,
    others: str,
) -> None:
    draw = random.Random(7)
    parts = ["あ", "い。", " ", "\u3000", "a", *["\n"] * 5, "\n\n", "\r\n", " \n", "\u3000\n"]
    rare = ["\r", "\v", "\x1c\n", "\u2028", "\0", "\udcff", "長" * 30]
    raw = "\ufeff".encode()
    for _ in range(200):  # runs without a fault, so that some chunks have none
        run = [
            *draw.choices(parts, k=draw.randrange(60)),
            *draw.choices(rare, k=draw.random() < 0.3),
        ]
        raw += "".join(run).encode(errors="surrogateescape")
    (tmp_path / "a.txt").write_bytes(raw)
    monkeypatch.setattr(raw_lines, "CHUNK", chunk)

    def found() -> tuple[list[list[str]], Counter[str], dict[str, list[str]]]:
        faults = BadInput("skip")
        pieces = cut(tmp_path / "a.txt", 2000)
        return (
            read(pieces, faults, characters=characters, limit=limit, others=others),
            faults.counts,
            faults.places,
        )

    at_once = 0
    texts = raw_lines._texts

    def counted(raw: bytes) -> list[str]:
        nonlocal at_once
        found = texts(raw)
        at_once += len(found)
        return found

    monkeypatch.setattr(raw_lines, "_texts", counted)
    quick = found()
    assert at_once > 100
    monkeypatch.setattr(raw_lines, "_texts", lambda _: [])
    assert quick == found()
