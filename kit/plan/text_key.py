"""The key that holds the text in JSON lines, by the first record of a file."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from typing import IO, TYPE_CHECKING, Any, cast

import zstandard

from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEFAULT = "text"  # that of a recipe
_LINE_BYTES = 1 << 24  # of a record, as in kit/corpus/jsonl.py
_OPENERS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": zstandard.open,
}  # fmt: skip
_DAMAGED = (OSError, EOFError, ValueError, lzma.LZMAError, zstandard.ZstdError)


def text_key(file: Path) -> tuple[str, list[str]]:
    """The key of the text, and the other keys that hold text: without `text`, the longest is taken.

    It is `text` for a file whose first record cannot be read, which the download reports. Raises
    ConfigError if no key holds text.
    """
    record = _first(file)
    if record is None or isinstance(record.get(DEFAULT), str):
        return DEFAULT, []
    texts = {key: value for key, value in record.items() if isinstance(value, str)}
    if not texts:
        keys = ", ".join(map(repr, list(record)[:5])) or "none"
        raise ConfigError(
            f"--text {file}: no key of the first record holds a text (keys: {keys:.200}); write objects "
            f'such as {{"{DEFAULT}": "..."}}, one a line'
        )
    best, *others = sorted(texts, key=lambda key: -len(texts[key]))
    return best, others


def _first(file: Path) -> dict[str, Any] | None:
    """The first record of a file; None if it is no object, or cannot be read."""
    opener = cast("Callable[..., IO[bytes]]", _OPENERS.get(file.suffix.lower(), open))
    try:
        with opener(file, "rb") as stream:
            lines = iter(lambda: stream.readline(_LINE_BYTES), b"")
            line = next((line for line in lines if line.strip()), b"null")
        record = json.loads(line)
    except _DAMAGED:
        return None
    return record if isinstance(record, dict) else None
