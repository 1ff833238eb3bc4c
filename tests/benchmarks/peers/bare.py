"""A bare DeepSpeed loop on the model and optimizer of a recipe: what the kit's loop is measured against.

    RANK=0 ... python -m tests.benchmarks.peers.bare RECIPE OUTPUT

It takes blocks at random places of a memory-mapped token file, as nanoGPT does. Rank 0 writes the
Unix time and the loss of every step to OUTPUT. It runs until it is ended.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import deepspeed
import numpy as np
import torch

from kit import shards, tokens
from kit.config import Recipe, read_resolved
from kit.training.engine import configuration
from kit.training.model import LanguageModel, parameter_groups, special_tokens


def main(recipe_file: str, output: str) -> None:
    """The loop."""
    # An extension for inference, which would be compiled for a minute at every start.
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    recipe = read_resolved(Path(recipe_file), Recipe)
    training, length = recipe.training, recipe.model.n_positions
    torch.set_num_threads(1)
    deepspeed.init_distributed(dist_backend="gloo")
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    accumulation = training.global_batch // (training.micro_batch * ranks)
    torch.manual_seed(training.seed)
    model = LanguageModel(recipe, *special_tokens(recipe))
    betas = (training.beta1, training.beta2)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, training), lr=training.learning_rate, betas=betas
    )
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=configuration(recipe, accumulation)
    )
    data = tokens.open_part(tokens.complete(recipe), shards.TRAIN, recipe).files[0]
    chance = np.random.default_rng(rank)
    with Path(output).open("a", encoding="utf-8") as log:
        while True:
            total = 0.0
            for _ in range(accumulation):
                starts = chance.integers(len(data) - length, size=training.micro_batch)
                blocks = np.stack([data[at : at + length + 1].astype(np.int64) for at in starts])
                loss = engine(torch.from_numpy(blocks))
                engine.backward(loss)
                engine.step()
                total += loss.item()
            if rank == 0:
                log.write(json.dumps([time.time(), total / accumulation]) + "\n")
                log.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
