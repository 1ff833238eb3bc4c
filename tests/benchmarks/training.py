"""The training job against a bare DeepSpeed loop, the Hugging Face Trainer, and itself.

    python -m tests.benchmarks.training [--json] [--only WORD]

loop: seconds a step, and the losses; resume: from the start of the processes to the first new step;
checkpoint: how long a save blocks the loop; muon: what orthogonalising costs. Two ranks on CPUs over gloo
with a thread each. loss: see tests/benchmarks/losses.py. All of them take under ten minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.load import load_recipe
from tests.benchmarks import harness, late, losses, runs
from tests.relay import DEMO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.store.paths import Run
    from tests.benchmarks.harness import Line, Options

SCALE = 1e6  # a million
COMPARED = 50  # steps whose losses are compared
STEADY = (  # nothing but steps, at one learning rate, which the Trainer's schedules have as well
    "training.steps=1000000",
    "training.validate_every=1000000",
    "training.checkpoint_every=1000000",
    "training.precision=fp32",
    "training.decay=constant",
    "training.warmup_steps=0",
    "training.learning_rate=1e-3",
)
# A step of about 200 ms on two cores.
MODEL = ("model.n_layer=4", "model.n_embd=256", "model.n_positions=128")
BATCH = ("training.global_batch=8", "training.micro_batch=2")


def loop(_: Options) -> Iterator[Line]:
    """The kit's loop with each architecture beside a bare DeepSpeed loop and the Trainer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.prepare_corpus(folder)
        for architecture in ("gpt2", "llama"):
            yield from _loop(folder, architecture)


def _loop(folder: Path, architecture: str) -> Iterator[Line]:
    """By turns of five seconds."""
    turns, steps = 10, 24
    with ExitStack() as stack:
        chosen = f"model.architecture={architecture}"
        run = runs.make(folder, f"loop-{architecture}", *STEADY, *MODEL, *BATCH, chosen)
        outputs = {peer: folder / f"{architecture}-{peer}.jsonl" for peer in ("bare", "trainer")}
        programs = [stack.enter_context(runs.attempt(run))]
        runs.wait_until_published(run, programs[0])
        programs[0].pause()
        for peer, output in outputs.items():
            programs.append(stack.enter_context(runs.peer(peer, output, run)))
            programs[-1].wait_for(1)
            programs[-1].pause()
        # A turn is as long as the kit's pause between two publications to MLflow: a shorter one would
        # hold more than its share.
        found = harness.take_turns(programs, turns, steps, warm=COMPARED)
        ours, bare, trainer = ([turn.step for turn in one] for one in found)
        work, of_bare, of_trainer = ([turn.processor for turn in one] for one in found)
        title = f"a training step of {architecture} with ledger, TensorBoard and MLflow"
        yield harness.compare(title, "s", ours, bare, "a bare DeepSpeed loop", "ratio <= 1.03")
        peer_name = "the Hugging Face Trainer with DeepSpeed and TensorBoard"
        yield harness.compare(title, "s", ours, trainer, peer_name, "ratio <= 1.0")
        # Where others use the machine as well, this figure is the steadier one.
        title = f"processor time of a step of {architecture}, both ranks"
        yield harness.compare(title, "s", work, of_bare, "a bare DeepSpeed loop", "ratio <= 1.03")
        yield harness.compare(title, "s", work, of_trainer, peer_name, "ratio <= 1.0")
        losses, theirs = (
            [row["loss"] for row in program.rows("step")[:COMPARED]]
            for program in (programs[0], programs[2])
        )
        worst = max(range(COMPARED), key=lambda step: abs(losses[step] / theirs[step] - 1))
        yield harness.compare(
            f"loss of {architecture} at the step of {COMPARED} where the two differ most ({worst + 1})",
            "nats", [losses[worst]], [theirs[worst]], peer_name, "|ratio-1| <= 1e-4",
        )  # fmt: skip


