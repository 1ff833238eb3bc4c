"""A Llama from tokens to its release: preempted once, and against one that was not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM

from kit.data import shards, tokens
from kit.relay.resolve import load
from kit.release import evaluate
from kit.store.files import read_json
from kit.store.paths import Workspace
from kit.tracking import ledger
from tests.relay import DEMO, TINY, curve, final_files
from tests.warm import command

from .conftest import ALONE, PREEMPTED_AT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.end_to_end

LLAMA = (
    *TINY, *ALONE, "model.architecture=llama", "model.n_kv_head=2", "model.rope_theta=5e5",
    "model.pad_vocab_to=64", "training.steps=8", "training.warmup_steps=2", "training.checkpoint_every=3",
    "training.validate_every=4", "name=llama",
)  # fmt: skip
PREEMPTED = PREEMPTED_AT.partition("=")[0] + "=5"


def test_a_preempted_llama_has_the_weights_of_one_that_was_not_and_is_released(
    workspace: Path,
) -> None:
    where = (str(DEMO), f"workspace={workspace}", *LLAMA)
    command("pipeline", "run", *where, PREEMPTED, "--until", "export")
    command("train", "run", *where, "name=straight")
    runs = [Workspace(workspace).run(name) for name in ("llama", "straight")]
    assert [len(ledger.attempts(run)) for run in runs] == [2, 1]
    assert final_files(runs[0]) == final_files(runs[1])
    assert curve(runs[0]) == curve(runs[1])

    export = runs[0].export
    recipe = load(DEMO, list(where[1:])).recipe
    model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32)
    assert type(model).__name__ == "LlamaForCausalLM"
    held_out = tokens.open_part(tokens.complete(recipe), shards.HELD_OUT, recipe)
    loss = evaluate.total_loss(model, held_out, recipe.model.n_positions) / (len(held_out) - 1)
    assert read_json(runs[0].evaluation / evaluate.SCORES)["loss"] == loss
    assert "| architecture | Llama (`LlamaForCausalLM`) |" in (export / "README.md").read_text()
