"""Measures of tests.benchmarks.tokenizer: a vocabulary from counted words.

The text is that of tests/benchmarks/tokens.py. The tasks of the array are timed one by one, on one
core; the peer has all cores of the machine.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.config.tokenizer import TokenizerSpec
from kit.data import shards
from kit.tokenizer import bpe, counts, huggingface
from kit.tokenizer.count import count
from tests.benchmarks import harness
from tests.benchmarks.harness import ROOT
from tests.benchmarks.text import FOLDER
from tests.benchmarks.tokens import shards_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tokenizers import Tokenizer

    from tests.benchmarks.harness import Line, Options

_SIZES = (8_000, 50_000)
_ALPHABET = (
    100_000  # all characters: where the alphabet is cut, the peer's ties are a matter of chance
)
_TASKS = 8
_WORDS = 10_000_000
_TRAIN_ALONE = """
import json, os, sys, time
from pathlib import Path
from kit.config.tokenizer import TokenizerSpec
import numpy as np
from kit.tokenizer import bpe, counts, unigram
from kit.tokenizer.words import Words
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
vocabulary, words = TokenizerSpec(algorithm=sys.argv[1], vocab_size=50_000), counts.read(Path(sys.argv[2]))
began = time.perf_counter()
bpe.train(words, vocabulary, 1) if sys.argv[1] == "bpe" else unigram.train(words, vocabulary)
seconds = time.perf_counter() - began
(peak,) = (row.split()[1] for row in open("/proc/self/status") if row.startswith("VmHWM:"))  # KiB
corpus = Words.from_counts(counts.read(Path(sys.argv[2])))
began = time.perf_counter()
codes = corpus.codes.astype("int64")
np.unique(codes[:-1] << 32 | codes[1:], return_counts=True)
plain = time.perf_counter() - began
print(json.dumps([seconds, plain, int(peak) * 1024 / 1e9]))
"""


def training(options: Options) -> Iterator[Line]:
    """Seconds of the merge job, and of the whole by an array, beside Tokenizer.train on the same text."""
    made = shards.complete(shards_of(options))
    folder = FOLDER / ("counts-of-data" if options.data else "counts")
    folder.mkdir(exist_ok=True)
    text = folder / "surface.txt"
    with text.open("w", encoding="utf-8") as out:
        for shard in made:
            for document in shards.texts(shards.part_file(shard.folder, shards.TRAIN)):
                sentences = document.split("\n")
                out.writelines(f"{huggingface.surface(s, 'lossless')}\n" for s in sentences if s)
    files = [shards.part_file(shard.folder, shards.TRAIN) for shard in made]
    groups = [files[task::_TASKS] for task in range(_TASKS)]
    megabytes = text.stat().st_size / 1e6
    # So often that it is no small text: the merge loop is compiled, for good.
    bpe.train([counts.CountBatch(["ab"], [10**9])], TokenizerSpec(vocab_size=262), 1)
    for size in _SIZES:
        found: list[Tokenizer] = []
        counting: list[float] = []
        merging: list[float] = []
        peers: list[float] = []
        for _ in range(3):
            counting.append(max(_counted(files, folder, task) for task, files in enumerate(groups)))
            began = time.perf_counter()
            merged = counts.merge([counts.read(folder / str(task)) for task in range(_TASKS)])
            vocabulary = TokenizerSpec(vocab_size=size, limit_alphabet=_ALPHABET)
            ours = bpe.train(merged, vocabulary, 1)
            merging.append(time.perf_counter() - began)
            began = time.perf_counter()
            theirs = _theirs(text, size)
            peers.append(time.perf_counter() - began)
            found = [ours, theirs]
        equal = _model(found[0]) == _model(found[1])
        peer = "Tokenizer.train on all cores"
        title = f"a vocabulary of {size:,} from {megabytes:.0f} MB"
        whole = [sum(pair) for pair in zip(counting, merging, strict=True)]
        for name, figures, bar in (
            (f"{title}: the merge job", merging, "ratio <= 1"),
            (f"{title}: the whole, an array of {_TASKS}", whole, f"ratio <= {2 / _TASKS}"),
        ):
            line = harness.compare(name, "s", figures, peers, peer, bar)
            if not equal:
                line = dataclasses.replace(line, name=f"{name}, OTHER MERGES", holds=False)
            yield line


def memory(_: Options) -> Iterator[Line]:
    """Time and peak memory of a vocabulary of 50,000 from ten million distinct words, on one core."""
    folder = FOLDER / "ten-million-words"
    if not (folder / counts.COUNTS).is_file():
        counts.write(folder, counts.chunks(_synthetic()))
    for algorithm, bar in (("bpe", 15), ("unigram", 100)):
        done = subprocess.run(
            [sys.executable, "-c", _TRAIN_ALONE, algorithm, str(folder)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        seconds, plain, gigabytes = json.loads(done.stdout)
        title = f"a vocabulary of 50,000 from {_WORDS:,} distinct words, {algorithm}"
        peer = "np.unique over all neighbouring characters, once"
        yield harness.compare(title, "s", [seconds], [plain], peer, f"ratio <= {bar}")
        yield harness.compare(f"{title}, memory", "GB", [gigabytes], [8.0], "allowed", "ours <= 8")


def _counted(files: list[Path], folder: Path, task: int) -> float:
    """Count one task's shards; returns the seconds it took."""
    began = time.perf_counter()
    texts = (text for file in files for text in shards.texts(file))
    counts.write(folder / str(task), count(texts, "lossless", folder / "runs"))
    return time.perf_counter() - began


def _theirs(text: Path, size: int) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    # It reads lines with the line feed behind them, which no word of the kit's has.
    pieces = Regex(huggingface.PIECES.replace("[^", "[^\n"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="removed", invert=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=1,
        special_tokens=list(huggingface.first_entries("lossless")),
        show_progress=False,
    )
    tokenizer.train([str(text)], trainer)
    return tokenizer


def _model(tokenizer: Tokenizer) -> tuple[Any, Any]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def _synthetic() -> dict[str, int]:
    """Words of 2 to 10 of 6,000 characters, both characters and words as frequent as Zipf has it."""
    chance = np.random.default_rng(0)
    frequency = 1 / np.arange(1, 6_001)
    found: dict[str, int] = {}
    while len(found) < _WORDS:
        lengths = chance.integers(2, 11, 1_000_000)
        codes = 0x4E00 + chance.choice(6_000, lengths.sum(), p=frequency / frequency.sum())
        text = codes.astype("<u4").tobytes().decode("utf-32-le")
        at = 0
        for length in lengths.tolist():
            if len(found) < _WORDS:
                found.setdefault(text[at : at + length], max(1, 10**9 // (len(found) + 1)))
            at += length
    return found
