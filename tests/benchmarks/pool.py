"""How busy the pool of Juman++ processes is kept, measured with the stand-in at the real one's speed.

A process is busy while it does not wait for a line or for room for an answer; the time is that from the
first line of the text that any process takes to the last answer that any gives, so what is lost at the
end counts as well. Japanese text is made up: only its size matters to the stand-in.
"""

from __future__ import annotations

import json
import os
import random
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kit.corpus.segmenters.jumanpp import Jumanpp
from tests import jumanpp
from tests.benchmarks import harness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.harness import Line, Options

RATE = 0.54e6  # bytes a second of processor time: Juman++ 2 on one core
_PROCESSES, _REPETITIONS = 2, 3
_BYTES = 10e6  # of text in a repetition: about ten seconds
_WORDS = re.split(" ", "駅伝 は 東京 から 箱根 まで の 217.1 km を 走る 、 リレー で")


def pool(options: Options) -> Iterator[Line]:
    """The share of their time for which two processes are busy, beside processes that always are."""
    shares = [_busy(_text(options, seed)) for seed in range(_REPETITIONS)]
    yield harness.compare(
        "pool of Juman++ processes",
        "of the time busy",
        shares,
        [1.0] * _REPETITIONS,
        "always busy",
        "ratio >= 0.95",
    )


def _text(options: Options, seed: int) -> Iterator[list[str]]:
    """Documents of sentences without spaces: from the files that were given, or made up."""
    chance, size = random.Random(seed), 0.0
    given = [path.read_text(encoding="utf-8").split() for path in options.data]
    while size < _BYTES:
        made = ["".join(chance.choices(_WORDS, k=chance.randint(5, 40))) + "。" for _ in range(100)]
        for chunks in given or [made]:
            for start in range(0, len(chunks), 20):
                yield chunks[start : start + 20]
            size += sum(len(chunk.encode()) for chunk in chunks)


def _busy(batches: Iterator[list[str]]) -> float:
    with tempfile.TemporaryDirectory() as name:
        program = jumanpp.install(Path(name) / "bin")
        os.environ |= {"STAND_IN_BURN": str(1 / RATE), "STAND_IN_LOG": name}
        try:
            with Jumanpp(_PROCESSES, [str(program), "--segment"]) as segmenter:
                for _ in segmenter.stream(batches):
                    pass
        finally:
            for variable in ("STAND_IN_BURN", "STAND_IN_LOG"):
                del os.environ[variable]
        rows = [json.loads(path.read_text()) for path in Path(name).glob("*.json")]
    assert len(rows) == _PROCESSES
    whole = max(row["last"] for row in rows) - min(row["first"] for row in rows)
    return sum(row["last"] - row["first"] - row["waited"] for row in rows) / (_PROCESSES * whole)
