"""Resolve a source's location: local files, a URL, or the name of a published text.

jawiki-20220701   a dated Wikipedia dump (any XXwiki-YYYYMMDD), with its index and its checksums
cc100-ja          CC-100 (any cc100-XX), which has no published checksums
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.recipe import Source, is_url, named_kind
from kit.corpus.raw.archive import JSON_NAME
from kit.errors import InputError
from kit.store import listing
from kit.store.files import text_hash

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

_WIKIMEDIA = "https://dumps.wikimedia.org/{wiki}/{date}/{wiki}-{date}-{file}"
_CC100 = "https://data.statmt.org/cc-100/{language}.txt.xz"
_DUMP = "pages-articles-multistream.xml.bz2"
_INDEX = "pages-articles-multistream-index.txt.bz2"
_SUMS = "sha1sums.txt"
_PARQUET = re.compile(r"\.parquet$")
_LINES = re.compile(r"\.(jsonl|ndjson)(\.(xz|gz|bz2|zst))?$")


@dataclass(frozen=True)
class Remote:
    """A text to download: its URLs, in the order to try them, and those of the files beside it."""

    urls: tuple[str, ...]
    index: tuple[str, ...] = ()  # of a multistream dump
    sums: tuple[str, ...] = ()  # a list written by sha1sum


@dataclass(frozen=True)
class Local:
    """A local file and its status at one moment."""

    path: Path
    size: int
    mtime_ns: int


def remote(source: Source) -> Remote | None:
    """The URLs of a source; None for local files."""
    if is_url(source.location):
        return Remote((source.location, *source.mirrors))
    if named_kind(source.location) == "plaintext":
        language = source.location.removeprefix("cc100-")
        return Remote((_CC100.format(language=language), *source.mirrors))
    if named_kind(source.location) == "wikipedia":
        wiki, date = source.location.split("-")
        urls = (_WIKIMEDIA.format(wiki=wiki, date=date, file=_DUMP), *source.mirrors)
        return Remote(urls, _beside(urls, wiki, date, _INDEX), _beside(urls, wiki, date, _SUMS))
    return None


def local(name: str, source: Source) -> list[Local]:
    """The files of a path, a folder (at any depth) or a pattern, sorted; see kit/store/listing.py.

    Raises InputError if there is no file, if one cannot be read, or if two names lead to the same one.
    """
    path = Path(source.location)
    key = f"corpus.sources.{name}.location={source.location}"
    try:
        found = listing.files(source.location)
    except listing.SameFile as error:
        raise InputError(
            f"{key}: {error.first} and {error.second} are the same; remove the link, or name other files"
        ) from None
    except OSError as error:
        raise InputError(
            f"{key}: {error.filename}: {error.strerror}; fix that, or name other files"
        ) from None
    found = _of_kind(source, found)
    names = list(found)
    if not names:
        problem = "no file in this folder" if path.is_dir() else "no such file"
        raise InputError(
            f"{key}: {problem}; give a path, a folder, a pattern such as 'texts/*.txt', a URL, or a name "
            "such as jawiki-20220701 or cc100-ja"
        )
    if len(names) > 1 and (source.sha256 or source.sha1):
        raise InputError(
            f"{key}: a checksum belongs to one file, but these are {len(names)}; name one, or leave the "
            "checksum out"
        )
    if source.kind == "plaintext" and (other := _json_lines(source.location, names)):
        raise InputError(
            f"{key}: {other} looks like JSON lines, not like plain text; give such files a source of kind "
            "jsonl, and this one a pattern such as 'texts/*.txt'"
        )
    for file in names:
        if not _is_utf8(file):  # a manifest could not hold it
            raise InputError(f"{key}: the name of the file {file!a} is not UTF-8; rename it")
    return [_local(Path(file), status) for file, status in found.items()]


def left_out(source: Source) -> list[str]:
    """The files of a folder that are none of its source's: the README of a dataset, for example."""
    found = listing.files(source.location)
    return sorted(found.keys() - _of_kind(source, found))


def _of_kind(source: Source, found: dict[str, os.stat_result]) -> dict[str, os.stat_result]:
    """Of a folder, the files whose names fit the kind; all of them if no name does."""
    if not Path(source.location).is_dir():
        return found
    patterns = {"jsonl": (_LINES, JSON_NAME), "parquet": (_PARQUET,)}.get(source.kind, ())
    for pattern in patterns:
        if fitting := {name: found[name] for name in found if pattern.search(name.lower())}:
            return fitting
    return found


def _json_lines(location: str, names: Sequence[str]) -> str | None:
    """The first of the files whose name is one of JSON; none if it is named itself."""
    if names == [location]:
        return None
    return next((name for name in names if JSON_NAME.search(name.lower())), None)


def _is_utf8(name: str) -> bool:
    """Whether a name was valid UTF-8: Python decodes each other byte as a surrogate."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def stat_file(path: Path) -> Local:
    """Size and modification time of a file."""
    return _local(path, path.stat())


def fingerprint(files: Sequence[Local]) -> dict[str, int | str]:
    """Identify any number of files in a short record."""
    rows = "\n".join(f"{file.path}\0{file.size}\0{file.mtime_ns}" for file in files)
    return {
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "fingerprint": f"{text_hash(rows):016x}",
    }


def _local(path: Path, status: os.stat_result) -> Local:
    return Local(path, status.st_size, status.st_mtime_ns)


def _beside(urls: Sequence[str], wiki: str, date: str, file: str) -> tuple[str, ...]:
    return tuple(f"{url.rsplit('/', 1)[0]}/{wiki}-{date}-{file}" for url in urls)
