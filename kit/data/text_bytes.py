"""The bytes of text that tokens stand for, to state a loss per byte.

    per_token = table(tokenizer)            # bytes of the text of each entry
    tokens_per_byte(per_token, stream, blocks=64, length=1024, text=8609, inside=False)

In lossless mode the bytes of all tokens of a part are those of its text. In article mode spaces and line
ends are in no token: blocks then count for their share of the text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from kit.data import shards

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from kit.data.tokens import TokenStream

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPECIAL = ("<unk>", "<s>", "</s>")
_BLOCKS, _TOKENS = 1 << 10, 1 << 20  # read at a time


def table(tokenizer: Tokenizer) -> np.ndarray:
    """The UTF-8 bytes of the text of each entry, by id: none of a special token."""
    sizes = np.zeros(tokenizer.get_vocab_size(), np.int64)
    for entry, number in tokenizer.get_vocab().items():
        sizes[number] = _size(entry)
    return sizes


def tokens_per_byte(
    sizes: np.ndarray, stream: TokenStream, blocks: int, length: int, text: int, *, inside: bool
) -> float | None:
    """Predicted tokens of the first blocks per byte of their text; None if either has no bytes.

    `text` are the bytes of the text of the whole stream, 0 if unknown. With `inside` the token after a
    block is not predicted (`training.labels`).
    """
    covered = 0
    for first in range(0, blocks, _BLOCKS):
        last = min(first + _BLOCKS, blocks)
        predicted = sizes[stream.slice(first * length + 1, last * length + 1)].reshape(-1, length)
        covered += int(predicted[:, : length - inside].sum())
    whole = sum(
        int(sizes[stream.slice(first, first + _TOKENS)].sum())
        for first in range(0, len(stream), _TOKENS)
    )
    return blocks * (length - inside) * whole / (covered * text) if covered and text else None


def _size(entry: str) -> int:
    if entry in _SPECIAL:
        return 0
    if _BYTE.fullmatch(entry):
        return 1
    return len(entry.replace(shards.SPACE, " ").replace(shards.LINE_END, "\n").encode())
