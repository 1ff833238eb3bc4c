"""Word-count files: how often each word stands in some text, sorted by code point.

A word is what HF's pre-tokenizer leaves of a word of a shard, in one piece or several. Beside
`words.txt.zst`, a word a line, stand the counts, a little-endian uint64 each. Files are written, read and
merged in chunks.
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
_CHUNK = 20_000  # words: a chunk of each of 400 files is 1 GB in memory


class CountBatch(NamedTuple):
    """Words in ascending order, none of them twice, and how often each stands in the text."""

    words: list[str]
    counts: list[int]


def chunks(found: Mapping[str, int]) -> Iterator[CountBatch]:
    """Counts of words in no order, as chunks."""
    words = sorted(found)
    for first in range(0, len(words), _CHUNK):
        part = words[first : first + _CHUNK]
        yield CountBatch(part, [found[word] for word in part])


def write(folder: Path, found: Iterable[CountBatch]) -> int:
    """Write chunks that follow one another in order; returns how many words there are."""
    total = 0
    with zstd_writer(folder / WORDS) as words, atomic(folder / COUNTS) as counts:
        for chunk in found:
            words.writelines(f"{word}\n" for word in chunk.words)
            counts.write(np.array(chunk.counts, "<u8").tobytes())
            total += len(chunk.words)
    return total


def read(folder: Path) -> Iterator[CountBatch]:
    """The chunks of a folder. Raises InputError where the two files do not belong together."""
    with zstd_reader(folder / WORDS) as lines, (folder / COUNTS).open("rb") as counts:
        while True:
            words = [line[:-1] for line in itertools.islice(lines, _CHUNK)]
            found = np.frombuffer(counts.read(8 * _CHUNK), "<u8")
            if len(words) != len(found):
                raise InputError(
                    f"{folder}: {WORDS} and {COUNTS} differ in length; run jobs.tokenizer run RECIPE "
                    "--verify, which makes them again"
                )
            if not words:
                return
            yield CountBatch(words, found.tolist())


def merge(sources: Sequence[Iterable[CountBatch]]) -> Iterator[CountBatch]:
    """The sum of several counts, as one; holds a chunk of each source in memory at a time."""
    rest = [iter(source) for source in sources]
    held = [next(source, None) for source in rest]
    while alive := [chunk for chunk in held if chunk is not None]:
        last = min(chunk.words[-1] for chunk in alive)  # up to here no source can add anything
        total: dict[str, int] = {}
        for number, chunk in enumerate(held):
            if chunk is None:
                continue
            end = bisect.bisect_right(chunk.words, last)
            for word, count in zip(chunk.words[:end], chunk.counts[:end], strict=True):
                total[word] = total.get(word, 0) + count
            left = CountBatch(chunk.words[end:], chunk.counts[end:])
            held[number] = left if left.words else next(rest[number], None)
        yield from chunks(total)
