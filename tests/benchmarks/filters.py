"""Measures of tests.benchmarks.corpus of the filters of a preset."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.filters import PRESETS, Filters
from kit.corpus.filters.chain import Chain
from kit.store.files import write_text
from tests.benchmarks import harness
from tests.benchmarks.chain import measured
from tests.benchmarks.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        for preset in filter(None, PRESETS):
            yield _line(preset, documents, peer)


def _line(preset: str, documents: list[list[str]], peer: list[str]) -> Line:
    chain = Chain(Filters.model_validate({"preset": preset}))
    ours, theirs = harness.interleave(
        lambda: _seconds(chain, documents), lambda: measured(peer)[0], 3
    )
    kept = sum(chain.refused_by(document) is None for document in documents)
    return harness.compare(
        f"processor time of the filters of {preset}, which keep {kept:,} of {len(documents):,} documents",
        "s", ours, theirs, "MeCab alone on the same lines", "ratio <= 0.3",
    )  # fmt: skip


def _seconds(chain: Chain, documents: list[list[str]]) -> float:
    began = time.process_time()
    for document in documents:
        chain.refused_by(document)
    return time.process_time() - began
