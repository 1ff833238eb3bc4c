"""Word-count files: the frequency of each word in some text, sorted by code point.

A word is one of the pieces into which HF's pre-tokenizer cuts a word of a shard. `words.txt.zst` has one
word per line, `counts.u64` their counts, a little-endian uint64 each. Files are written, read and merged in
chunks.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kit.errors import InputError
from kit.store.files import atomic, zstd_reader, zstd_writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

WORDS, COUNTS = "words.txt.zst", "counts.u64"
_CHUNK = 20_000  # words: one chunk of each of 400 files takes 1 GB of memory


class CountBatch(NamedTuple):
    """Distinct words in ascending order, and their frequencies in the text."""

    words: list[str]
    counts: list[int]


def chunks(frequencies: Mapping[str, int]) -> Iterator[CountBatch]:
    """Sort counts of words into chunks."""
    words = sorted(frequencies)
    for first in range(0, len(words), _CHUNK):
        part = words[first : first + _CHUNK]
        yield CountBatch(part, [frequencies[word] for word in part])


def write(folder: Path, batches: Iterable[CountBatch]) -> int:
    """Write chunks, which must be in ascending order; returns the number of words."""
    total = 0
    with zstd_writer(folder / WORDS) as words, atomic(folder / COUNTS) as counts:
        for chunk in batches:
            words.writelines(f"{word}\n" for word in chunk.words)
            counts.write(np.array(chunk.counts, "<u8").tobytes())
            total += len(chunk.words)
    return total


def read(folder: Path) -> Iterator[CountBatch]:
    """Read the chunks of a folder. Raises InputError if its two files differ in length."""
    with zstd_reader(folder / WORDS) as lines, (folder / COUNTS).open("rb") as counts:
        while True:
            words = [line[:-1] for line in itertools.islice(lines, _CHUNK)]
            frequencies = np.frombuffer(counts.read(8 * _CHUNK), "<u8")
            if len(words) != len(frequencies):
                raise InputError(
                    f"{folder}: {WORDS} and {COUNTS} differ in length; run ekiden tokenizer run RECIPE "
                    "--verify to make them again"
                )
            if not words:
                return
            yield CountBatch(words, frequencies.tolist())


def merge(sources: Sequence[Iterable[CountBatch]]) -> Iterator[CountBatch]:
    """Merge several counts into their sum; keeps one chunk of each source in memory at a time."""
    rest = [iter(source) for source in sources]
    heads = [next(source, None) for source in rest]
    while alive := [chunk for chunk in heads if chunk is not None]:
        last = min(chunk.words[-1] for chunk in alive)  # no source can add words up to this one
        total: dict[str, int] = {}
        for number, chunk in enumerate(heads):
            if chunk is None:
                continue
            end = bisect.bisect_right(chunk.words, last)
            for word, count in zip(chunk.words[:end], chunk.counts[:end], strict=True):
                total[word] = total.get(word, 0) + count
            tail = CountBatch(chunk.words[end:], chunk.counts[end:])
            heads[number] = tail if tail.words else next(rest[number], None)
        yield from chunks(total)
