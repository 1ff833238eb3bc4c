"""Formats of files by their first bytes, to refuse a file that is not what its name or its source says.

magic.refuse_other(path, "jsonl")
# a.jsonl: compressed as .gz, whatever its name says; rename it to a.jsonl.gz
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

PACKED = {  # by the suffix that kit/corpus/raw/compression.py goes by
    ".xz": b"\xfd7zXZ\0",
    ".gz": b"\x1f\x8b",
    ".tgz": b"\x1f\x8b",
    ".bz2": b"BZh",
    ".zst": b"\x28\xb5\x2f\xfd",
}
_PARQUET = b"PAR1"
_OTHERS = {
    _PARQUET: ("parquet", "give it a source of kind parquet"),
    b"PK\x03\x04": ("a zip archive", "unzip it, and name the files"),
    b"PK\x05\x06": ("an empty zip archive", "name another file"),
    b"ARROW1\0\0": ("an Arrow file", "write it as parquet, and give it a source of kind parquet"),
    b"\xff\xff\xff\xff": (
        "an Arrow stream, as save_to_disk of datasets writes it",
        "write it with to_parquet, and give it a source of kind parquet",
    ),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it, and name the files"),
    b"Rar!": ("a RAR archive", "unpack it, and name the files"),
    b"%PDF-": ("a PDF", "extract its text first"),
    b"SQLite format 3\0": ("an SQLite database", "write its texts as JSON lines"),
    b"version https://git-lfs": ("a pointer of git-lfs", "run `git lfs pull` in its folder"),
}
_TAR, _TAR_AT = b"ustar", 257
_HTML = (b"<!doctype html", b"<html")
_HEAD = 512  # bytes


def refuse_other(path: Path, kind: str) -> None:
    """Raise InputError if a file is not what its name says, or is none for a source of this kind.

    A file without bytes passes: each reader has its own message for it.
    """
    if problem := mismatch(path, path.name, kind):
        raise InputError(f"{path}: {problem}")


def mismatch(file: Path, name: str, kind: str | None = None) -> str | None:
    """Describe why the bytes of a file do not fit its `name`, with the way out; None if they do.

    Without a `kind` only compressed names and web pages are looked at: the file has just been fetched.
    """
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    if not head:
        return None
    if kind == "parquet":
        return None if head.startswith(_PARQUET) else _not_parquet(head)
    suffix = next((suffix for suffix in PACKED if name.lower().endswith(suffix)), None)
    if suffix:
        return None if _is_packed(head, suffix) else _not_packed(suffix, head)
    if kind is None:
        is_page = _is_page(head) and not name.lower().endswith((".html", ".htm"))
        return "a web page, perhaps a login page; open the URL in a browser" if is_page else None
    return None if kind == "wikipedia" else _no_text(head, name)


def is_tar(head: bytes) -> bool:
    """Whether the first 512 bytes are the header of a tar archive."""
    return head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR


def _is_packed(head: bytes, suffix: str) -> bool:
    # pzstd begins a file with a skippable frame: RFC 8878, section 3.1.2.
    skippable = suffix == ".zst" and head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5
    return head.startswith(PACKED[suffix]) or skippable


def _not_packed(suffix: str, head: bytes) -> str:
    found = _name(head) or f"begins with {head[:8]!r}"
    return f"not a {suffix} file, whatever its name says ({found}); get a fresh copy, or rename it"


def _not_parquet(head: bytes) -> str:
    return f"not parquet ({_name(head) or f'begins with {head[:8]!r}'}); give it another kind of source"


def _no_text(head: bytes, name: str) -> str | None:
    for suffix, magic in PACKED.items():
        if head.startswith(magic):
            return f"compressed as {suffix}, whatever its name says; rename it to {name}{suffix}"
    found = next((value for magic, value in _OTHERS.items() if head.startswith(magic)), None)
    if found:
        return f"{found[0]}, which holds no lines of text; {found[1]}"
    if is_tar(head) and not name.lower().endswith(".tar"):
        return f"a tar archive, whatever its name says; rename it to {name}.tar"
    return None


def _name(head: bytes) -> str | None:
    if _is_page(head):
        return "a web page, perhaps a login page"
    if is_tar(head):
        return "a tar archive"
    packed = (
        f"compressed as {suffix}" for suffix, magic in PACKED.items() if head.startswith(magic)
    )
    others = (name for magic, (name, _) in _OTHERS.items() if head.startswith(magic))
    return next(packed, None) or next(others, None)


def _is_page(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML)
