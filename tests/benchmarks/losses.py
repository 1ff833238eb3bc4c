"""The loss a chunk at a time against torch's cross-entropy of all logits, and against recomputed chunks.

    python -m tests.benchmarks.training --only loss
    python -m tests.benchmarks.losses KIND       # its peak memory, in bytes

A vocabulary of 50,000, 2,048 tokens, 256 wide, chunks of 256, fp32, one thread: forward and backward pass.
Processor time by turns in one process; memory in a process of its own, by the kernel's count.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.harness import Line, Options

ENTRIES, TOKENS, WIDTH, CHUNK = 50_000, 2048, 256, 256
REPETITIONS = 5
PEERS = {
    "plain": ("cross_entropy of all logits", "ratio <= 1.1", "ratio <= 0.25"),
    "recomputed": ("checkpointed chunks", "ratio <= 1.0", "ratio <= 1.0"),
}


def loss(_: Options) -> Iterator[Line]:
    """Time and memory of one loss with its gradients."""
    work = works()
    for one in work.values():
        one()  # allocates and starts what later turns have
    title = f"loss and gradients of {TOKENS:,} tokens, vocabulary {ENTRIES:,}"
    taken = {kind: memory(kind) / 1e6 for kind in ("ours", *PEERS)}
    for kind, (peer, bar, bar_of_memory) in PEERS.items():
        times = harness.interleave(
            lambda: seconds(work["ours"]), lambda kind=kind: seconds(work[kind]), REPETITIONS
        )
        yield harness.compare(f"processor time of {title}", "s", *times, peer, bar)
        both = ([taken["ours"]], [taken[kind]])
        yield harness.compare(f"peak memory of {title}", "MB", *both, peer, bar_of_memory)


def works() -> dict[str, Callable[[], object]]:
    """What is compared, by kind."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    from kit.training import loss

    torch.set_num_threads(1)
    chance = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=chance).requires_grad_()
    weight = (0.02 * torch.randn(ENTRIES, WIDTH, generator=chance)).requires_grad_()
    labels = torch.randint(0, ENTRIES, (TOKENS,), generator=chance)

    def differentiated(value: torch.Tensor) -> None:
        hidden.grad = weight.grad = None
        value.backward()

    def ours() -> None:
        found = loss.mean(hidden, weight, labels, vocab_size=ENTRIES, chunk=CHUNK)
        differentiated(found.objective)

    def plain() -> None:
        differentiated(F.cross_entropy(F.linear(hidden, weight), labels))

    def recomputed() -> None:
        sums = loss.recomputed(hidden, weight, labels, vocab_size=ENTRIES, chunk=CHUNK, z=None)
        differentiated(sums.objective / TOKENS)

    return {"ours": ours, "plain": plain, "recomputed": recomputed}


def seconds(work: Callable[[], object]) -> float:
    """Its processor time."""
    began = time.process_time()
    work()
    return time.process_time() - began


def memory(kind: str) -> int:
    """The memory in bytes that a kind adds to that of its process."""
    words = [sys.executable, "-c", f"from {__name__} import main; main({kind!r})"]
    done = subprocess.run(words, cwd=harness.ROOT, check=True, capture_output=True, text=True)
    return int(done.stdout)


def main(kind: str) -> None:
    """Print the memory of a kind in this process."""
    work = works()[kind]
    before = _held("VmRSS")
    work()
    print(_held("VmHWM") - before)


def _held(name: str) -> int:
    """The memory of this process, now or at its most, in bytes: see man proc."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024
