"""Near-duplicates over the whole corpus: signatures, bands and clusters of a small one."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xxhash

from kit.corpus import documents, download, preprocess
from kit.corpus.bad_input import BadInput
from kit.corpus.dedup import bands, clusters, deduplicate, fingerprint, minhash, ngrams, signatures
from kit.data import duplicates, near_duplicates, shards
from kit.errors import StageError
from kit.store import manifest
from kit.store.paths import Workspace
from kit.store.units import make_units
from tests.conftest import units_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.recipe import Recipe
    from tests.conftest import Workdir

PASSES = (signatures, bands, clusters)
ON = "corpus.filters.near_duplicates={}"
MERSENNE = 2**61 - 1


def perturbed(documents: Sequence[str]) -> list[str]:
    """Documents, and for most of them one or two with some characters changed, in any order."""
    drawn = random.Random(5)
    rates = (0.0, 0.001, 0.004, 0.02, 0.1)
    copies = [(d, rate) for d in documents for rate in drawn.sample(rates, drawn.randint(0, 2))]
    row = [
        *documents,
        *("".join("々" if drawn.random() < rate else c for c in d) for d, rate in copies),
    ]
    drawn.shuffle(row)
    return row


@pytest.fixture
def row(workdir: Workdir) -> list[str]:
    """The documents of the workdir's web text, many of them nearly the same."""
    whole = workdir.web.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    documents = perturbed(whole)
    write(workdir, documents)
    return documents


def write(workdir: Workdir, documents: Sequence[str]) -> None:
    workdir.web.write_text("\n\n".join(documents) + "\n", encoding="utf-8")


def recipe_of(workdir: Workdir, name: str, *overrides: str) -> Recipe:
    """A recipe that leaves out near-duplicates, in a workspace of its own."""
    return workdir.recipe(ON, f"workspace={workdir.folder / name}", *overrides)


def make(recipe: Recipe, *order: int) -> None:
    """The passes, each as the tasks of an array that run in this order, or as a single one."""
    make_units("download", units_of(download, recipe))
    tasks = len(order) or 1
    for module in PASSES:
        for task in order or (0,):
            make_units(module.__name__, units_of(module, recipe), task, tasks)


def found(recipe: Recipe) -> dict[int, int]:
    """The documents left out, each with the one that stays, numbered through the corpus."""
    workspace = Workspace(Path(recipe.workspace))
    names = [piece["name"] for piece in shards.pieces(recipe)]
    sizes = [manifest.read(workspace.signatures(name), "")["documents"] for name in names]
    before = [0, *itertools.accumulate(sizes)]
    out, stays = (
        [before[key >> 32] + (key & 0xFFFFFFFF) for key in np.fromfile(path, "<u8").tolist()]
        for path in (
            workspace.near_duplicates / duplicates.LIST,
            workspace.near_duplicates / near_duplicates.KEPT,
        )
    )
    return dict(zip(out, stays, strict=True))


def texts_of(recipe: Recipe) -> list[str]:
    """The documents of the corpus as they are before normalisation."""
    corpus = recipe.corpus
    return [
        "\n".join(lines)
        for piece in shards.pieces(recipe)
        for lines in documents.read(piece, BadInput("stop"), corpus.mode, corpus.wikipedia)
    ]


def clusters_of(recipe: Recipe) -> list[tuple[int, list[str]]]:
    """The texts of each cluster, with the length of the one that stays."""
    texts, members = texts_of(recipe), defaultdict[int, list[str]](list)
    for document, kept in found(recipe).items():
        members[kept].append(texts[document])
    return sorted(
        (len(texts[kept]), sorted([texts[kept], *others])) for kept, others in members.items()
    )


def rows_of(text: str, ngram: int, permutations: int) -> list[int]:
    """The signature of a text, by its definition."""
    units = ngrams.characters(text).split()
    values = [
        xxhash.xxh64_intdigest(" ".join(units[first : first + ngram]).encode())
        for first in range(len(units) - ngram + 1)
    ]
    pairs = zip(*(column.tolist() for column in minhash.permutations(permutations)), strict=True)
    return [min((v * a + b) % 2**64 % MERSENNE for v in values) for a, b in pairs if values]


def expected(texts: Sequence[str], ngram: int, bands: int, rows: int) -> dict[int, int]:
    """What `found` has to give: clusters by brute force over all pairs of documents."""
    signed = [rows_of(text, ngram, bands * rows) for text in texts]
    lead = list(range(len(texts)))
    for a in range(len(texts)):
        for b in range(a):
            equal = [x == y for x, y in zip(signed[a], signed[b], strict=False)]
            if any(all(equal[k : k + rows]) for k in range(0, len(equal), rows)):
                one, other = lead[a], lead[b]
                lead = [min(one, other) if one_of in (one, other) else one_of for one_of in lead]
    members: dict[int, list[int]] = {}
    for document, first in enumerate(lead):
        members.setdefault(first, []).append(document)
    stays = {d: min(m, key=lambda d: (-len(texts[d]), d)) for m in members.values() for d in m}
    return {document: kept for document, kept in sorted(stays.items()) if document != kept}


@pytest.mark.parametrize("size", [*range(41), 63, 64, 100])
def test_xxh64_is_that_of_its_library(size: int) -> None:
    text = random.Random(size).randbytes(size + 7)
    value = minhash.xxh64(np.frombuffer(text, np.uint8), 3, 3 + size)
    assert value == xxhash.xxh64_intdigest(text[3 : 3 + size])


