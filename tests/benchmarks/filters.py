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
from kit.store.files import write_text
from tests.benchmarks import harness
from tests.benchmarks.chain import measured
from tests.benchmarks.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.harness import Line, Options

_LINES = 25  # of a document


def filters(options: Options) -> Iterator[Line]:
    """Processor time of the filters of a preset, against MeCab alone on the same lines."""
    lines = [line for line in text(options).read_text(encoding="utf-8").split("\n") if line.strip()]
    documents = [lines[first : first + _LINES] for first in range(0, len(lines), _LINES)]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "lines.txt")
        write_text(path, "\n".join(lines))
        peer = [sys.executable, "-m", "tests.benchmarks.peers.wakati", str(path), os.devnull]
        with segment.open(*segment.resolve("mecab"), 1) as words:
            rows = [(lines, "\n".join(*words.stream([lines])) + "\n") for lines in documents]
        for preset in filter(None, PRESETS):
            yield _line(preset, rows, peer)


def _line(preset: str, documents: list[tuple[list[str], str]], peer: list[str]) -> Line:
    filters = Filters.model_validate({"preset": preset})
    chain, word_chain = Chain(filters), WordChain(filters)

    def is_kept(lines: list[str], words: str) -> bool:
        return chain.refused_by(lines) is None and word_chain.refused_by(lines, words) is None

    kept = sum(itertools.starmap(is_kept, documents))  # and what is made once is made
    ours, theirs = harness.interleave(
        lambda: _seconds(is_kept, documents), lambda: measured(peer)[0], 3
    )
    return harness.compare(
        f"processor time of the filters of {preset}, which keep {kept:,} of {len(documents):,} documents",
        "s", ours, theirs, "MeCab alone on the same lines", "ratio <= 0.3",
    )  # fmt: skip


def _seconds(
    is_kept: Callable[[list[str], str], bool], documents: list[tuple[list[str], str]]
) -> float:
    began = time.process_time()
    for lines, words in documents:
        is_kept(lines, words)
    return time.process_time() - began
