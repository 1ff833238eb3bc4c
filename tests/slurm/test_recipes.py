"""The recipes of the real runs, on eight ranks: nothing changed but width, depth, steps, and the text.

Half an hour each on two cores, so never part of `make test`:

    DUMP=path/to/jawiki-multistream.xml.bz2 .venv/bin/python -m pytest -m trial tests/slurm/test_recipes.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.store.files import read_json
from kit.store.paths import Workspace
from kit.tracking import ledger
from tests.dump import DUMP, needs_dump
from tests.relay import ROOT, command

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Slurm

pytestmark = [pytest.mark.trial, pytest.mark.slurm, pytest.mark.timeout(7200)]

SMALL = (
    "model.n_layer=2",
    "model.n_embd=160",  # heads of 8, or of 10
    "training.steps=2",
    "training.warmup_steps=1",
    f"corpus.sources.jawiki.location={DUMP.resolve()}",
    f"corpus.sources.cc100.location={ROOT / 'configs' / 'demo' / 'web.txt.xz'}",
    # A few documents of each hundred, where the recipe takes one of a thousand: the text is small.
    "corpus.held_out=0.03",
    "cluster.training.ranks_per_node=8",
    "cluster.training.gpus_per_node=8",
    "cluster.training.minutes=600",
    "release.prompts=[日本の]",
)


@needs_dump
@pytest.mark.parametrize("recipe", ["gpt2-xl-ja", "gpt2-xl-ja-article", "llama-1b-ja"])
def test_the_recipe_runs_on_eight_ranks(recipe: str, slurm: Slurm, tmp_path: Path) -> None:
    where = (f"workspace={tmp_path}", "--cluster", str(ROOT / "sbatch" / "slurm" / "cluster.yaml"))
    command("pipeline", "submit", str(ROOT / "configs" / f"{recipe}.yaml"), *SMALL, *where)
    run = Workspace(tmp_path).run(recipe)
    jobs = read_json(run.jobs)["slurm"]
    slurm.wait(jobs["generate"], "COMPLETED", timeout=7000)
    (begun,) = (read_json(attempt.start) for attempt in ledger.attempts(run))
    assert begun["ranks"] == 8
    steps = [row for row in ledger.canonical(run) if row["kind"] == "step"]
    print([(row["step"], row["loss"], row["tokens_per_second"]) for row in steps])
    assert [row["step"] for row in steps] == [1, 2]
    assert (run.export / "model.safetensors").is_file()
