"""Measures of tests.benchmarks.corpus of near-duplicates, against datatrove if that is installed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kit.corpus.dedup import bands, clusters, signatures
from kit.data import duplicates, near_duplicates
from kit.store.files import write_text
from kit.store.paths import Workspace
from kit.store.units import make_units
from tests.benchmarks import harness
from tests.benchmarks.chain import recipe_over
from tests.benchmarks.text import text
from tests.conftest import units_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.config.recipe import Recipe
    from tests.benchmarks.harness import Line, Options

_DOCUMENTS = 10_000
_RATES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05)  # of characters that a copy has otherwise


def near(options: Options) -> Iterator[Line]:
    """Characters a second of processor time, in MB of UTF-8, from documents to clusters, one core."""
    if importlib.util.find_spec("datatrove") is None:
        return
    from tests.benchmarks.peers import minhash

    lines = [line for line in text(options).read_text(encoding="utf-8").split("\n") if line.strip()]
    documents = _documents(lines)
    megabytes = sum(len(document.encode()) for document in documents) / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "documents.jsonl"
        write_text(source, "".join(f"{json.dumps({'text': d})}\n" for d in documents))
        recipe = recipe_over(folder, "jsonl", source, "corpus.filters.near_duplicates={}")
        found: dict[str, list[list[int]]] = {}

        def rate(name: str, measured: Callable[[], list[list[int]]]) -> float:
            shutil.rmtree(folder / "peer", ignore_errors=True)
            began = time.process_time()
            found[name] = measured()
            return megabytes / (time.process_time() - began)

        _ours(recipe)  # compiles
        rates = harness.interleave(
            lambda: rate("ours", lambda: _ours(recipe)),
            lambda: rate("peer", lambda: minhash.clusters(documents, folder / "peer")),
            repetitions=3,
        )
    equal = found["ours"] == found["peer"]
    line = harness.compare(
        f"near-duplicates among {len(documents):,} documents, {len(found['ours']):,} clusters, "
        f"{'EQUAL' if equal else 'OTHER THAN'} the peer's, one core",
        "MB/s", *rates, "datatrove", "ratio >= 3",
    )  # fmt: skip
    yield dataclasses.replace(line, holds=line.holds and equal)


def _documents(lines: list[str]) -> list[str]:
    """Documents cut from lines, two in five of them another one with some characters changed."""
    drawn = random.Random(18)
    documents: list[list[str]] = []
    while len(documents) < _DOCUMENTS:
        if not documents or drawn.random() < 0.6:
            first = drawn.randrange(len(lines))
            documents.append(lines[first : first + drawn.choice((1, 2, 4, 8, 16, 32))])
            continue
        rate = drawn.choice(_RATES)
        copy = [
            "".join(drawn.choice(("", c + c, "々")) if drawn.random() < rate else c for c in line)
            for line in drawn.choice(documents)
        ]
        if drawn.random() < 0.4:
            copy.insert(drawn.randrange(len(copy) + 1), drawn.choice(lines))
        documents.append([line for line in copy if line.strip()] or lines[:1])
    return ["\n".join(document) for document in documents]


def _ours(recipe: Recipe) -> list[list[int]]:
    """The documents of each cluster, by number, made anew; the corpus is one unit."""
    workspace = Workspace(Path(recipe.workspace))
    for name in ("signatures", "bands", "near-duplicates"):
        shutil.rmtree(workspace.root / name, ignore_errors=True)
    for stage in (signatures, bands, clusters):
        make_units(stage.__name__, units_of(stage, recipe))
    columns = (
        np.fromfile(workspace.near_duplicates / name, "<u8").tolist()
        for name in (near_duplicates.KEPT, duplicates.LIST)
    )
    members: dict[int, list[int]] = {}
    for kept, left_out in zip(*columns, strict=True):
        members.setdefault(kept, [kept]).append(left_out)
    return sorted(map(sorted, members.values()))
