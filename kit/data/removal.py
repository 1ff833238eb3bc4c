"""The documents that a user takes out of the corpus: a file of their URLs, ids or hashes, one a line.

A line is a URL, `SOURCE:ID` with a source of the recipe, or the hash of a document's lines in 16
hexadecimal digits, as `jobs.preprocess show` prints it. Blank lines and those that begin with # are
ignored.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from kit.data import own_files
from kit.errors import InputError
from kit.store.files import file_hash

if TYPE_CHECKING:
    from kit.config.recipe import Corpus

_HASH = re.compile(r"[0-9a-f]{16}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_LONGEST = 100  # characters of a line in a message


class Removal:
    """The lines of such a file."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = list(dict.fromkeys(lines))
        self._by_name: dict[str, list[str]] = {}
        for line in self.lines:
            self._by_name.setdefault(_canonical(line), []).append(line)

    def matching(self, source: str, url: str | None, own_id: str | None, key: int) -> list[str]:
        """The lines that mean a document, given the hash of its lines as `key`."""
        names = [f"{key:016x}"]
        names += [] if url is None else [_canonical(url)]
        names += [] if own_id is None else [f"{source}:{own_id}"]
        return [line for name in names for line in self._by_name.get(name, ())]


def read(corpus: Corpus) -> Removal:
    """The removal of a recipe; an empty one if it names no file.

    Raises InputError for a file that is missing, empty or not UTF-8, and for a line of another form.
    """
    if corpus.remove is None:
        return Removal([])
    key = f"corpus.remove={corpus.remove}"
    text = own_files.read(key, "URLs or ids")
    lines = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if line and not line.startswith("#"):
            _refuse_other(f"{key}, line {number}", line, corpus)
            lines.append(line)
    if not lines:
        raise InputError(f"{key}: no line in it; write a URL or id a line, or leave the key out")
    return Removal(lines)


def fingerprint(corpus: Corpus) -> str:
    """A hash of the file, which decides which documents are kept. Raises InputError as `read`."""
    assert corpus.remove is not None
    try:
        return file_hash(Path(corpus.remove))
    except OSError as error:
        raise InputError(
            f"corpus.remove={corpus.remove}: {error.strerror}; name a file of URLs or ids"
        ) from None


def _canonical(name: str) -> str:
    """A URL without percent-encoding, which is often left out of a copy; another name as it is."""
    return unquote(name) if _URL.fullmatch(name) else name


def _refuse_other(place: str, line: str, corpus: Corpus) -> None:
    if _HASH.fullmatch(line) or _URL.fullmatch(line):
        return
    if line.partition(":")[0] in corpus.sources and not line.endswith(":"):
        return
    raise InputError(
        f"{place}: {line[:_LONGEST]!r} is neither a URL, nor SOURCE:ID with a source of the recipe "
        f"({', '.join(corpus.sources)}), nor a hash of 16 digits; correct it"
    )
