"""The preprocess stage: pieces of raw text into shards of training and held-out documents.

The manifest of a shard counts every step.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.metadata
from collections import Counter
from typing import TYPE_CHECKING, Any

from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.corpus import report
from kit.corpus.bad_input import BadInput
from kit.data import documents, duplicates, near_duplicates, shards
from kit.store.files import write_json
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from kit.config.recipe import Corpus
    from kit.corpus.steps import Document
    from kit.store.paths import Run

_AT_ONCE = 1 << 18  # characters to write at once


def units(_: Run, recipe: Recipe, workers: int = 1) -> list[Unit]:
    """One unit per piece of the raw text; `workers` processes segment its words.

    Raises StageError until the download is complete and, if duplicates or near-duplicates are filtered,
    their passes.
    """
    return [
        Unit(
            shard.name,
            shard.folder,
            shard.causes,
            functools.partial(_make, recipe, number, shard, workers),
        )
        for number, shard in enumerate(shards.expected(recipe))
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory. The last task writes the report.

    It raises InputError if no document is left.
    """
    recipe = read_resolved(run.recipe, Recipe)
    all_units = units(run, recipe, read_resolved(run.cluster, Cluster).arrays.cpus)
    make_units("preprocess", all_units, task, tasks)
    if all(unit.state() == "done" for unit in all_units):
        report.make(recipe)
        documents.refuse_empty(recipe, shards.complete(recipe))


def is_held_out(key: int, share: float) -> bool:
    """Whether a document is held out of training; depends on its text alone, through its hash `key`."""
    return key < share * 2**64


def repeated(recipe: Recipe, number: int) -> dict[int, str]:
    """The documents of a unit that repeat others, by number in the unit, with the filter that says so."""
    filters = recipe.corpus.filters
    found: dict[int, str] = {}
    if filters.near_duplicates is not None:
        near = duplicates.of_unit([near_duplicates.removed(recipe)], number)
        found |= dict.fromkeys(near.tolist(), "near_duplicates")
    if filters.duplicates:
        names = [piece["name"] for piece in shards.pieces(recipe)]
        exact = duplicates.of_unit(duplicates.lists(recipe, names), number)
        found |= dict.fromkeys(exact.tolist(), "duplicates")
    return found


@contextlib.contextmanager
def _little_garbage() -> Iterator[None]:
    """Search for garbage once in 100,000 new containers instead of 700.

    A document leaves next to none, and the search took a twentieth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@_little_garbage()
def _make(
    recipe: Recipe, number: int, shard: shards.Shard, workers: int, folder: Path
) -> Mapping[str, Any]:
    # Here, as the status of the stage, which only lists its units, needs none of them.
    from kit.corpus import documents as raw_documents
    from kit.corpus import segment
    from kit.corpus.dump.tally import Tally
    from kit.corpus.exclusion import REMOVED, Exclusion
    from kit.corpus.steps import Steps, segmented

    corpus = recipe.corpus
    bad_input, tally = BadInput(corpus.on_bad_input), Tally()
    exclusion = Exclusion(corpus, shard.piece["source"])
    steps = Steps(corpus, repeated(recipe, number), exclusion)
    examples = report.Examples()
    train, held_out = (shards.part_file(folder, part) for part in shards.PARTS)
    with (
        segment.open(corpus.segmenter, corpus.segmenter_version, workers) as words,
        shards.writer(train) as add_train,
        shards.writer(held_out) as add_held_out,
    ):
        parts = {shards.TRAIN: _Part(add_train), shards.HELD_OUT: _Part(add_held_out)}
        raw = raw_documents.read(
            shard.piece, bad_input, corpus.mode, corpus.wikipedia, tally, exclusion.keys
        )
        for document, text in segmented(raw, steps, words):
            if document.left_out != REMOVED:  # its text may not be kept anywhere
                examples.offer(document.key, document.raw, text, document.left_out)
            if document.left_out is not None:
                steps.count_left_out(document)
                continue
            hold_out = is_held_out(document.key, corpus.held_out)
            parts[shards.HELD_OUT if hold_out else shards.TRAIN].append(document, text)
        for part in parts.values():
            part.flush()
        unsegmented = dict(sorted(words.unsegmented.items()))
    write_json(folder / report.EXAMPLES, examples.sample())
    return {
        "counts": {name: dict(sorted(part.counts.items())) for name, part in parts.items()},
        "steps": {name: dict(sorted(step.items())) for name, step in sorted(steps.counts.items())},
        "lines_dropped": dict(sorted(steps.lines_dropped.items())),
        "marks_replaced": steps.marks_replaced,
        "faults": dict(sorted(bad_input.counts.items())),
        "fault_places": dict(sorted(bad_input.places.items())),
        "kept_whole": unsegmented,
        "wikipedia": {key: dict(sorted(count.items())) for key, count in vars(tally).items()},
        "bytes_in": shard.piece["end"] - shard.piece["start"],
        "tools": _tools(corpus, shard.piece["kind"]),
        **exclusion.facts(),
    }


def _tools(corpus: Corpus, kind: str) -> dict[str, str]:
    """The programs and packages that decide the text, with their versions."""
    packages = ["neologdn", *(["wikiextractor"] if kind == "wikipedia" else [])]
    return {"segmenter": f"{corpus.segmenter} {corpus.segmenter_version}"} | {
        package: importlib.metadata.version(package) for package in packages
    }


class _Part:
    """A part of a shard: writes and counts documents, many at once."""

    def __init__(self, add: Callable[..., None]) -> None:
        self.counts: Counter[str] = Counter()
        self._add = add
        self._lines: list[str] = []  # of the documents that are not written yet
        self._texts: list[str] = []
        self._size = 0  # characters of these texts

    def append(self, document: Document, text: str) -> None:
        """Append a document with its segmented sentences."""
        self._lines += document.lines
        self._texts.append(text)
        self._size += len(text)
        if self._size >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what is left."""
        if not self._texts:
            return
        self._add(*self._texts)
        segmented, lines = "".join(self._texts), "".join(self._lines)
        sentences = segmented.count("\n")
        self.counts["documents"] += len(self._texts)
        self.counts["lines"] += len(self._lines)
        self.counts["sentences"] += sentences
        self.counts["words"] += segmented.count(" ") + sentences
        self.counts["characters"] += len(lines)
        self.counts["bytes"] += len(lines.encode()) + len(self._lines)  # with line feeds
        self._lines.clear()
        self._texts.clear()
        self._size = 0
