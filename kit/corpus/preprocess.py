"""Pieces of raw text into shards, the held-out documents apart, with a manifest that counts each step."""

from __future__ import annotations

import functools
import importlib.metadata
from collections import Counter
from typing import TYPE_CHECKING, Any

from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.corpus import documents, report, segment
from kit.corpus.bad_input import BadInput
from kit.corpus.steps import Document, Steps, segmented
from kit.data import duplicates, shards
from kit.store.files import write_json
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy as np

    from kit.config.recipe import Corpus
    from kit.store.paths import Run


def units(_: Run, recipe: Recipe, workers: int = 1) -> list[Unit]:
    """One unit for each piece of the raw text; `workers` processes segment its words.

    Raises StageError before the download is complete, and the passes for duplicates where they are
    asked for.
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
    """What a submitted task runs; the run directory is all it reads. The last one writes the report."""
    recipe = read_resolved(run.recipe, Recipe)
    found = units(run, recipe, read_resolved(run.cluster, Cluster).arrays.cpus)
    make_units("preprocess", found, task, tasks)
    if all(unit.state() == "done" for unit in found):
        report.make(recipe)


def is_held_out(key: int, share: float) -> bool:
    """Whether a document is kept from training: a function of its text, whose hash the key is."""
    return key < share * 2**64


def _make(
    recipe: Recipe, number: int, shard: shards.Shard, workers: int, folder: Path
) -> Mapping[str, Any]:
    corpus = recipe.corpus
    faults = BadInput(corpus.on_bad_input)
    steps = Steps(corpus, _again(recipe, number))
    counts: dict[str, Counter[str]] = {part: Counter() for part in shards.PARTS}
    examples = report.Examples()
    train, held_out = (shards.part_file(folder, part) for part in shards.PARTS)
    with (
        segment.open(corpus.segmenter, corpus.segmenter_version, workers) as words,
        shards.writer(train) as add_train,
        shards.writer(held_out) as add_held_out,
    ):
        raw = documents.read(shard.piece, faults, corpus.mode)
        for document, text in segmented(raw, steps, words):
            examples.see(document.key, document.raw, text, document.left_out)
            if document.left_out is not None:
                steps.dropped(document)
                continue
            held = is_held_out(document.key, corpus.held_out)
            (add_held_out if held else add_train)(text)
            _count(counts[shards.HELD_OUT if held else shards.TRAIN], document, text)
        kept_whole = dict(sorted(words.kept_whole.items()))
    write_json(folder / report.EXAMPLES, examples.chosen())
    return {
        "counts": {part: dict(sorted(count.items())) for part, count in counts.items()},
        "steps": {name: dict(sorted(step.items())) for name, step in sorted(steps.counts.items())},
        "lines_dropped": dict(sorted(steps.lines_dropped.items())),
        "marks_replaced": steps.marks_replaced,
        "faults": dict(sorted(faults.counts.items())),
        "fault_places": dict(sorted(faults.places.items())),
        "kept_whole": kept_whole,
        "bytes_in": shard.piece["end"] - shard.piece["start"],
        "tools": _tools(corpus, shard.piece["kind"]),
    }


def _tools(corpus: Corpus, kind: str) -> dict[str, str]:
    """The programs and packages that made the text what it is."""
    packages = ["neologdn", *(["wikiextractor"] if kind == "wikipedia" else [])]
    return {"segmenter": f"{corpus.segmenter} {corpus.segmenter_version}"} | {
        package: importlib.metadata.version(package) for package in packages
    }


def _again(recipe: Recipe, number: int) -> Iterable[int]:
    """The documents of a unit that stood in the corpus before, where those are to be left out."""
    if not recipe.corpus.filters.duplicates:
        return ()
    names = [piece["name"] for piece in shards.pieces(recipe)]
    found: np.ndarray[Any, Any] = duplicates.of_unit(duplicates.lists(recipe, names), number)
    return map(int, found)


def _count(count: Counter[str], document: Document, text: str) -> None:
    joined = "\n".join(document.lines)
    count["documents"] += 1
    count["lines"] += len(document.lines)
    sentences = text.count("\n")
    count["sentences"] += sentences
    count["words"] += text.count(" ") + sentences
    count["characters"] += len(joined) - len(document.lines) + 1
    count["bytes"] += len(joined.encode()) + 1  # the end of a line is of the text
