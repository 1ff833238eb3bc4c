"""The file of a tokenizer, as the stages pass it on, and how each of them loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

FILE = "tokenizer.json"


def load(folder: Path) -> Tokenizer:
    """Load the tokenizer of a folder; it treats text that looks like a special token as text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / FILE))
    tokenizer.encode_special_tokens = True  # the file does not store it
    return tokenizer
