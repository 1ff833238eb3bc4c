"""Byte-pair encoding from counted words, with the vocabulary and merges of HF tokenizers' BpeTrainer.

Where `limit_alphabet` cuts through characters of one frequency, those of the smaller code points stay:
BpeTrainer decides that by hash order. A character outside the alphabet is left out of a word, as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kit.errors import InputError
from kit.tokenizer import assemble
from kit.tokenizer.words import Words, code_points, too_few

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenizers import Tokenizer

    from kit.tokenizer.counts import Chunk
    from kit.vocabularies import Vocabulary

    Array = np.ndarray[Any, Any]


def train(words: Iterable[Chunk], vocabulary: Vocabulary, min_frequency: int) -> Tokenizer:
    """A tokenizer of exactly `vocabulary.vocab_size` entries.

    Raises InputError for no words at all, and for more or fewer entries than they can give.
    """
    from kit.tokenizer import pairs

    corpus = Words.of(words)
    alphabet = corpus.alphabet(vocabulary.limit_alphabet)
    first = assemble.first_entries(vocabulary.spaces)
    entries = [*first, *map(chr, alphabet.tolist())]
    wanted, least = vocabulary.vocab_size, len(entries)
    if least > wanted:
        raise too_few(wanted, least)
    symbols, lengths = _symbols(corpus, alphabet, len(first))
    room = min(wanted, least + len(symbols))  # a merge takes one symbol away, or more
    found = pairs.merge(
        symbols,
        lengths,
        corpus.counts,
        *pairs.hash_tokens(*code_points(entries), room),
        least,
        min_frequency,
    )
    merges = _merges(entries, found.tolist())
    if len(entries) < wanted:
        raise InputError(
            f"tokenizer.vocab_size={wanted}: the corpus gives only {len(entries)} entries; "
            f"ask for {least} to {len(entries)}"
        )
    return assemble.from_merges(entries, merges, vocabulary.spaces)


def _symbols(words: Words, alphabet: Array, first: int) -> tuple[Array, Array]:
    """The words as ids, counted from `first`, and their lengths without what is no entry."""
    found = words.ranked(alphabet)
    kept = found >= 0
    ends = np.cumsum(kept, dtype=np.int64)[np.cumsum(words.lengths, dtype=np.int64) - 1]
    return found[kept] + np.int32(first), np.diff(ends, prepend=0).astype(np.int32)


def _merges(entries: list[str], found: Sequence[Sequence[int]]) -> list[tuple[str, str]]:
    """The pairs in the order of their ranks; their tokens are added to `entries`.

    A pair that was merged twice has the later rank, as in tokenizers.
    """
    merges: dict[tuple[str, str], None] = {}
    for left, right, token in found:
        pair = entries[left], entries[right]
        if token == len(entries):
            entries.append("".join(pair))
        assert entries[token] == "".join(pair), "two tokens of one hash"
        merges.pop(pair, None)
        merges[pair] = None
    assert len(set(entries)) == len(entries), "one token of two hashes"
    return list(merges)
