"""The recipes of the real runs, on eight ranks: nothing changed but width, depth, batch, steps, and text.

Minutes each on two cores, so never part of `make test`:

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
    "training.global_batch=16",  # two micro-batches a rank
    "training.micro_batch=1",
    "training.validation_blocks=8",
    f"corpus.sources.jawiki.location={DUMP.resolve()}",
    f"corpus.sources.cc100.location={ROOT / 'configs' / 'demo' / 'web.txt.xz'}",
    # A few documents of each hundred, where the recipe takes one of a thousand: the text is small.
    "corpus.held_out=0.03",
    "cluster.training.ranks_per_node=8",
    "cluster.training.gpus_per_node=8",
    "cluster.training.minutes=600",
    "release.prompts=[日本の]",
)


# A Llama's inside has a width of its own: 3.5 times the model's.
RECIPES = {"gpt2-xl-ja": (), "llama-1b-ja": ("model.n_inner=560",), "gpt2-xl-ja-article": ()}


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The workspace of each recipe, two of which have the same tokens."""
    own, article = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("article")
    return dict.fromkeys(RECIPES, own) | {"gpt2-xl-ja-article": article}


@needs_dump
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipe_runs_on_eight_ranks(
    recipe: str, slurm: Slurm, workspaces: dict[str, Path]
) -> None:
    workspace = workspaces[recipe]
    where = (f"workspace={workspace}", "--cluster", str(ROOT / "sbatch" / "slurm" / "cluster.yaml"))
    small = (*SMALL, *RECIPES[recipe])
    command("pipeline", "submit", str(ROOT / "configs" / f"{recipe}.yaml"), *small, *where)
    run = Workspace(workspace).run(recipe)
    jobs = read_json(run.jobs)["slurm"]
    slurm.wait(jobs["generate"], "COMPLETED", timeout=7000)
    (begun,) = (read_json(attempt.start) for attempt in ledger.attempts(run))
    assert begun["ranks"] == 8
    steps = [row for row in ledger.canonical(run) if row["kind"] == "step"]
    print([(row["step"], row["loss"], row["tokens_per_second"]) for row in steps])
    assert [row["step"] for row in steps] == [1, 2]
    assert (run.export / "model.safetensors").is_file()
