"""A bare DeepSpeed loop on the model and optimizer of a recipe: what the kit's loop is measured against.

    RANK=0 ... python -m tests.benchmarks.peers.bare RECIPE OUTPUT [FOLDER]

It takes blocks at random places of a memory-mapped token file, as nanoGPT does. Rank 0 writes a row
for every step to OUTPUT. With FOLDER it saves there every `training.checkpoint_every` steps, and
goes on when the files of all ranks are on the disk, and hashed. It runs until it is ended.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import shards, tokens
from kit.store.files import file_hash
from kit.training.engine import configuration
from kit.training.language_model import LanguageModel, parameter_groups
from tests.benchmarks.peers import Rows


def main(recipe_file: str, output: str, folder: str | None = None) -> None:
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
    model = LanguageModel(recipe, tokens.tokenizer_info(recipe))
    betas = (training.beta1, training.beta2)
    optimizer = torch.optim.AdamW(
        parameter_groups(model.parameters(), training), lr=training.learning_rate, betas=betas
    )
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=configuration(recipe, accumulation)
    )
    data = tokens.open_part(tokens.complete(recipe), shards.TRAIN, recipe).files[0]
    chance = np.random.default_rng(rank)
    rows, step = Rows(output), 0
    while True:
        total = 0.0
        for _ in range(accumulation):
            starts = chance.integers(len(data) - length, size=training.micro_batch)
            blocks = np.stack([data[at : at + length + 1].astype(np.int64) for at in starts])
            loss = engine(torch.from_numpy(blocks))
            engine.backward(loss)
            engine.step()
            total += loss.item()
        step += 1
        if rank == 0:
            rows.add("step", loss=total / accumulation)
        if (
            folder is not None
            and training.checkpoint_every
            and step % training.checkpoint_every == 0
        ):
            blocked = _save(engine, Path(folder), step, rank)
            if rank == 0:
                rows.add("checkpoint", blocked=blocked)


def _save(engine: Any, folder: Path, step: int, rank: int) -> float:
    """Save, sync and hash; returns the seconds until all ranks have done so."""
    tag = f"step-{step}"
    torch.distributed.barrier()
    began = time.monotonic()
    engine.save_checkpoint(str(folder), tag=tag, save_latest=False)
    for path in (folder / tag).iterdir():
        if f"zero_pp_rank_{rank}_" in path.name or (rank == 0 and "model_states" in path.name):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            file_hash(path)
    torch.distributed.barrier()
    blocked = time.monotonic() - began
    if rank == 0:
        for old in folder.iterdir():
            if old.name.startswith("step-") and old.name != tag:
                shutil.rmtree(old)
    return blocked


if __name__ == "__main__":
    main(*sys.argv[1:])
