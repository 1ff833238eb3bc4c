"""Measures of tests.benchmarks.corpus that run whole units of jobs.preprocess, and its planning."""

from __future__ import annotations

import bz2
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kit.corpus import download, report, sentences, wikipedia
from kit.corpus.normalise.normaliser import Normaliser
from kit.corpus.segmenters import mecab
from kit.data import shards
from kit.relay import resolve
from kit.store import manifest
from kit.store.files import write_json
from kit.store.paths import MANIFEST, Workspace
from kit.store.units import make_units
from tests.benchmarks import harness
from tests.benchmarks.text import text as text_of
from tests.conftest import units_of
from tests.relay import DEMO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.config.recipe import Recipe
    from tests.benchmarks.harness import Line, Options

# A unit of a recipe, made as an array task makes it (kit/cluster/task.py and entry.py), the interpreter's
# start included.
_UNIT = """
import atexit, gc, sys
from pathlib import Path
from kit.run.environment import importing
with importing():
    from kit.store.paths import Run
    from kit.store.units import make_units
    from kit.config.recipe import Recipe
    from kit.config.section import read_resolved
    from kit.corpus import preprocess
atexit.register(gc.freeze)
path = Path(sys.argv[1])
make_units("preprocess", preprocess.units(Run(path.parent), read_resolved(path, Recipe)))
"""
_SHARDS = 10_000
_PLAIN = """
import json, sys
from pathlib import Path
done = 0
for folder in sorted(Path(sys.argv[1]).iterdir()):
    found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = ((folder / name, record["size"]) for name, record in found["outputs"].items())
    done += all(path.is_file() and path.stat().st_size == size for path, size in files)
print(done)
"""
_MEGABYTE = 1e6


def chain(options: Options) -> Iterator[Line]:
    """Processor time from raw text to a shard, against MeCab alone on the same sentences.

    Every sentence of the shard is looked at: its words, joined, have to be the sentence. The search for
    words is compiled beforehand, as on a machine that has segmented 25 MB of text.
    """
    text = text_of(options)
    mecab.prepare()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = recipe_over(folder, "plaintext", text)
        lines = folder / "sentences.txt"
        _write_sentences(recipe, text, lines)
        peer = [sys.executable, "-m", "tests.benchmarks.peers.wakati", str(lines), os.devnull]
        ours, theirs = harness.interleave(
            lambda: _unit(recipe, folder)[0], lambda: measured(peer)[0], 3
        )
        changed, sentences = _changed(recipe, lines)
        yield harness.compare(
            f"of {sentences:,} sentences those whose words, joined, are the sentence",
            "", [float(sentences - changed)], [float(sentences)], "all", "|ratio-1| <= 0",
        )  # fmt: skip
        yield harness.compare(
            f"processor time of the whole chain, {text.stat().st_size / _MEGABYTE:.0f} MB of text",
            "s", ours, theirs, "MeCab alone on the same sentences", "ratio <= 1.25",
        )  # fmt: skip


def memory(options: Options) -> Iterator[Line]:
    """The peak of the largest process of a task, over an input and one four times as long."""
    text = text_of(options)
    dump = next((DEMO.parent / "demo").glob("*.xml.bz2"))
    with tempfile.TemporaryDirectory() as name:
        for kind in ("plaintext", "wikipedia"):
            peaks = []
            for times in (1, 4):
                folder = Path(name) / f"{kind}-{times}"
                folder.mkdir()
                source = folder / ("dump.xml.bz2" if kind == "wikipedia" else "text.txt")
                _write_source(source, dump if kind == "wikipedia" else text, times)
                peaks.append(_unit(recipe_over(folder, kind, source), folder)[1])
            yield harness.compare(
                f"peak memory of a task, {kind}, an input four times as long",
                "MB", peaks[1:], peaks[:1], "the shorter input", "ratio <= 1.1",
            )  # fmt: skip


def units(options: Options) -> Iterator[Line]:
    """The peak of the largest process of a task of one unit, and of one of many such units."""
    text = text_of(options)
    with tempfile.TemporaryDirectory() as name:
        counts, peaks = [], []
        for times in (1, 20):
            folder = Path(name) / str(times)
            folder.mkdir()
            source = folder / "text.txt"
            _write_source(source, text, times, size=500_000)
            recipe = recipe_over(folder, "plaintext", source, "corpus.unit_mb=0.6")
            counts.append(len(shards.expected(recipe)))
            peaks.append(_unit(recipe, folder)[1])
        yield harness.compare(
            f"peak memory of a task, {counts[1]} units of plain text",
            "MB", peaks[1:], peaks[:1], f"{counts[0]} unit", "ratio <= 1.1",
        )  # fmt: skip


