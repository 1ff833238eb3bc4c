"""The corpus jobs against what one would run instead, on real Japanese.

    python -m tests.benchmarks.corpus [--json] [--only WORD] [--data FILE ...]

script: text normalised and split into sentences, MB of it a second of processor time, against the
article's script; chain: processor time from raw text to a shard, against MeCab alone; words: that of the
compiled search for words, against MeCab's; pool: how busy Juman++ processes are kept; filters: processor
time of a preset, against MeCab alone; near: near-duplicates, against datatrove if that is installed;
memory: the peak of a task, by length of its input; units: the same, by number of its units; planning:
what is done of 10,000 shards. The text is Debian's Japanese manuals, or the files named with --data:
plain text, or Wikipedia dumps.
"""

from __future__ import annotations

import dataclasses
import filecmp
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.recipe import Normalise
from kit.corpus import sentences
from kit.corpus.normalise.normaliser import Normaliser
from tests.benchmarks import harness
from tests.benchmarks.chain import chain, memory, planning, units
from tests.benchmarks.filters import filters
from tests.benchmarks.near_duplicates import near
from tests.benchmarks.peers import script as peer
from tests.benchmarks.pool import pool
from tests.benchmarks.text import text
from tests.benchmarks.words import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.harness import Line, Options

_MB = 1e6
_BATCH = 300_000  # characters


def script(options: Options) -> Iterator[Line]:
    """Both read the same file and write a sentence a line; what they write must be equal."""
    source = text(options)
    with tempfile.TemporaryDirectory() as name:
        own, other = Path(name, "ours.txt"), Path(name, "peer.txt")
        rates = harness.interleave(
            lambda: _rate(_normalise_and_split, source, own),
            lambda: _rate(peer.main, source, other),
            repetitions=5,
        )
        line = harness.compare(
            f"normalise and split, {source.stat().st_size / _MB:.0f} MB of text, one core",
            "MB/s", *rates, "the article's script", "ratio >= 5",
        )  # fmt: skip
        if not filecmp.cmp(own, other, shallow=False):
            line = dataclasses.replace(line, name=f"{line.name}, OTHER BYTES", holds=False)
    yield line


def _rate(function: Callable[[Path, Path], None], source: Path, output: Path) -> float:
    """MB of the source that are done in a second of processor time."""
    began = time.process_time()
    function(source, output)
    return source.stat().st_size / _MB / (time.process_time() - began)


def _normalise_and_split(source: Path, output: Path) -> None:
    """As jobs.preprocess does it in article mode, without the words."""
    normaliser = Normaliser("article", Normalise())
    with (
        source.open(encoding="utf-8") as lines,
        output.open("w", encoding="utf-8") as out,
    ):
        while batch := lines.readlines(_BATCH):
            normalised, _ = normaliser.lines([line.removesuffix("\n") for line in batch])
            text, _ = sentences.cut_lines(normalised, strip=True)
            out.write(f"{text}\n" if text else "")


if __name__ == "__main__":
    sys.exit(
        harness.main(
            __doc__ or "",
            {
                "script": script,
                "chain": chain,
                "words": words,
                "filters": filters,
                "near": near,
                "pool": pool,
                "memory": memory,
                "units": units,
                "planning": planning,
            },
        )
    )
