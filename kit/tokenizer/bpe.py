"""Byte-pair encoding from counted words, with the vocabulary and merges of HF tokenizers' BpeTrainer.

If `limit_alphabet` divides characters of equal frequency, the smaller code points stay; BpeTrainer
decides that by hash order. As there, a character outside the alphabet is dropped from its word.

BpeTrainer itself handles a small text, each word repeated by its count. For a larger one the compiled
loop of kit/tokenizer/merge_loop.py, which takes counts, is worth its compilation (20 s on a slow core).
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.errors import InputError
from kit.tokenizer import huggingface
from kit.tokenizer.words import Words, code_points, too_few

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenizers import Tokenizer

    from kit.config.tokenizer import TokenizerSpec
    from kit.tokenizer.counts import CountBatch

    Array = np.ndarray[Any, Any]

_SMALL_TEXT = 1_000_000  # characters: BpeTrainer takes about a second


def train(words: Iterable[CountBatch], vocabulary: TokenizerSpec, min_frequency: int) -> Tokenizer:
    """Train a tokenizer of exactly `vocabulary.vocab_size` entries.

    Raises InputError if there are no words, or if they cannot yield that number of entries.
    """
    corpus = Words.from_counts(words)
    alphabet = corpus.alphabet(vocabulary.limit_alphabet)
    first = huggingface.first_entries(vocabulary.spaces)
    entries = [*first, *map(chr, alphabet.tolist())]
    vocab_size, minimum = vocabulary.vocab_size, len(entries)
    if minimum > vocab_size:
        raise too_few(vocab_size, minimum)
    symbols, lengths = _symbols(corpus, alphabet, len(first))
    limit = min(vocab_size, minimum + len(symbols))  # each merge removes at least one symbol
    by_id = Words(symbols, lengths, corpus.counts)
    if int(lengths.astype(np.int64) @ corpus.counts) <= _SMALL_TEXT:
        merges = _merges_by_tokenizers(entries, len(first), by_id, limit, min_frequency)
    else:
        merges = _merges_by_pairs(entries, by_id, limit, min_frequency)
    if len(entries) < vocab_size:
        raise InputError(
            f"tokenizer.vocab_size={vocab_size}: the corpus yields only {len(entries)} entries; "
            f"choose {minimum} to {len(entries)}"
        )
    return huggingface.from_merges(entries, merges, vocabulary.spaces)


def _symbols(words: Words, alphabet: Array, first: int) -> tuple[Array, Array]:
    """The words as ids from `first` on, without characters that are not entries, and their lengths."""
    ranks = words.ranks_in(alphabet)
    kept = ranks >= 0
    ends = np.cumsum(kept, dtype=np.int64)[np.cumsum(words.lengths, dtype=np.int64) - 1]
    return ranks[kept] + np.int32(first), np.diff(ends, prepend=0).astype(np.int32)


def _merges_by_tokenizers(
    entries: list[str], special: int, words: Words, limit: int, min_frequency: int
) -> list[tuple[str, str]]:
    """The merges by BpeTrainer up to `limit` entries; their tokens are added to `entries`.

    The first `special` entries are special tokens. `words` consist of ids.
    """
    from tokenizers import Tokenizer, models, trainers

    text = "".join(entries[symbol] for symbol in words.codes.tolist())
    starts = (np.cumsum(words.lengths, dtype=np.int64) - words.lengths).tolist()
    repeated = (
        itertools.repeat(text[start : start + length], count)
        for start, length, count in zip(
            starts, words.lengths.tolist(), words.counts.tolist(), strict=True
        )
        if length
    )
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=limit,
        min_frequency=min_frequency,
        special_tokens=entries[:special],
        initial_alphabet=entries[special:],
        show_progress=False,
    )
    tokenizer.train_from_iterator(itertools.chain.from_iterable(repeated), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    entries[:] = sorted(model["vocab"], key=model["vocab"].get)
    return [(left, right) for left, right in model["merges"]]


def _merges_by_pairs(
    entries: list[str], words: Words, limit: int, min_frequency: int
) -> list[tuple[str, str]]:
    """The same merges by the compiled loop, from counts; overwrites `words`."""
    from kit.store import numba_cache
    from kit.tokenizer import merge_loop

    rows = merge_loop.merge(
        words.codes,
        words.lengths,
        words.counts,
        *merge_loop.hash_tokens(*code_points(entries), limit),
        len(entries),
        min_frequency,
    )
    numba_cache.publish(Path(merge_loop.__file__))
    return _merges(entries, rows.tolist())


def _merges(entries: list[str], rows: Sequence[Sequence[int]]) -> list[tuple[str, str]]:
    """The pairs in the order of their ranks; their tokens are added to `entries`.

    A pair that was merged twice gets the later rank, as in tokenizers.
    """
    merges: dict[tuple[str, str], None] = {}
    for left, right, token in rows:
        pair = entries[left], entries[right]
        if token == len(entries):
            entries.append("".join(pair))
        assert entries[token] == "".join(pair), "two tokens of one hash"
        merges.pop(pair, None)
        merges[pair] = None
    assert len(set(entries)) == len(entries), "one token of two hashes"
    return list(merges)
