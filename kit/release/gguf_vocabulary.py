"""The vocabulary of a GGUF file: a tokenizer of the kit in the terms of llama.cpp, with equal ids.

llama.cpp has a tokenizer of its own for each `tokenizer.ggml.model`. Those that give the kit's ids, by its
sources (src/llama-vocab.cpp of October 2026):

llama   for BPE, lossless. Adjacent symbols whose text is an entry are merged, the highest score first. With
        the rank of an entry's merge as its negative score these are the merges of BPE: where two symbols
        make the text of an entry, they are the pair of its own merge. For as long as no merge has crossed
        its ends, the text within them has been merged as the entry alone would be, and that ends with its
        own pair.
plamo2  for Unigram, lossless. The likeliest path, with scores in integers of 1e-4, and bytes for other
        characters.
gpt2    for BPE in article mode, with the pre-tokenizer `sarvam-moe`, which cuts at line feeds only. It has
        the merges themselves; a character that is no entry, such as a space, vanishes. Also for lossless
        BPE if `llama` would merge text into a special token or a byte: `<` and an entry `/s>`.

No entry crosses a piece of kit/tokenizer/huggingface.py, so that text need not be cut into pieces. Words
can be kept apart only by encoding them one by one: no model of llama.cpp drops a character such as BOUNDARY
from lossless text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kit.data.shards import LINE_END, SPACE
from kit.errors import StageError
from kit.tokenizer.huggingface import BYTES, END, SPECIAL, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenizers import Tokenizer

NORMAL, UNKNOWN_TYPE, CONTROL, UNUSED, BYTE = 1, 2, 3, 5, 6  # llama_token_type in include/llama.h
_WORST = 9e6  # plamo2: less than its 1e7, the cost of a character that is no entry
_NEVER = -1e4  # plamo2: in its integers -1e8, below the -2e7 of what is no entry


@dataclass(frozen=True)
class Vocabulary:
    """The keys `tokenizer.ggml.*`; tokens, scores and types have a value for each id."""

    model: str
    tokens: list[str]
    scores: list[float]
    types: list[int]
    merges: list[str]
    pre: str = "default"

    @property
    def unknown(self) -> int:
        """The id of `<unk>`."""
        return self.tokens.index(UNKNOWN)

    @property
    def end(self) -> int:
        """The id of the token that closes a document."""
        return self.tokens.index(END)


def of(tokenizer: Tokenizer, rows: int) -> Vocabulary:
    """The vocabulary of a tokenizer, filled up to the rows of the embedding.

    Raises StageError for Unigram in article mode, for which llama.cpp has no equal.
    """
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    entries = _entries(tokenizer, rows)
    types = [_type(entry, special, model) for entry in entries]
    if model["type"] == "Unigram":
        if not model["byte_fallback"]:
            raise StageError(
                "release.gguf: llama.cpp has no equal of unigram with spaces: article; leave it out"
            )
        return _plamo2(entries, types, dict(model["vocab"]))
    merges = [(left, right) for left, right in model["merges"]]
    ranks = {left + right: rank for rank, (left, right) in enumerate(merges)}
    spelled = any(entry[1:] in ranks for entry in (*special, *BYTES))
    if spelled or not model["byte_fallback"]:
        written = [f"{left} {right}" for left, right in merges]
        made = Vocabulary("gpt2", entries, [0.0] * rows, types, written, pre="sarvam-moe")
    else:
        # Characters are never the result of a merge: their score is of no account.
        scores = [-float(ranks.get(entry, 0)) for entry in entries]
        made = Vocabulary("llama", entries, scores, types, [])
    # llama.cpp replaces spaces by SPACE, and no line ends.
    return replace(made, tokens=[entry.replace(LINE_END, "\n") for entry in entries])


def _entries(tokenizer: Tokenizer, rows: int) -> list[str]:
    """The entries by id; ids that are none get a name."""
    names = {number: entry for entry, number in tokenizer.get_vocab().items()}
    return [names.get(number, f"[unused{number}]") for number in range(rows)]


def _type(entry: str, special: set[str], model: Mapping[str, Any]) -> int:
    if entry == UNKNOWN:
        return UNKNOWN_TYPE
    if entry in special or entry in SPECIAL:
        return CONTROL
    if model["byte_fallback"] and entry in BYTES:
        return BYTE
    return UNUSED if entry.startswith("[unused") else NORMAL


def _plamo2(entries: list[str], types: list[int], scores: Mapping[str, float]) -> Vocabulary:
    """Scores as large as its integers allow, which keeps seven digits of them."""
    normal = [entry for entry, kind in zip(entries, types, strict=True) if kind == NORMAL]
    factor = _WORST / 1e4 / -min(scores[entry] for entry in normal)
    scaled = [
        scores[entry] * factor if kind == NORMAL else _NEVER
        for entry, kind in zip(entries, types, strict=True)
    ]
    # It takes text as it is: its entries have the space and the line end themselves.
    plain = [entry.replace(SPACE, " ").replace(LINE_END, "\n") for entry in entries]
    return Vocabulary("plamo2", plain, scaled, types, [])
