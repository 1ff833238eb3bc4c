"""Two ranks over gloo that abandon steps under a form of ZeRO, and print what became of the gradients.

    python -m tests.programs.two_ranks FOLDER RECIPE CASES

`CASES` is JSON: names of cases and their overrides of the recipe. Each rank prints an object for each case.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch
import torch.distributed as dist

from kit.config.load import load_recipe
from kit.data.tokens import TokenizerInfo
from kit.training.device import Device
from kit.training.engine import Engine
from kit.training.state_files import write
from kit.training.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCUMULATION = 3
VOCABULARY = TokenizerInfo(50, begin=1, end=2)
NOTHING = Limits(gradient_norm=-1.0)  # which no step keeps to
# No gradients: memory that is written before it is read, whether the last step was applied, and how many
# weights ZeRO-3 has gathered.
NOT_HELD = {
    "buffer", "temp_grad_buffer_for_cpu_offload", "temp_grad_buffer_for_gpu_offload", "_step_applied",
    "_PartitionedParameterCoordinator__n_available_params",
}  # fmt: skip
REDUCTIONS = ("all_reduce", "reduce_scatter_tensor")


Step = tuple[float, str]  # gradient norm, and a hash of the weights and moments after it


class Found(TypedDict):
    """What a rank found out in a case."""

    name: str
    rank: int
    parameters: int
    expected: list[Step]  # two steps
    abandoned: list[Step]  # the same amid steps that were abandoned or refused
    rolled_back: list[Step]  # the second of them, after a load amid another step
    left: list[str]  # places where something of an abandoned step was left
    held: int  # values that were compared for that
    crossed: list[dict[str, int]]  # numbers reduced over the ranks, by micro-batch of a step


def main(folder: Path, recipe: str, cases: dict[str, list[str]], rank: int) -> None:
    """Be a rank."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / "meeting"), 2), rank=rank, world_size=2
    )
    recorded = Recorder()
    for name, overrides in cases.items():
        trial = Trial(load_recipe(Path(recipe), overrides), rank, recorded)
        print(json.dumps({"name": name, **trial.run(folder / name / "state")}), flush=True)
    dist.barrier()
    dist.destroy_process_group()


