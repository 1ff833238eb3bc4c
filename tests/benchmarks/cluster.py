"""What the cluster's commands cost: help, a dry run, large arrays, their status, and simulated runs.

    python -m tests.benchmarks.cluster [--json] [--only WORD]

All seconds are processor time, of a program and all that it starts. tasks: an array of 10,000 tasks and its
status, on the test Slurm of sbatch/slurm, which it brings up; it is left out where Slurm is not installed.
Under ten minutes on two CPU cores.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.ekiden import JOBS
from kit.plan.simulation.draws import Draws
from kit.plan.simulation.given import Chances, given
from kit.plan.simulation.runs import simulate
from kit.relay import planning, resolve
from kit.store.paths import MANIFEST, Workspace
from tests.benchmarks import harness
from tests.benchmarks.chain import pretend_shards
from tests.plain_simulation import play
from tests.relay import DEMO, FP32
from tests.slurm import conftest as slurm
from tests.slurm.trial import CLUSTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.plan.simulation.conditions import Conditions
    from tests.benchmarks.harness import Line, Options

_TASKS = 10_000
_RUNS, _PLAIN_RUNS = 10_000, 2
_MANIFESTS = """
import json, subprocess, sys
from pathlib import Path
subprocess.run(["squeue", "--me", "--array", "--noheader"], check=True)
found = [json.loads(path.read_bytes()) for path in Path(sys.argv[1]).glob("*/manifest.json")]
assert len(found) == {tasks}
"""
# Counts the calls, and makes them.
_SBATCH = """#!/bin/bash
echo >>'{calls}'
exec '{sbatch}' "$@"
"""


def help_(_: Options) -> Iterator[Line]:
    """The help of every job, the slowest one."""
    found = []
    for job in JOBS:
        ours, peer = harness.interleave(
            lambda job=job: harness.processor_seconds(["-m", f"jobs.{job}", "--help"]),  # type: ignore[misc]
            lambda: harness.processor_seconds(["-c", "import typer"]),
            7,
        )
        name = f"python -m jobs.{job} --help, the slowest of {len(JOBS)} jobs"
        found.append(harness.compare(name, "s", ours, peer, "import typer", "ratio <= 1.5"))
    yield max(found, key=lambda line: line.ratio)


def dry_run(_: Options) -> Iterator[Line]:
    """The scripts of the whole chain, printed."""
    with tempfile.TemporaryDirectory() as name:
        words = ["-m", "jobs.pipeline", "submit", str(DEMO), f"workspace={name}", FP32]
        ours, peer = harness.interleave(
            lambda: harness.processor_seconds([*words, "--cluster", CLUSTER, "--dry-run"]),
            lambda: harness.processor_seconds(["-c", "import submitit"]),
            5,
        )
    title = "submit --dry-run of the whole chain"
    yield harness.compare(title, "s", ours, peer, "import submitit", "ratio <= 4")


def tasks(_: Options) -> Iterator[Line]:
    """An array of 10,000 tasks: calls of sbatch, and its status with all its manifests there."""
    if reason := slurm.missing():
        print(f"tasks: left out: {reason}", file=sys.stderr, flush=True)
        return
    with tempfile.TemporaryDirectory() as name, slurm.running():
        folder = Path(name)
        options = pretend_shards(folder / "work", _TASKS)
        shards = Workspace(folder / "work").shard("any").parent
        manifests = {path: path.read_bytes() for path in shards.glob(f"*/{MANIFEST}")}
        for path in manifests:
            path.unlink()
        held = ("cluster.sbatch.hold=true", "--cluster", CLUSTER)
        words = [
            str(DEMO),
            f"workspace={folder / 'work'}",
            f"corpus.tasks={_TASKS}",
            *options,
            *held,
        ]
        calls = _count_calls(folder, ["-m", "jobs.preprocess", "submit", *words])
        yield harness.compare(
            f"calls of sbatch for {_TASKS:,} tasks, MaxArraySize 1001", "",
            [float(calls)], [10.0], "arrays of 1,000", "ours <= 12",
        )  # fmt: skip
        for path, manifest in manifests.items():
            path.write_bytes(manifest)
        plain = ["-c", _MANIFESTS.format(tasks=_TASKS), str(shards)]
        ours, peer = harness.interleave(
            lambda: harness.processor_seconds(["-m", "jobs.preprocess", "status", *words]),
            lambda: harness.processor_seconds(plain),
            5,
        )
        peer_name = f"one squeue, and {_TASKS:,} manifests read"
        title = f"status of {_TASKS:,} tasks"
        yield harness.compare(title, "s", ours, peer, peer_name, "ratio <= 2")


def simulation(_: Options) -> Iterator[Line]:
    """Seventy days, again and again."""
    conditions = _seventy_days()
    seeds = iter(range(3))
    plain = iter(range(0, 3 * _PLAIN_RUNS, _PLAIN_RUNS))
    ours, peer = harness.interleave(
        lambda: _simulated(conditions, next(seeds)), lambda: _played(conditions, next(plain)), 3
    )
    peer_name = f"{_PLAIN_RUNS} runs step by step in plain Python, times {_RUNS // _PLAIN_RUNS:,}"
    title = f"{_RUNS:,} simulated runs of seventy days, one core"
    yield harness.compare(title, "s", ours, peer, peer_name, "ours <= 60")


def _count_calls(folder: Path, words: list[str]) -> int:
    """How often a command calls sbatch."""
    calls, programs = folder / "calls", folder / "bin"
    programs.mkdir()
    sbatch = programs / "sbatch"
    sbatch.write_text(_SBATCH.format(calls=calls, sbatch=shutil.which("sbatch")), encoding="utf-8")
    sbatch.chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    harness.processor_seconds(words, os.environ | {"PATH": path})
    return calls.read_text(encoding="utf-8").count("\n")


def _seventy_days() -> Conditions:
    """The article's run on its node, with a preemption a day."""
    recipe = DEMO.parent / "gpt2-xl-ja-article.yaml"
    project = resolve.load(recipe, ["training.steps=277433"], "mdx")
    facts = planning.facts(project, 0.102)
    return given(project.recipe, project.cluster, facts, Chances(), None, None).conditions


def _simulated(conditions: Conditions, seed: int) -> float:
    began = time.process_time()
    simulate(conditions, _RUNS, seed)
    return time.process_time() - began


def _played(conditions: Conditions, first: int) -> float:
    began = time.process_time()
    for run in range(first, first + _PLAIN_RUNS):
        play(conditions, run, Draws())
    return (time.process_time() - began) * _RUNS / _PLAIN_RUNS


MEASURES = {"help": help_, "dry-run": dry_run, "tasks": tasks, "simulation": simulation}

if __name__ == "__main__":
    sys.exit(harness.main(__doc__ or "", MEASURES))
