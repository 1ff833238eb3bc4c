"""Lists of words that documents may not hold: files of the user, one word a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.data import own_files
from kit.errors import InputError
from kit.store.files import text_hash

if TYPE_CHECKING:
    from kit.config.filters import Filters


def read(name: str, file: str) -> list[str]:
    """The words of the list `name`. Raises InputError for a file that is missing, empty or not UTF-8."""
    key = f"corpus.filters.words.{name}.file={file}"
    text = own_files.read(key, "words, one a line")
    words = [word for line in text.splitlines() if (word := line.strip())]
    if not words:
        raise InputError(f"{key}: no word in it; write one a line, or leave the list out")
    return words


def fingerprints(filters: Filters) -> dict[str, str]:
    """A hash of the words of each list, by its name: they decide which documents are kept."""
    return {
        name: f"{text_hash(chr(10).join(read(name, rule.file))):016x}"
        for name, rule in sorted(filters.words.items())
    }
