"""Measures of tests.benchmarks.tokenizer: shards into token files, and blocks out of them.

All on one core. The text is that of tests/benchmarks/text.py, made into shards by the kit once, and
kept; the vocabulary is one of 50,000, by the library's own trainer.
"""

from __future__ import annotations

import dataclasses
import filecmp
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kit.corpus import download, preprocess
from kit.data import shards, tokenizer_file, tokens
from kit.relay import resolve
from kit.store import manifest
from kit.store.files import atomic
from kit.store.paths import Workspace
from kit.store.units import make_units
from kit.tokenizer import encode, huggingface
from tests import vocabulary
from tests.benchmarks import harness
from tests.benchmarks.text import FOLDER
from tests.benchmarks.text import text as text_of
from tests.conftest import units_of
from tests.relay import DEMO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.config.recipe import Recipe
    from tests.benchmarks.harness import Line, Options

_MILLION = 1e6
_VOCABULARY, _ALPHABET = 50_000, 8_000
_BATCH = 256  # documents that a peer encodes together
_REPETITIONS = 3


def shards_of(options: Options) -> Recipe:
    """A recipe whose shards are made, of a hundred MB of text or the files given; kept for another time."""
    workspace = FOLDER / ("shards-of-data" if options.data else "shards")
    source = f"corpus.sources={{text: {{kind: plaintext, location: {text_of(options)}}}}}"
    overrides = [
        f"workspace={workspace}",
        source,
        "corpus.unit_mb=16",
        "corpus.held_out=0.01",
        "corpus.segmenter=mecab",
        f"tokenizer={{vocab_size: {_VOCABULARY}, limit_alphabet: {_ALPHABET}}}",
    ]
    recipe = resolve.load(DEMO, overrides, "local").recipe
    for module in (download, preprocess):
        make_units(module.__name__, units_of(module, recipe))
    return recipe


def encoding(options: Options) -> Iterator[Line]:
    """Millions of tokens a second of processor time, from shards to token files."""
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    recipe = shards_of(options)
    _put_tokenizer(recipe)
    units = units_of(encode, recipe)
    size = sum(len(text) for _, _, texts in _parts(recipe) for text in texts)
    title = f"shards of {size / _MILLION:.0f} M characters into token files"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def kit() -> float:
            for unit in units:
                manifest.clear(unit.folder)
            return _rate(lambda: _stage(recipe))

        rates = harness.interleave(
            kit, lambda: _rate(lambda: _batches(recipe, folder)), _REPETITIONS
        )
        yield _same(
            harness.compare(
                title, "M tokens/s", *rates, "encode_batch_fast of tokenizers", "ratio >= 2.5"
            ),
            _equal_files(recipe, folder),
        )
        yield from _against_map(recipe, kit, folder / "datasets", title)


def _against_map(
    recipe: Recipe, kit: Callable[[], float], folder: Path, title: str
) -> Iterator[Line]:
    """The same beside run_clm.py's way, whose documents are at hand as a data set."""
    import datasets

    from tests.benchmarks.peers import grouped

    datasets.disable_progress_bars()
    documents = folder / "documents.jsonl"
    with atomic(documents, "w") as out:
        for text in itertools.chain.from_iterable(texts for _, _, texts in _parts(recipe)):
            given = huggingface.surface(text, "lossless")
            out.write(json.dumps({"text": given}, ensure_ascii=False) + "\n")
    raw = grouped.load(documents, folder / "cache")
    tokenizer = Workspace(Path(recipe.workspace)).tokenizer
    made: list[datasets.Dataset] = []

    def peer() -> float:
        def work() -> int:
            made[:] = grouped.main(raw, tokenizer)
            return _total(recipe)

        return _rate(work)

    rates = harness.interleave(kit, peer, _REPETITIONS)
    ours = (
        np.fromfile(tokens.token_file(unit.folder, part), "<u2")
        for unit in tokens.complete(recipe)
        for part in shards.PARTS
    )
    theirs = np.fromiter(itertools.chain.from_iterable(made[0]["input_ids"]), "<u2")
    yield _same(
        harness.compare(
            title, "M tokens/s", *rates, "datasets.map and group_texts of run_clm.py", "ratio >= 5"
        ),
        np.array_equal(np.concatenate([*ours]), theirs),
    )


