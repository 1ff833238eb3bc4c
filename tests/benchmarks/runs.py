"""Runs of the kit to be measured: a workspace from the demo's texts, and the ranks of an attempt.

The ranks are started as the local supervisor starts them: the same command, environment and entry
point; what is measured is read from the ledger.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kit.cluster import launch, local_task
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.relay import resolve
from kit.relay.stages import TRAIN
from kit.run import directory
from tests.benchmarks import harness
from tests.relay import DEMO, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.store.paths import Run

RANKS = 2


def prepare_corpus(folder: Path) -> None:
    """A workspace with the demo's tokens, made by the stages themselves."""
    for stage in ("download", "preprocess", "tokenizer", "tokenize"):
        command(stage, "run", str(DEMO), f"workspace={folder}", "corpus.unit_mb=100")


def make(folder: Path, name: str, *overrides: str) -> Run:
    """A run directory in that workspace, as a submission makes it."""
    project = resolve.load(
        DEMO, [f"workspace={folder}", "corpus.unit_mb=100", f"name={name}", *overrides], "local"
    )
    run = directory.prepare(project)
    local_task.announce(run, TRAIN.job(project.recipe))
    return run


@contextmanager
def attempt(run: Run) -> Iterator[harness.Program]:
    """The ranks of the next attempt, ended with the block."""
    cluster = read_resolved(run.cluster, Cluster)
    number = max((a.number for a in run.claimed_attempts()), default=0) + 1
    commands = []
    ranks = cluster.training.ranks
    for rank in range(ranks):
        place = local_task.of_job(run, "train-0", rank, ranks, number)
        commands.append((place.command, launch.job_environment(run, cluster) | place.environment))

    ledger = run.attempt(number).ledger
    folder = run.submissions / "benchmark"
    with harness.ranks("the kit", commands, ledger, folder) as program:
        yield program


def wait_until_published(run: Run, program: harness.Program) -> None:
    """Wait for the first step, and until MLflow has it if it is to: its import takes seconds."""
    program.wait_for(1)
    if read_resolved(run.recipe, Recipe).tracking.mlflow is not None:
        program.wait_until(run.mlflow_cursor.is_file, "rows in MLflow")


@contextmanager
def peer(name: str, output: Path, run: Run, *more: str) -> Iterator[harness.Program]:
    """The ranks of a program of tests/benchmarks/peers on a run's recipe; its rows go to `output`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": str(RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",  # as the kit has it, also where there is a GPU
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join([str(harness.ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    module = f"tests.benchmarks.peers.{name}"
    words = [sys.executable, "-u", "-m", module, str(run.recipe), str(output), *more]
    commands = [
        (words, common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(RANKS)
    ]

    with harness.ranks(name, commands, output, output.with_suffix(".logs")) as program:
        yield program
