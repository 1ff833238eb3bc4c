"""Lists of words that documents may not hold: files of the user, one word a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.errors import InputError
from kit.store.files import text_hash

if TYPE_CHECKING:
    from kit.config.filters import Filters


def read(name: str, file: str) -> list[str]:
    """The words of the list `name`. Raises InputError for a file that is missing, empty or not UTF-8."""
    key = f"corpus.filters.words.{name}.file={file}"
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{key}: {error.strerror}; name a file of words, one a line") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{key}: byte {error.start + 1} is not UTF-8; convert it with iconv"
        ) from None
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
