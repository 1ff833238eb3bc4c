"""The held-out documents: one half chooses learning rates, the other compares variants.

They are dealt in turn, so that two tokenizers have the same documents in each half.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kit.data import shards, tokenizer_file, tokens
from kit.data.tokens import TokenStream
from kit.errors import InputError
from kit.store.paths import Workspace
from tests.experiments import plan

if TYPE_CHECKING:
    from collections.abc import Container

    from kit.config.recipe import Recipe
    from kit.data.index import TokenFiles

_BITS = 8  # of each byte of an unknown character, as in kit/tokenizer/measure.py


@dataclass(frozen=True)
class Half:
    """Half of the held-out documents, in corpus order."""

    stream: TokenStream
    text: str  # as a reader sees it

    @property
    def bytes(self) -> int:
        """Of the text, in UTF-8."""
        return len(self.text.encode())


@dataclass(frozen=True)
class Lost:
    """Bits for what a tokenizer drops from a text: a lossless one nothing."""

    unknown: float = 0.0  # characters that became `<unk>`
    white_space: float = 0.0


def half(made: Recipe, files: TokenFiles, seed: int) -> Half:
    """The documents that score a run with this seed. Raises InputError if there are fewer than two."""
    first = 0 if seed == plan.SWEEP else 1
    texts = [
        shards.plain_text(document)
        for shard in shards.complete(made)
        for document in shards.read(shards.part_file(shard.folder, shards.HELD_OUT))
    ]
    documents = _documents(files.open(shards.HELD_OUT, made))
    assert len(documents) == len(texts)
    if len(texts) < 2:
        raise InputError(
            f"--data: {len(texts)} held-out documents, of which each half needs one; give more text"
        )
    chosen = documents[first::2]
    starts = (0, *itertools.accumulate(map(len, chosen)))
    return Half(TokenStream(tuple(chosen), starts), "".join(texts[first::2]))


def lost(made: Recipe, scored: Half) -> Lost:
    """The price of what the recipe's tokenizer drops."""
    if made.tokenizer.spaces == "lossless":
        return Lost()
    known = tokenizer_file.load(Workspace(Path(made.workspace)).tokenizer).get_vocab()
    return lost_of(scored.text, known, len(scored.stream))


def lost_of(text: str, known: Container[str], tokens: int) -> Lost:
    """The price of unknown characters and white space in a text.

    8 bits for each byte of an unknown character. White space as by a code that says behind each of the
    `tokens` whether a space, a line end or a token follows, by their frequencies alone: a decoder could
    restore the text by it.
    """
    unknown = sum(
        times * len(character.encode())
        for character, times in Counter(text).items()
        if character not in known and not character.isspace()
    )
    return Lost(_BITS * unknown, code_bits([tokens, text.count(" "), text.count("\n")]))


def code_bits(counts: list[int]) -> float:
    """The bits of a sequence of symbols that occur so often, in a code for these frequencies."""
    total = sum(counts)
    return sum(count * math.log2(total / count) for count in counts if count)


def _documents(stream: TokenStream) -> list[np.ndarray]:
    """The tokens of each document of a stream, `</s>` included."""
    return [
        document
        for file, path in zip(stream.files, stream.paths, strict=True)
        for document in np.split(file, np.fromfile(tokens.offsets_file(path), "<u8")[1:])
    ]
