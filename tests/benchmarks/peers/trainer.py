"""The Hugging Face Trainer with DeepSpeed ZeRO-2 on the model, data and optimizer of a recipe.

    RANK=0 ... python -m tests.benchmarks.peers.trainer RECIPE OUTPUT

It sees the samples of the kit in the kit's order: accelerate deals micro-batches of a sequential
sampler to the ranks in turn, as the kit does. A block's labels are the tokens after it, which the
Trainer takes as `shift_labels`. It draws every step in TensorBoard, as the kit
does; rank 0 also writes a row for it to OUTPUT. It runs until it is ended.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import deepspeed  # noqa: F401  before its communication is set up below
import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import shards, tokens
from kit.models import architectures
from kit.training.engine import configuration
from tests.benchmarks.peers import Rows

_STEPS = 100_000  # it runs until it is ended


class Blocks(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Sample after sample of a run."""

    def __init__(self, recipe: Recipe, steps: int) -> None:
        self._row = tokens.open_part(tokens.complete(recipe), shards.TRAIN, recipe)
        self._length, self._seed = recipe.model.n_positions, recipe.training.seed
        self._size = steps * recipe.training.global_batch

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, sample: int) -> dict[str, torch.Tensor]:
        index = tokens.sample_block(sample, self._row.blocks(self._length), self._seed)
        block = torch.from_numpy(self._row.block(index, self._length))
        return {"input_ids": block[:-1], "labels": block[:-1], "shift_labels": block[1:]}


class Times(TrainerCallback):
    """The time and the loss of every step."""

    def __init__(self, output: str) -> None:
        self._rows = Rows(output)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Write a row."""
        if state.is_world_process_zero and logs and "loss" in logs:
            self._rows.add("step", loss=logs["loss"])


def main(recipe_file: str, output: str) -> None:
    """Train."""
    # An extension for inference, which would be compiled for a minute at every start.
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    recipe = read_resolved(Path(recipe_file), Recipe)
    training = recipe.training
    torch.set_num_threads(1)
    arguments = TrainingArguments(
        output_dir=str(Path(output).with_suffix(".trainer")),
        use_cpu=True,
        ddp_backend="gloo",
        max_steps=_STEPS,
        per_device_train_batch_size=training.micro_batch,
        gradient_accumulation_steps=(accumulation := _accumulation(recipe)),
        learning_rate=training.learning_rate,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        weight_decay=training.weight_decay,
        adam_beta1=training.beta1,
        adam_beta2=training.beta2,
        adam_epsilon=training.epsilon,
        max_grad_norm=training.clip,
        deepspeed=configuration(recipe, accumulation),
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        logging_steps=1,
        save_strategy="no",
        report_to="tensorboard",
        disable_tqdm=True,
        seed=training.seed,
    )
    vocabulary = tokens.tokenizer_info(recipe)
    architecture = architectures.of(recipe.model)
    config = architecture.configuration(vocabulary.size, begin=vocabulary.begin, end=vocabulary.end)
    torch.manual_seed(training.seed)
    model = getattr(transformers, architecture.model_class)(config)
    data = Blocks(recipe, _STEPS)
    Trainer(model, arguments, train_dataset=data, callbacks=[Times(output)]).train()


def _accumulation(recipe: Recipe) -> int:
    ranks = int(os.environ["WORLD_SIZE"])
    return recipe.training.global_batch // (recipe.training.micro_batch * ranks)


if __name__ == "__main__":
    main(*sys.argv[1:])
