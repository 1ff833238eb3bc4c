"""The measure of tests.benchmarks.corpus that compares the compiled search for words with MeCab's own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kit.config.recipe import Normalise
from kit.corpus import segment, sentences
from kit.corpus.normalise.normaliser import Normaliser
from kit.corpus.segmenters import dictionary, jumandic, lattice
from kit.corpus.segmenters.mecab import LONGEST, MeCab
from kit.store import machine_code
from tests.benchmarks import harness
from tests.benchmarks.text import text as text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.benchmarks.harness import Line, Options

_SIZE = 5_000_000  # characters
_BATCH = 10_000  # texts


def words(options: Options) -> Iterator[Line]:
    """Processor time for the words of the same texts, which have to be equal."""
    texts = _texts(text_of(options))
    mecab = MeCab(segment._cache())
    parse = mecab._engine.parse
    found = dictionary.read(jumandic.folder(segment._cache()))
    assert found is not None
    search = machine_code.function("kit.corpus.segmenters.search", "segment")
    compiled = lattice.Lattice(found, search, LONGEST)

    def ours() -> list[str]:
        batches = (texts[first : first + _BATCH] for first in range(0, len(texts), _BATCH))
        return [text for batch in batches for text in compiled.words(batch)]

    expected = [*map(parse, texts)]
    made = ours()
    equal = sum(a == b or not a for a, b in zip(made, expected, strict=True))
    times = harness.interleave(
        lambda: _seconds(ours), lambda: _seconds(lambda: [*map(parse, texts)]), repetitions=5
    )
    yield harness.compare(
        f"of {len(texts):,} texts those with MeCab's words, or left to MeCab",
        "", [float(equal)], [float(len(texts))], "all", "|ratio-1| <= 0",
    )  # fmt: skip
    yield harness.compare(
        f"processor time for their words, {sum(map(len, texts)) / 1e6:.1f} million characters",
        "s", *times, "MeCab", "ratio <= 0.75",
    )  # fmt: skip


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _texts(path: Path) -> list[str]:
    """The different texts between spaces at the head of a file, normalised."""
    normaliser = Normaliser("default", Normalise())
    found: dict[str, None] = {}
    size = 0
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            for normalised in normaliser.lines([line.rstrip("\r\n")])[0]:
                for sentence in sentences.split(normalised):
                    found.update(dict.fromkeys(sentence.split(" ")))
            size += len(line)
            if size > _SIZE:
                break
    return [text for text in found if len(text) <= LONGEST]
