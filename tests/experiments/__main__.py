"""Whether a change learns better: bits per byte of small models on held-out text, with seeds.

    python -m tests.experiments --data FILE ... [--only WORD ...] [--sizes 0.1M] [--seeds 5] [--jobs 2]

optimizer: AdamW or Muon; architecture: GPT-2 or Llama with as many parameters; schedule: cosine or wsd;
dropout: 0 or 0.1; tokenizer: lossless or the article's. Each variant has, at each size, the learning rate
that was best for it, of the same few, with a seed and documents of their own. Every finished run is a line
of FOLDER/results.jsonl: the same command continues after an interruption. `--show` prints the table of the
runs so far.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kit.data import index
from kit.errors import EkidenError
from tests.experiments import plan, results, table, text, training
from tests.experiments.variants import BASELINE, COMPARISONS, SIZES
from tests.relay import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.experiments.results import Row, Run
    from tests.experiments.variants import Size

_WORDS = ("optimizer", "architecture", "schedule", "dropout", "tokenizer")


def main(arguments: Sequence[str] | None = None, sizes: Mapping[str, Size] = SIZES) -> int:
    """Train what is missing, and print the table; returns the exit code."""
    options = _options(arguments, sizes)
    folder = options.folder
    try:
        if not options.show:
            names = _variants(options.only)
            text.prepare(folder, options.data, names)
            _train(options, sizes, names)
        rows = _valid(folder, sizes)
    except EkidenError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if not rows:
        print(f"{_file(folder)}: no run is finished yet", file=sys.stderr)
    every = table.lines(rows, list(sizes))
    lines = [
        one for one in every if one.size in options.sizes and _word(one.comparison) in options.only
    ]
    if options.json:
        print(json.dumps([asdict(line) for line in lines], ensure_ascii=False, indent=1))
    else:
        print(table.text(lines), table.swept(rows, options.sizes), sep="\n\n")
    return 0


def _train(options: argparse.Namespace, sizes: Mapping[str, Size], names: Sequence[str]) -> None:
    """Train until nothing is missing, `jobs` runs at a time, each in a process of one thread."""
    folder, jobs = options.folder, options.jobs
    scores = {row.run: row.bits_per_byte for row in _valid(folder, sizes)}
    with _pool(jobs) as pool:
        running: dict[Future[Row], Run] = {}
        while True:
            following = plan.following(scores, names, options.sizes, options.seeds)
            for run in following:
                if len(running) < jobs and run not in running.values():
                    running[pool.submit(training.train, folder, run, sizes[run.size])] = run
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                row = done.result()
                results.append(_file(folder), row)
                scores[running.pop(done)] = row.bits_per_byte
                _say(row, len(following))


def _pool(jobs: int) -> Executor:
    """Processes that import torch once each; this one, for a single job."""
    if jobs == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))


def _valid(folder: Path, sizes: Mapping[str, Size]) -> list[Row]:
    """The finished runs whose recipe and tokens are still the same, each once."""
    rows = (row for row in results.read(_file(folder)) if row.run.size in sizes)
    valid = {row.run: row for row in rows if row.causes == _causes(folder, row.run, sizes)}
    return [*valid.values()]


def _causes(folder: Path, run: Run, sizes: Mapping[str, Size]) -> str | None:
    """The causes that a run would have today; None for one of a workspace that is not made."""
    try:
        made = training.recipe(folder, run, sizes[run.size])
        return training.causes(made, index.load(made))
    except EkidenError:
        return None


def _variants(words: Sequence[str]) -> list[str]:
    chosen = [comparison.variant for comparison in COMPARISONS if _word(comparison.name) in words]
    return [BASELINE, *dict.fromkeys(chosen)]


def _word(comparison: str) -> str:
    """The word of --only for the name of a comparison."""
    return comparison.partition(",")[0]


def _say(row: Row, left: int) -> None:
    run = row.run
    print(
        f"{run.variant} {run.size} seed {run.seed} rate {run.rate:g}: {row.bits_per_byte:.4f} bits per "
        f"byte, {row.seconds:.0f} s; {left} runs known to be left",
        file=sys.stderr,
        flush=True,
    )


def _file(folder: Path) -> Path:
    return folder / "results.jsonl"


def _options(arguments: Sequence[str] | None, sizes: Mapping[str, Size]) -> argparse.Namespace:
    """The options, checked; those that are left out have their defaults."""
    parser = _parser(sizes)
    options = parser.parse_args(arguments)
    if options.show and (options.data or options.seeds or options.jobs):
        parser.error("--show trains nothing: leave out --data, --seeds and --jobs")
    options.only = options.only or _WORDS
    options.sizes = [name for name in sizes if name in (options.sizes or sizes)]
    options.seeds = 5 if options.seeds is None else options.seeds
    options.jobs = 1 if options.jobs is None else options.jobs
    if options.seeds < 2 or options.jobs < 1:
        parser.error("--seeds must be at least 2, --jobs at least 1")
    return options


def _parser(sizes: Mapping[str, Size]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", metavar="FILE", nargs="+", type=Path, default=[], help="text; else the demo's")
    add("--folder", type=Path, default=ROOT / "work" / "experiments", help="workspaces, results")
    add("--only", metavar="WORD", nargs="+", choices=_WORDS, help=", ".join(_WORDS))
    add("--sizes", nargs="+", choices=sizes, help="all by default")
    add("--seeds", metavar="N", type=int, help="runs of a variant and size, at least 2; 5")
    add("--jobs", metavar="N", type=int, help="runs at a time, with a thread each; 1")
    add("--json", action="store_true", help="print a list of objects")
    add("--show", action="store_true", help="train nothing: print the table of the runs so far")
    return parser


if __name__ == "__main__":
    sys.exit(main())
