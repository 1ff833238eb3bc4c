"""The largest micro-batch that fits, found by rehearsals that really run out of memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kit.relay import planning, resolve
from kit.store.files import read_json
from tests import memory_group, warm
from tests.relay import DEMO

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.end_to_end

AUTO = "training.micro_batch=auto"
# Beyond what a rank has before its first step: enough for the logits of one block of 64 tokens, and not
# for those of thirteen, of 80 MB and as much for each of their gradients.
ROOM = 240_000_000
# A prime number of blocks: either all of them or one.
RECIPE = (
    "training.global_batch=13", "cluster.training.ranks_per_node=1", "model.n_layer=1",
    "model.n_embd=16", "model.n_head=2", "model.n_positions=64", "tokenizer.candidates=[]",
    "tokenizer.vocab_size=24000", "training.validation_blocks=1", "training.sample_tokens=null",
    "training.deepspeed={zero_optimization: {stage: 2, reduce_bucket_size: 100000}}",
    "training.loss_chunk=null", "tracking.mlflow=null", "tracking.tensorboard=false",
)  # fmt: skip


def test_a_rehearsal_steps_down_until_the_micro_batch_fits_and_a_submission_takes_it(
    tmp_path: Path,
) -> None:
    given = [f"workspace={tmp_path / 'work'}", *RECIPE, AUTO]
    assert resolve.load(DEMO, given, "local").recipe.training.micro_batch == 13
    words = ("train", "rehearse", str(DEMO), *given, "--steps", "10", "--synthetic", "--json")
    said = warm.training("tests.little_memory", str(ROOM), *words)
    found = json.loads(said[said.index("{\n") : said.rindex("}") + 1])["micro_batch"]
    assert (found["taken"], found["out_of_memory"]) == (1, [13]), said
    assert "training.micro_batch=13: does not fit into the memory of rank 0 (can't allocate" in said
    project = resolve.load(DEMO, given, "local")
    training = project.recipe.training
    reason = "rehearsed on local: the next below 13, which ran out of memory"
    assert (training.micro_batch, training.micro_batch_reason) == (1, reason)
    # The measured time of a step counts for the plan: it is that of this micro-batch.
    assert planning.facts(project)["time"]["seconds_a_step"]["source"] == "rehearsed"
    rehearsal = tmp_path / "work" / "synthetic" / "demo-rehearsal" / "runs" / "demo-rehearsal"
    assert read_json(rehearsal / "recipe.json")["training"]["micro_batch"] == 1


def test_a_rehearsal_steps_down_from_a_rank_that_the_kernel_killed_for_its_memory(
    tmp_path: Path,
) -> None:
    given = [f"workspace={tmp_path / 'work'}", *RECIPE, AUTO, "model.n_positions=128"]
    words = ("train", "rehearse", str(DEMO), *given, "--steps", "10", "--synthetic", "--json")
    # One block takes 180 MB in all, thirteen 460 MB.
    with memory_group.limited(300_000_000) as group:
        said = warm.training("tests.memory_group", str(group), *words)
    found = json.loads(said[said.index("{\n") : said.rindex("}") + 1])["micro_batch"]
    assert (found["taken"], found["out_of_memory"]) == (1, [13]), said
    (why,) = [line for line in said.splitlines() if "killed" in line]
    begin = "train: training.micro_batch=13: does not fit into the memory of rank 0 (killed by the kernel"
    end = "lower it, use fewer ranks, or give them more memory"
    assert f" {begin} for lack of memory; " in why
    assert why.endswith(f"; 300 MB is the limit of {group}); {end}")
    assert said.count("train: started") == 2  # each micro-batch once