@pytest.mark.parametrize("text", ["", "吾輩は猫", "吾輩は猫で", "aé日𠮷" * 30, "ああああああああ"])
@pytest.mark.parametrize("ngram", [1, 5, 12])
def test_a_signature_is_the_smallest_value_of_each_permutation(text: str, ngram: int) -> None:
    codes = np.frombuffer(ngrams.characters(text).encode(), np.uint8)
    if not len(codes):
        ngram = 1
    row = minhash.smallest(codes, ngram, *minhash.permutations(12)) if len(codes) else []
    assert list(row) == rows_of(text, ngram, 12)


def test_clusters_are_those_of_all_pairs_of_documents(workdir: Workdir, row: list[str]) -> None:
    recipe = recipe_of(workdir, "few", "corpus.filters.near_duplicates={bands: 7, rows: 3}")
    make(recipe)
    result = found(recipe)
    assert result == expected(texts_of(recipe), 5, 7, 3)
    assert len(row) > len(result) > 10
    assert len(shards.pieces(recipe)) > 5


def test_clusters_do_not_depend_on_tasks_their_order_units_or_buckets(
    workdir: Workdir, row: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = recipe_of(workdir, "one", "corpus.unit_mb=1")
    make(one)
    drawn = random.Random(3)
    buckets = set()
    for trial in range(2):
        monkeypatch.setattr(near_duplicates, "_BUCKET", drawn.randint(15, 40))
        monkeypatch.setattr(clusters, "_PAIRS", drawn.randint(1, 50))
        size = drawn.uniform(0.002, 0.02)
        other = recipe_of(workdir, f"other-{trial}", f"corpus.unit_mb={size:.4f}")
        tasks = drawn.randint(2, 6)
        make(other, *drawn.sample(range(tasks), tasks))
        names = [piece["name"] for piece in shards.pieces(other)]
        buckets.add(len(near_duplicates.buckets(other, names)))
        assert found(one) == found(other) != {}
    assert min(buckets) >= 2 * 20
    assert len(buckets) > 1


def test_order_decides_only_which_of_equally_long_documents_stays(
    workdir: Workdir, row: list[str]
) -> None:
    one = recipe_of(workdir, "one")
    make(one)
    expected = clusters_of(one)
    for seed in range(2):
        write(workdir, random.Random(seed).sample(row, len(row)))
        other = recipe_of(workdir, f"other-{seed}")
        make(other)
        assert clusters_of(other) == expected != []


def test_shards_leave_near_duplicates_out_and_count_them(workdir: Workdir, row: list[str]) -> None:
    recipe = recipe_of(workdir, "shards", "corpus.filters.duplicates=true")
    make(recipe)
    for module in (fingerprint, deduplicate, preprocess):
        make_units(module.__name__, units_of(module, recipe))
    counts = [manifest.read(s.folder, "")["steps"] for s in shards.complete(recipe)]
    left_out = Counter[str]()
    for steps in counts:
        left_out.update({name: step["documents"] for name, step in steps.items()})
    exact = len(texts_of(recipe)) - len(set(texts_of(recipe)))
    assert left_out["left out: duplicates"] == exact > 0
    assert left_out["left out: near_duplicates"] == len(found(recipe)) - exact > 0
    written = sum(
        part["documents"]
        for s in shards.complete(recipe)
        for part in manifest.read(s.folder, "")["counts"].values()
        if part
    )
    assert written == len(texts_of(recipe)) - len(found(recipe))


def test_words_are_those_of_the_segmenter(workdir: Workdir, row: list[str]) -> None:
    recipe = recipe_of(workdir, "words", "corpus.filters.near_duplicates={unit: words, ngram: 3}")
    rule = near_duplicates.rule(recipe)
    texts = [*row[:40], "", "猫"]
    with contextlib.ExitStack() as stack:
        units = list(signatures._of_units(iter(texts), recipe.corpus, 1, stack))
    for text, words in zip(texts, units, strict=True):
        assert words.replace(" ", "") == ngrams.characters(text).replace(" ", "")
        assert len(words.split(" ")) < max(2, len(text) * 0.8)
    assert [len(row) for row in signatures.hashes(units, rule)] == [20] * 40 + [0, 0]
    make(recipe)
    assert found(recipe) != {}


def test_without_a_pass_the_next_says_what_is_missing(workdir: Workdir) -> None:
    recipe = recipe_of(workdir, "none")
    make_units("download", units_of(download, recipe))
    for module in (bands, clusters, preprocess):
        with pytest.raises(StageError, match=r"run ekiden preprocess first"):
            units_of(module, recipe)


def test_the_command_runs_the_passes_and_reports_them(workdir: Workdir, row: list[str]) -> None:
    arguments = (str(workdir.recipe_file), ON)
    for job in ("jobs.download", "jobs.preprocess"):
        done = workdir.run(job, "run", *arguments)
        assert done.returncode == 0, done.stderr
    status = workdir.run("jobs.preprocess", "status", *arguments, "--json")
    stages = json.loads(status.stdout)["passes"]
    assert [stages[name]["state"] for name in ("signatures", "bands", "clusters")] == ["done"] * 3
    report = (workdir.workspace.corpus_report / "report.md").read_text(encoding="utf-8")
    (line,) = [line for line in report.split("\n") if line.startswith("| left out: near")]
    assert int(line.split("|")[2]) == len(found(workdir.recipe(ON)))
