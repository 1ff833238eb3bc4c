"""Small text files that a recipe names: lists of the user's own."""

from __future__ import annotations

from pathlib import Path

from kit.errors import InputError


def read(key: str, content: str) -> str:
    """The text of the file in `key`, a key with its value (`corpus.remove=FILE`), which holds `content`.

    Raises InputError for a file that cannot be read or is not UTF-8.
    """
    try:
        return Path(key.partition("=")[2]).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{key}: {error.strerror}; name a file of {content}") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{key}: byte {error.start + 1} is not UTF-8; convert it with iconv"
        ) from None