def planning(_: Options) -> Iterator[Line]:
    """What is done of 10,000 shards: the whole command, beside a plain program that reads the manifests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = pretend_shards(folder, _SHARDS)
        words = ["-m", "jobs.preprocess", "status", str(DEMO), f"workspace={folder}", *options]
        plain = ["-c", _PLAIN, str(Workspace(folder).shard("any").parent)]
        ours, peer = harness.interleave(
            lambda: _seconds(words, f"preprocess: {_SHARDS} done"),
            lambda: _seconds(plain, str(_SHARDS)),
            3,
        )
        yield harness.compare(
            f"planning: jobs.preprocess status of {_SHARDS:,} shards",
            "s", ours, peer, "their manifests read and their files looked for, nothing else",
            "ratio <= 3",
        )  # fmt: skip


def _seconds(words: list[str], said: str) -> float:
    """How long a Python program takes, that says so."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=harness.ROOT, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - began
    assert said in done.stdout, done.stdout
    return seconds


def recipe_over(folder: Path, kind: str, source: Path, *more: str) -> Recipe:
    """A recipe over one source, in one unit unless `more` overrides say other, its raw text at hand."""
    overrides = [f"workspace={folder}", *_one_source(kind, source), *more]
    recipe = resolve.load(DEMO, overrides, "local").recipe
    make_units("download", units_of(download, recipe))
    return recipe


def _one_source(kind: str, source: Path) -> list[str]:
    text = f"corpus.sources={{text: {{kind: {kind}, location: {source}}}}}"
    return [text, "corpus.unit_mb=1000000", "corpus.segmenter=mecab", "corpus.held_out=1e-12"]


def _unit(recipe: Recipe, folder: Path) -> tuple[float, float]:
    """Make the units of a recipe anew in one task: processor seconds, and the peak of memory in MB."""
    for shard in shards.expected(recipe):
        manifest.clear(shard.folder)
    write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
    return measured([sys.executable, "-c", _UNIT, str(folder / "recipe.json")])


def measured(words: list[str]) -> tuple[float, float]:
    """Processor seconds of a command and all it starts, and the largest memory of one process, MB.

    Its modules are compiled once, even if this machine's environment forbids it. Like a task of a job it
    has one thread (kit/cluster/launch.py).
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        words,
        cwd=harness.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words[:4])}: exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _changed(recipe: Recipe, path: Path) -> tuple[int, int]:
    """How many sentences of the one shard are not, without their marks, those in a file; of how many."""
    (shard,) = shards.complete(recipe)
    words = itertools.chain.from_iterable(shards.read(shards.part_file(shard.folder, shards.TRAIN)))
    changed = count = 0
    with path.open(encoding="utf-8", newline="\n") as lines:
        for sentence, line in itertools.zip_longest(words, lines, fillvalue=""):
            count += 1
            changed += shards.plain_text([sentence]).rstrip("\n") != line.rstrip("\n")
    return changed, count


def _write_sentences(recipe: Recipe, text: Path, path: Path) -> None:
    """The sentences that the chain gives to its segmenter, one a line."""
    normaliser = Normaliser(recipe.corpus.mode, recipe.corpus.normalise)
    with (
        text.open(encoding="utf-8", newline="\n") as lines,
        path.open("w", encoding="utf-8") as out,
    ):
        for line in lines:
            for normalised in normaliser.lines([line.rstrip("\r\n")])[0]:
                out.writelines(f"{sentence}\n" for sentence in sentences.split(normalised))


def _write_source(path: Path, source: Path, times: int, size: int = 5_000_000) -> None:
    """A source, its body `times` times over: about `size` bytes of a text, or the streams of a dump."""
    raw = source.read_bytes()
    if path.suffix != ".bz2":
        body = raw[: raw.index(b"\n\n", size) + 2]
        path.write_bytes(body * times)
        return
    header_end, ranges = wikipedia.stream_ranges(source, 1)
    closing = bz2.compress(b"</mediawiki>\n")
    body = raw[header_end : ranges[-1][0]]
    path.write_bytes(raw[:header_end] + body * 20 * times + closing)


def pretend_shards(folder: Path, count: int) -> list[str]:
    """Raw pieces and shards with manifests, as so many units would have left them; no text in them."""
    options = _one_source("plaintext", DEMO)
    recipe = resolve.load(DEMO, [f"workspace={folder}", *options], "local").recipe
    pieces = [
        {"name": f"text-{i:05d}", "source": "text", "kind": "plaintext", "path": str(DEMO)}
        | {"start": i, "end": i + 1, "xxh3": f"{i:032x}"}
        | {"size": DEMO.stat().st_size, "mtime_ns": DEMO.stat().st_mtime_ns}
        for i in range(count)
    ]
    raw = Workspace(folder).raw("text")
    raw.mkdir(parents=True)
    (source,) = units_of(download, recipe)
    manifest.commit(raw, source.causes, pieces=pieces)
    steps = {f"step {i}": {"documents": 1, "lines": 2, "characters": 3} for i in range(6)}
    files = [*(shards.part_file(raw, part).name for part in shards.PARTS), report.EXAMPLES]
    outputs = {file: {"size": 0, "xxh3": "0" * 32} for file in files}
    for shard in shards.expected(recipe):
        shard.folder.mkdir(parents=True)
        for file in files:
            (shard.folder / file).touch()
        # Not through manifest.commit, which syncs each file: minutes for 10,000.
        facts = {"causes": shard.causes, "outputs": outputs, "steps": steps}
        (shard.folder / MANIFEST).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return options
