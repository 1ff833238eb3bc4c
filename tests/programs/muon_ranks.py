"""Ranks over gloo that train with Muon, and write the weights that they end with.

    python -m tests.programs.muon_ranks FOLDER RANKS MEETING [RECIPE CASES]

They meet at the file `MEETING`. `CASES` is JSON: names, and for each a `Case` of an engine. Without it they
update matrices in flat parts, as ZeRO has them. A rank writes what it has to `FOLDER/NAME.RANK.pt`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TypedDict

import torch
import torch.distributed as dist

from kit.config.load import load_recipe
from kit.data.tokens import TokenizerInfo
from kit.models.architecture import Fused
from kit.training import weights
from kit.training.device import Device
from kit.training.engine import Engine
from kit.training.muon import GuardedMuon
from kit.training.orthogonal import Matrix
from kit.training.state_files import write
from kit.training.verdict import Limits

BATCH = 6  # blocks of a step, of which each rank has its share
STEPS = 4
VOCABULARY = TokenizerInfo(50, begin=1, end=2)
SETTINGS: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}
# On five ranks the third matrix is in the parts of three, and the last rank has padding only.
MATRICES = [Matrix(2, 3), Matrix(4, 2), Matrix(6, 9, Fused(1, 3)), Matrix(1, 1), Matrix(5, 2)]
PART = 20


class Case(TypedDict):
    """What an engine does."""

    overrides: list[str]
    load: str | None  # the folder of a state of two steps to go on from
    universal: bool
    save: str | None  # where to write the state of two steps


def gradients(step: int) -> list[torch.Tensor]:
    """Those of MATRICES at a step, the same on all ranks."""
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(m.rows, m.columns, generator=generator) for m in MATRICES]


def flat(tensors: list[torch.Tensor], rank: int) -> torch.Tensor:
    """A rank's part of tensors laid end to end."""
    whole = torch.cat([tensor.flatten() for tensor in tensors])
    padded = torch.cat([whole, torch.zeros(5 * PART - len(whole))])
    return padded[rank * PART : (rank + 1) * PART].clone()


def cut(folder: Path, rank: int) -> None:
    """Three steps over this rank's part of MATRICES, the second of which is refused."""
    part = torch.nn.Parameter(flat(gradients(0), rank))
    group = {"params": [part], "momentum": 0.9, "weight_decay": 0.1}
    optimizer = GuardedMuon([group], MATRICES, **SETTINGS)
    for step in (1, 2, 3):
        part.grad = flat(gradients(step), rank)
        optimizer._update(torch.tensor(float(step == 2)))
    moments = [optimizer.state[part][name].detach() for name in ("exp_avg", "step")]
    torch.save([part.detach(), *moments], folder / f"cut.{rank}.pt")


def train(folder: Path, recipe: str, cases: dict[str, Case], rank: int) -> None:
    """Run the cases one after another."""
    ranks = dist.get_world_size()
    for name, case in cases.items():
        engine = Engine(
            load_recipe(Path(recipe), case["overrides"]), Device("cpu", rank), BATCH // ranks,
            VOCABULARY, to_load=case["load"] is not None, universal=case["universal"],
        )  # fmt: skip
        if case["load"] is not None:
            engine.load(Path(case["load"]), 2)
            torch.save(held(engine), folder / f"{name}-loaded.{rank}.pt")
        for step in range(2 if case["load"] else 0, STEPS):
            if step == 2 and case["save"] is not None:
                _save(engine, 2, Path(case["save"]))
                torch.save(held(engine), folder / f"{name}-saved.{rank}.pt")
            _step(engine, step, rank, ranks)
        end = folder / name
        _save(engine, STEPS, end)
        if rank == 0:
            torch.save(weights.read(end, torch.float32, lambda: None), folder / f"{name}.pt")
        torch.save(held(engine), folder / f"{name}.{rank}.pt")


def held(engine: Engine) -> list[dict[str, torch.Tensor]]:
    """The weights of a rank's optimizer and their states, of each group."""
    optimizer = engine._optimizer
    groups = [group["params"] for group in optimizer.param_groups]
    return [
        {"weight": weight.detach().clone()}
        | {key: value.clone() for key, value in optimizer.state[weight].items()}
        for weights_of_group in groups
        for weight in weights_of_group
    ]


def _step(engine: Engine, step: int, rank: int, ranks: int) -> None:
    own = range(rank, BATCH, ranks)
    for index in own:
        generator = torch.Generator().manual_seed(BATCH * step + index)
        blocks = torch.randint(0, 50, (1, 9), generator=generator)
        engine.micro_batch(blocks, 0, last=index == own[-1])
    engine.set_learning_rate(0.01)
    engine.update(torch.zeros(1), Limits())


def _save(engine: Engine, step: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in engine.capture(step).items():
        write(folder / name, part)
    dist.barrier()


def main(rank: int) -> None:
    """Be a rank."""
    folder, ranks = Path(sys.argv[1]), int(sys.argv[2])
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))
    store = dist.FileStore(sys.argv[3], ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    if len(sys.argv) == 4:
        cut(folder, rank)
    else:
        train(folder, sys.argv[4], json.loads(sys.argv[5]), rank)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    children = []
    for rank in range(1, int(sys.argv[2])):
        if (child := os.fork()) == 0:
            main(rank)
            os._exit(0)
        children.append(child)
    main(0)
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
