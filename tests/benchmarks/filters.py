"""Measures of tests.benchmarks.corpus of the filters of a preset."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.filters import PRESETS, Filters
from kit.corpus import segment
from kit.corpus.filters.by_words import WordChain
from kit.corpus.filters.chain import Chain
from kit.data.shards import LINE_END
from kit.store.files import write_text
from tests.benchmarks import harness
from tests.benchmarks.chain import measured
from tests.benchmarks.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.benchmarks.harness import Line, Options

    Document = tuple[list[str], str]  # its lines, and their words as a shard has them

_CHARACTERS = 8_000_000  # of text
_LINES = (5, 25, 400)  # of a document: short ones, middling ones, long ones
_REPETITIONS = 3


def filters(options: Options) -> Iterator[Line]:
    """Processor time of the filters of a preset, against MeCab alone on the same lines.

    The lines are cut into documents of several lengths, each a measure of its own.
    """
    with text(options).open(encoding="utf-8") as file:
        lines = [line for line in file.read(_CHARACTERS).split("\n") if line.strip()]
    measures = {(preset, size): _Measure(preset) for preset in PRESETS if preset for size in _LINES}
    theirs = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "lines.txt")
        write_text(path, "\n".join(lines))
        peer = [sys.executable, "-m", "tests.benchmarks.peers.wakati", str(path), os.devnull]
        rows = _segmented(lines)
        for _ in range(_REPETITIONS):
            theirs.append(measured(peer)[0])
            for (_, size), measure in measures.items():
                measure.run(rows, size)
    for (preset, size), measure in measures.items():
        yield harness.compare(
            f"processor time of the filters of {preset}, which keep {measure.kept:,} of "
            f"{-(-len(rows) // size):,} documents of {size} lines",
            "s", measure.seconds, theirs, "MeCab alone on the same lines", "ratio <= 0.3",
        )  # fmt: skip


class _Measure:
    """The filters of a preset, with the processor seconds of each repetition."""

    def __init__(self, preset: str) -> None:
        filters = Filters.model_validate({"preset": preset})
        self._chain, self._word_chain = Chain(filters), WordChain(filters)
        self.kept = 0
        self.seconds: list[float] = []

    def run(self, rows: Sequence[tuple[str, str]], size: int) -> None:
        """Filter lines, each with its words, as documents of `size` lines."""
        documents = list(_documents(rows, size))
        began = time.process_time()
        self.kept = sum(itertools.starmap(self._is_kept, documents))
        self.seconds.append(time.process_time() - began)

    def _is_kept(self, lines: list[str], words: str) -> bool:
        return (
            self._chain.refused_by(lines) is None
            and self._word_chain.refused_by(lines, words) is None
        )


def _segmented(lines: list[str]) -> list[tuple[str, str]]:
    with segment.open(*segment.resolve("mecab"), 1) as words:
        return list(zip(lines, itertools.chain(*words.stream([lines])), strict=True))


def _documents(rows: Sequence[tuple[str, str]], size: int) -> Iterator[Document]:
    for first in range(0, len(rows), size):
        lines, words = zip(*rows[first : first + size], strict=True)
        yield list(lines), "".join(f"{line} {LINE_END}\n" for line in words)