def resume(_: Options) -> Iterator[Line]:
    """The same small run at step 10 and, with the ledger of a long life, at step 1,000,000."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.prepare_corpus(folder)
        young = late.at_ten(folder)
        old = late.at_a_million(folder, young)

        work: dict[Run, list[float]] = {young: [], old: []}

        def seconds(run: Run) -> float:
            began = time.time()
            with runs.attempt(run) as program:
                program.wait_for(1)
                work[run].append(program.processor_seconds())
                first = program.ended()[0]
            late.forget_last_attempt(run)
            return first - began

        seconds(young)  # brings the files of the libraries into memory
        work[young].clear()
        ours, peer = harness.interleave(lambda: seconds(old), lambda: seconds(young), 5)
        peer_name, bar = "the same at step 10", "ratio <= 1.1"
        title = "to the first new step, resumed at 1,000,000 of 2,000,000"
        yield harness.compare(
            f"from the start of the processes {title}", "s", ours, peer, peer_name, bar
        )
        yield harness.compare(
            f"processor time {title}", "s", work[old], work[young], peer_name, bar
        )


def save(_: Options) -> Iterator[Line]:
    """A run that saves every third step, beside a loop that writes, syncs and hashes in the step."""
    every, turns = 3, 6
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        runs.prepare_corpus(folder)
        # 26.8 M weights in fp32: 4 bytes of weights and 12 of optimizer each.
        model = ("model.n_layer=8", "model.n_embd=512", "model.n_head=8", "model.n_positions=128")
        batch = ("training.global_batch=2", "training.micro_batch=1")
        often = (f"training.checkpoint_every={every}",)
        run = runs.make(folder, "saves", *STEADY, *model, *batch, *often)
        ours = stack.enter_context(runs.attempt(run))
        ours.wait_for(1)
        ours.pause()
        output, target = folder / "bare.jsonl", str(folder / "saved")
        peer = stack.enter_context(runs.peer("bare", output, run, target))
        # A pause falls into the middle of a period, not into a save.
        warm = 2 * every + 1
        found = harness.take_turns([ours, peer], turns, every, warm, lead=every)
        steps = [[turn.step for turn in one] for one in found]
        saves = [program.rows("checkpoint") for program in (ours, peer)]
        count = min(map(len, saves))
        # The first save of either is no example: memory is allocated, files are new.
        blocked = [[row["blocked"] for row in rows[1:count]] for rows in saves]
        megabytes = saves[0][-1]["bytes"] / SCALE
        peer_name = "the same state written, synced and hashed in the loop"
        yield harness.compare(
            f"a checkpoint of {megabytes:.0f} MB keeps the loop",
            "s", *blocked, peer_name, "ratio <= 0.333",
        )  # fmt: skip
        yield harness.compare(
            f"a step of a run that saves {megabytes:.0f} MB every {every} steps",
            "s", *steps, peer_name, "ratio <= 1.0",
        )  # fmt: skip


def muon(_: Options) -> Iterator[Line]:
    """A step of a model 512 wide, with Muon and with AdamW: processor time of one thread.

    No bar: orthogonalising costs 300 width³ operations a layer and step, the products of a token 72 width²,
    so that the share falls with the tokens of a step. Here they are a five-hundredth of a real step's.
    """
    import torch

    from kit.data.tokens import TokenizerInfo
    from kit.training import optimizer
    from kit.training.language_model import LanguageModel

    torch.set_num_threads(1)
    model = ("model.n_layer=4", "model.n_embd=512", "model.n_head=8", "model.n_positions=128")
    blocks = torch.randint(0, 1000, (8, 129), generator=torch.Generator().manual_seed(0))

    def stepping(name: str) -> Callable[[], float]:
        chosen = load_recipe(DEMO, [*STEADY, *model, f"training.optimizer={name}"])
        trained = LanguageModel(chosen, TokenizerInfo(1000, begin=1, end=2))
        update = optimizer.of(trained, chosen.training)

        def seconds() -> float:
            began = time.process_time()
            trained(blocks).backward()
            update.step()
            update.zero_grad()
            return time.process_time() - began

        return seconds

    ours, peer = harness.interleave(stepping("muon"), stepping("adamw"), 3)
    more = 300 * 512 / (72 * blocks[:, 1:].numel())
    title = (
        f"a step of 1,024 tokens with Muon, 512 wide: {1 + more:.1f} times the products, computed"
    )
    yield harness.compare(title, "s", ours, peer, "with AdamW", "ratio >= 0")


MEASURES = {"loop": loop, "resume": resume, "checkpoint": save, "muon": muon, "loss": losses.loss}

if __name__ == "__main__":
    sys.exit(harness.main(__doc__ or "", MEASURES))