class Recorder:
    """Counts the numbers that torch.distributed reduces over the ranks, by function and format."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()
        for name in REDUCTIONS:
            setattr(dist, name, self._counted(name, getattr(dist, name)))

    def take(self) -> dict[str, int]:
        """What was counted since the last time."""
        counts, self._counts = self._counts, collections.Counter()
        return dict(counts)

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def reduce(*given: Any, **named: Any) -> Any:
            tensors = [one for one in (*given, *named.values()) if isinstance(one, torch.Tensor)]
            largest = max(tensors, key=torch.Tensor.numel)
            self._counts[f"{name} {largest.dtype}"] += largest.numel()
            return function(*given, **named)

        return reduce


class Trial:
    """A case: the same steps with and without others that came to nothing."""

    def __init__(self, recipe: Any, rank: int, recorded: Recorder) -> None:
        self._recipe, self._rank, self._recorded = recipe, rank, recorded

    def run(self, state: Path) -> dict[str, Any]:
        """Run them; a checkpoint goes to the folder `state`."""
        straight = self._engine()
        expected = [self._step(straight, 0)]
        self._save(straight, state)
        expected.append(self._step(straight, 1))
        crossed = self._crossed(straight)
        again = self._engine()
        abandoned, left, held_values = self._amid_others(again)
        rolled_back = self._rolled_back(again, state)
        return {
            "rank": self._rank,
            "parameters": straight.parameters(),
            "expected": expected,
            "abandoned": abandoned,
            "rolled_back": rolled_back,
            "left": left,
            "held": held_values,
            "crossed": crossed,
        }

    def _amid_others(self, engine: Engine) -> tuple[list[Step], list[str], int]:
        """Steps, each after one that was abandoned or refused."""
        steps, left = [], []
        self._micro_batches(engine, 50, 1)
        engine.abandon()
        for number in range(2):
            steps.append(self._step(engine, number))
            engine.abandon()
            before = dict(held(engine._engine))
            self._micro_batches(engine, 60, 2 - number)
            engine.abandon()
            left += different(before, dict(held(engine._engine)))
            if number == 0:
                self._step(engine, 70, accept=False)
        return steps, left, len(before)

    def _rolled_back(self, engine: Engine, state: Path) -> list[Step]:
        """The step after the first one, from a checkpoint that is loaded amid another step."""
        zero = self._recipe.training.deepspeed["zero_optimization"]
        if zero["stage"] == 3:  # DeepSpeed cannot load one in mid-run
            return []
        self._micro_batches(engine, 80, 2)
        engine.load(state, 1)
        return [self._step(engine, 1)]

    def _crossed(self, engine: Engine) -> list[dict[str, int]]:
        """What crosses the ranks in each micro-batch of a step."""
        self._recorded.take()
        crossed = []
        for micro in range(ACCUMULATION):
            self._micro_batch(engine, 90, micro)
            crossed.append(self._recorded.take())
        engine.update(torch.zeros(1), Limits())
        return crossed

    def _engine(self) -> Engine:
        return Engine(self._recipe, Device("cpu", self._rank), ACCUMULATION, VOCABULARY)

    def _save(self, engine: Engine, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in engine.capture(1).items():
            write(folder / name, part)
        dist.barrier()

    def _step(self, engine: Engine, number: int, *, accept: bool = True) -> Step:
        self._micro_batches(engine, number, ACCUMULATION)
        engine.set_learning_rate(0.1)
        _, norm = engine.update(torch.zeros(1), Limits() if accept else NOTHING)
        values = "".join(value for _, value in held(engine._engine.optimizer.state))
        return norm, hashlib.sha256(values.encode()).hexdigest()

    def _micro_batches(self, engine: Engine, step: int, number: int) -> None:
        for micro in range(number):
            self._micro_batch(engine, step, micro)

    def _micro_batch(self, engine: Engine, step: int, micro: int) -> None:
        seed = 100 * step + 10 * micro + self._rank
        blocks = torch.randint(0, 50, (1, 9), generator=torch.Generator().manual_seed(seed))
        engine.micro_batch(blocks, seed, last=micro == ACCUMULATION - 1)


def different(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The places whose value is another one."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def held(root: object) -> Iterator[tuple[str, str]]:
    """All values in DeepSpeed's objects, by place: those of tensors as hashes of their bytes."""
    seen: set[int] = set()
    todo: collections.deque[tuple[str, Any]] = collections.deque([("", root)])
    while todo:
        place, value = todo.popleft()
        if place.rsplit(".", 1)[-1] in NOT_HELD:
            continue
        if isinstance(value, bool | int | float | str | None):
            yield place, repr(value)
            continue
        if isinstance(value, torch.Tensor):
            yield place, _digest(value)
        if id(value) not in seen:
            seen.add(id(value))
            todo.extend((f"{place}.{name}", inner) for name, inner in _inner(value))


def _inner(value: Any) -> Iterator[tuple[str, Any]]:
    """The named values within one."""
    if isinstance(value, dict):
        yield from (
            (str(key) if _is_name(key) else type(key).__name__, value[key]) for key in value
        )
    elif isinstance(value, list | tuple | set | frozenset | collections.deque):
        yield "length", len(value)
        yield from zip(map(str, itertools.count()), value, strict=False)
    if isinstance(value, torch.Tensor) and value.is_leaf:
        yield "grad", value.grad
    if isinstance(value, torch.Tensor | torch.nn.Module) or _is_deepspeeds(value):
        yield from getattr(value, "__dict__", {}).items()


def _is_name(key: object) -> bool:
    return isinstance(key, str | int | torch.dtype)


def _is_deepspeeds(value: object) -> bool:
    return type(value).__module__.startswith("deepspeed")


def _digest(value: torch.Tensor) -> str:
    if value.is_meta:
        return str(value.shape)
    data = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    child = os.fork()
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(child == 0))
    if child == 0:
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
