"""Byte-pair encoding from counted words, with the vocabulary and merges of HF tokenizers' BpeTrainer.

Where `limit_alphabet` cuts through characters of one frequency, those of the smaller code points stay:
BpeTrainer decides that by hash order. A character outside the alphabet is left out of a word, as there.

A small text is given to BpeTrainer itself, once for each time a word occurs: the compiled loop of
kit/tokenizer/merge_loop.py, which takes counts, pays for its compilation (20 s on a slow core) only beyond.
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
    """A tokenizer of exactly `vocabulary.vocab_size` entries.

    Raises InputError for no words at all, and for more or fewer entries than they can give.
    """
    corpus = Words.of(words)
    alphabet = corpus.alphabet(vocabulary.limit_alphabet)
    first = huggingface.first_entries(vocabulary.spaces)
    entries = [*first, *map(chr, alphabet.tolist())]
    wanted, least = vocabulary.vocab_size, len(entries)
    if least > wanted:
        raise too_few(wanted, least)
    symbols, lengths = _symbols(corpus, alphabet, len(first))
    room = min(wanted, least + len(symbols))  # a merge takes one symbol away, or more
    by_id = Words(symbols, lengths, corpus.counts)
    if int(lengths.astype(np.int64) @ corpus.counts) <= _SMALL_TEXT:
        merges = _merges_by_tokenizers(entries, len(first), by_id, room, min_frequency)
    else:
        merges = _merges_by_pairs(entries, by_id, room, min_frequency)
    if len(entries) < wanted:
        raise InputError(
            f"tokenizer.vocab_size={wanted}: the corpus gives only {len(entries)} entries; "
            f"ask for {least} to {len(entries)}"
        )
    return huggingface.from_merges(entries, merges, vocabulary.spaces)


def _symbols(words: Words, alphabet: Array, first: int) -> tuple[Array, Array]:
    """The words as ids, counted from `first`, and their lengths without what is no entry."""
    found = words.ranked(alphabet)
    kept = found >= 0
    ends = np.cumsum(kept, dtype=np.int64)[np.cumsum(words.lengths, dtype=np.int64) - 1]
    return found[kept] + np.int32(first), np.diff(ends, prepend=0).astype(np.int32)


def _merges_by_tokenizers(
    entries: list[str], special: int, words: Words, room: int, min_frequency: int
) -> list[tuple[str, str]]:
    """The merges up to `room` entries, whose tokens are added to `entries`.

    The first `special` entries are no text. Words are of ids.
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
        vocab_size=room,
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
    entries: list[str], words: Words, room: int, min_frequency: int
) -> list[tuple[str, str]]:
    """The same from counts; `words` are overwritten."""
    from kit.tokenizer import merge_loop, numba_cache

    found = merge_loop.merge(
        words.codes,
        words.lengths,
        words.counts,
        *merge_loop.hash_tokens(*code_points(entries), room),
        len(entries),
        min_frequency,
    )
    numba_cache.publish(Path(merge_loop.__file__))
    return _merges(entries, found.tolist())


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