def reading(_: Options) -> Iterator[Line]:
    """The batch function beside a shuffling DataLoader without workers, over one memory-mapped file."""
    import torch

    from kit.training.batches import Batches

    torch.set_num_threads(1)
    length, micro_batch, million_tokens = 1024, 8, 200
    dtype = np.dtype("<u2")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "train.tokens"
        chance = np.random.default_rng(0)
        documents = (
            chance.integers(50_000, size=10**6, dtype=dtype) for _ in range(million_tokens)
        )
        tokens.write(path, (ids.tobytes() for ids in documents), dtype)
        row = tokens.open_stream([path], dtype)
        ours = Batches(row, length, 512, micro_batch, 0, 8, 0)
        theirs = torch.utils.data.DataLoader(_Memmap(path, length), micro_batch, shuffle=True)
        micro_batches = 2_000
        done = [0]

        def kit() -> float:
            began = time.perf_counter()
            for _ in range(micro_batches):
                step, micro = divmod(done[0], ours.accumulation)
                blocks = torch.from_numpy(ours.read(step * ours.global_batch, micro))
                assert blocks.shape == (micro_batch, length + 1)
                done[0] += 1
            return rate(began)

        def loader() -> float:
            batches = iter(theirs)
            next(batches)  # draws the permutation
            began = time.perf_counter()
            for _ in range(micro_batches):
                assert next(batches).shape == (micro_batch, length + 1)
            return rate(began)

        def rate(began: float) -> float:
            read = micro_batches * micro_batch * length
            return read / (time.perf_counter() - began) / _MILLION

        kit()  # both find the file in memory
        measured = harness.interleave(kit, loader, 7)
        yield harness.compare(
            f"blocks of {length} tokens in random order from a file of {2 * million_tokens} MB, a rank",
            "M tokens/s", *measured, "a torch DataLoader over the same file", "ours >= 20",
        )  # fmt: skip


class _Memmap:
    """A map-style dataset over a token file, as one writes it for a DataLoader."""

    def __init__(self, path: Path, length: int) -> None:
        self._data = np.memmap(path, dtype="<u2", mode="r")
        self._length = length

    def __len__(self) -> int:
        return (len(self._data) - 1) // self._length

    def __getitem__(self, index: int) -> np.ndarray:
        start = index * self._length
        return self._data[start : start + self._length + 1].astype(np.int64)


def _put_tokenizer(recipe: Recipe) -> None:
    """Train the tokenizer, if it is not there."""
    folder = Workspace(Path(recipe.workspace)).tokenizer
    if manifest.state(folder, tokens.tokenizer_causes(recipe), verify=True) != "done":
        texts = (
            text for part, _, texts in _parts(recipe) if part == shards.TRAIN for text in texts
        )
        sentences = (sentence for text in texts for sentence in text.split("\n"))
        made = vocabulary.trained(sentences, size=_VOCABULARY, alphabet=_ALPHABET)
        vocabulary.put(recipe, made)


def _parts(recipe: Recipe) -> Iterator[tuple[str, str, Iterator[str]]]:
    """Each file of the shards: its part, the name of its shard, its documents."""
    for shard in shards.complete(recipe):
        for part in shards.PARTS:
            yield part, shard.name, shards.texts(shards.part_file(shard.folder, part))


def _stage(recipe: Recipe) -> int:
    """The kit's way: the stage, in a task for each shard.

    Every shard is so begun with an empty table: the manuals, which are repeated, are no quicker for it.
    """
    tasks = len(shards.complete(recipe))
    for task in range(tasks):
        make_units("tokenize", units_of(encode, recipe), task, tasks)
    return _total(recipe)


def _total(recipe: Recipe) -> int:
    facts = [manifest.read(unit.folder, "jobs.tokenize") for unit in tokens.complete(recipe)]
    return sum(count for fact in facts for count in fact["tokens"].values())


def _batches(recipe: Recipe, folder: Path) -> int:
    """The library's way: documents in batches, into the same files."""
    tokenizer = tokenizer_file.load(Workspace(Path(recipe.workspace)).tokenizer)
    dtype, end = np.dtype("<u2"), tokens.tokenizer_info(recipe).end

    def encoded(texts: Iterator[str]) -> Iterator[bytes]:
        given = (huggingface.surface(text, "lossless") for text in texts)
        while batch := list(itertools.islice(given, _BATCH)):
            for found in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                yield np.array([*found.ids, end], dtype).tobytes()

    return sum(
        tokens.write(tokens.token_file(folder / name, part), encoded(texts), dtype)
        for part, name, texts in _parts(recipe)
    )


def _rate(work: Callable[[], int]) -> float:
    """Millions of tokens that are made in a second of processor time."""
    began = time.process_time()
    made = work()
    return made / (time.process_time() - began) / _MILLION


def _equal_files(recipe: Recipe, folder: Path) -> bool:
    files = [
        tokens.token_file(unit.folder, part)
        for unit in tokens.complete(recipe)
        for part in shards.PARTS
    ]
    files += [tokens.offsets_file(file) for file in files]
    return all(filecmp.cmp(f, folder / f.parent.name / f.name, shallow=False) for f in files)


def _same(line: Line, equal: bool) -> Line:
    """The line, which does not hold where the two gave other tokens."""
    return (
        line if equal else dataclasses.replace(line, name=f"{line.name}, OTHER TOKENS", holds=False)
    )
