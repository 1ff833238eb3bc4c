"""What watching costs: a logged step, a look at a long run, and a training step with all of it.

    python -m tests.benchmarks.tracking [--json] [--only WORD]

logging: the training thread's time for a step, ledger and TensorBoard; look: `watch --once` on 600,000
rows in 300 attempts; step: seconds of a step with TensorBoard and MLflow and without. On two CPU cores;
under ten minutes.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from kit.plan.schedule import Schedule, Segment
from kit.relay import resolve
from kit.run import directory
from kit.store.files import write_json
from tests.benchmarks import harness, runs
from tests.benchmarks.training import BATCH, COMPARED, MODEL, STEADY
from tests.relay import DEMO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.store.paths import Run
    from kit.training.batches import Batches
    from kit.training.context import Context
    from kit.training.progress import Progress
    from tests.benchmarks.harness import Line, Options

_STEPS = 1000  # logged
_ATTEMPTS, _ROWS = 300, 2000  # attempts, and rows of each
_DAYS = 70
_PANDAS = """
import sys, pandas
rows = pandas.concat([pandas.read_json(path, lines=True) for path in sys.argv[1:]])
assert len(rows) == {rows}
"""


def logging(_: Options) -> Iterator[Line]:
    """Log the values of a step to the ledger and TensorBoard, and to a bare SummaryWriter."""
    from torch.utils.tensorboard import SummaryWriter

    from kit.store import records
    from kit.tracking.tensorboard import scalars
    from kit.training.exactness import Exactness
    from kit.training.recorder import LedgerRecorder

    with tempfile.TemporaryDirectory() as name:
        run = _prepare(Path(name), "tracking.mlflow=null")
        attempt = run.attempt(1)
        write_json(attempt.start, {"job": "1.0", "node": "n", "from_step": 0, "amendments": 0, "ranks": 8,
                                   "time": time.time()})  # fmt: skip
        project = resolve.read_run(run.root)
        context = SimpleNamespace(
            run=run, recipe=project.recipe, cluster=project.cluster, attempt=attempt,
            device=SimpleNamespace(is_gpu=False), collectives=SimpleNamespace(joined=time.time()),
        )  # fmt: skip
        batches = SimpleNamespace(stream=[], ranks=8, accumulation=8, global_batch=512, length=1024)
        recorder = LedgerRecorder(
            cast("Context", context), records.start(attempt), cast("Batches", batches), 0.25
        )
        training = project.recipe.training
        exact = Exactness({"facts": {}, "environment": {}}, [])
        recorder.begin(Schedule(training, (Segment(0, 1_000_000),)), 1_500_000_000, exact)
        peer = SummaryWriter(f"{name}/peer")  # type: ignore[no-untyped-call]
        ours, bare = [], []
        for step in range(1, _STEPS + 1):
            figures: Any = {"loss": 3.0 + 1 / step, "learning_rate": 3e-4, "gradient_norm": 0.5}
            usage: Any = {"seconds": 12.0, "data_seconds": 0.001, "slowest_rank": 3,
                          "slowest_behind": 0.01, "memory_bytes": 2**34}  # fmt: skip
            progress = cast("Progress", SimpleNamespace(step=step, sample=step * 512))
            values = scalars({"kind": "step", "step": step, **figures, **usage,  # type: ignore[misc]
                              "tokens": step * 512 * 1024, "tokens_per_second": 43_690.0,
                              "mfu": 0.4})  # fmt: skip

            def log_ours() -> None:
                recorder.step(progress, figures, {}, usage)  # noqa: B023  called at once

            def log_bare() -> None:
                for tag, value in values.items():  # noqa: B023
                    peer.add_scalar(tag, value, step)  # type: ignore[no-untyped-call]  # noqa: B023

            ours.append(_microseconds(log_ours))
            bare.append(_microseconds(log_bare))
            time.sleep(0.002)  # as in a run, writing goes on while the next step is computed
        peer.close()  # type: ignore[no-untyped-call]
        yield harness.compare(
            "the training thread's time for a step, median, ledger and TensorBoard", "µs",
            [statistics.median(ours)], [statistics.median(bare)],
            f"SummaryWriter.add_scalar for the same {len(values)} values", "ratio <= 1.0",
        )  # fmt: skip


def look(_: Options) -> Iterator[Line]:
    """Look at a run of 70 days, and read the same files with pandas."""
    with tempfile.TemporaryDirectory() as name:
        run = _prepare(Path(name), f"training.steps={_ATTEMPTS * _ROWS}")
        _write_history(run)
        files = [str(path) for path in sorted(run.attempts.glob("*/ledger.jsonl"))]
        read = _PANDAS.format(rows=_ATTEMPTS * _ROWS)

        def seconds(*words: str) -> float:
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - began

        ours, peer = harness.interleave(
            lambda: seconds("-m", "jobs.watch", str(run.root), "--once"),
            lambda: seconds("-c", read, *files),
            3,
        )
        yield harness.compare(
            f"watch --once on {_ATTEMPTS * _ROWS:,} rows in {_ATTEMPTS} attempts", "s", ours, peer,
            "pandas.read_json of the same files", "ratio <= 0.5",
        )  # fmt: skip


def step(_: Options) -> Iterator[Line]:
    """Train with TensorBoard and MLflow, and with the ledger alone, by turns of five seconds."""
    turns, steps = 10, 24
    # What publishes to MLflow outlives the ranks by a moment.
    folder_of_runs = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with folder_of_runs as name, ExitStack() as stack:
        folder = Path(name)
        runs.prepare_corpus(folder)
        settings = (*STEADY, *MODEL, *BATCH)
        watched = runs.make(folder, "watched", *settings)
        silent = ("tracking.tensorboard=false", "tracking.mlflow=null")
        bare = runs.make(folder, "silent", *settings, *silent)
        programs = []
        for run in (watched, bare):
            programs.append(stack.enter_context(runs.attempt(run)))
            runs.wait_until_published(run, programs[-1])
            programs[-1].pause()
        ours, peer = harness.take_turns(programs, turns, steps, warm=COMPARED)
    peer_name, bar = "the same with neither TensorBoard nor MLflow", "ratio <= 1.01"
    for title, seconds in (
        ("a training step with all of it", lambda turn: turn.step),
        ("its processor time, both ranks", lambda turn: turn.processor),
        ("the same with the publishing process", lambda turn: turn.processor + turn.helping),
    ):
        pairs = ([seconds(turn) for turn in one] for one in (ours, peer))
        yield harness.compare(title, "s", *pairs, peer_name, bar)


def _prepare(folder: Path, *overrides: str) -> Run:
    """A run directory as a submission makes it, without its tokens."""
    run: Run = directory.prepare(
        resolve.load(DEMO, [f"workspace={folder}", "name=long", *overrides], "local")
    )
    return run


def _write_history(run: Run) -> None:
    """Write the files of a run of 70 days: each attempt of six hours is preempted."""
    draw = random.Random(1)
    clock, saved = time.time() - _DAYS * 86_400, 0
    rows_of_requeues = []
    for number in range(1, _ATTEMPTS + 1):
        attempt, lines = run.attempt(number), []

        def add(kind: str, **fields: Any) -> None:
            row = {"kind": kind, "attempt": number, "time": clock, **fields}  # noqa: B023
            lines.append(json.dumps(row))  # noqa: B023

        write_json(attempt.start, {"job": f"1.{number - 1}", "ranks": 8, "node": "n", "from_step": saved,
                                   "amendments": 0, "time": clock})  # fmt: skip
        clock += 60
        add("attempt", step=saved, steps=_ATTEMPTS * _ROWS, ranks=8)
        began = saved
        for done in range(1, _ROWS - 4):
            clock += 9.7 + draw.random() / 5
            add("step", step=began + done, loss=3 + draw.random(), learning_rate=3e-4,
                gradient_norm=draw.random(), sample=(began + done) * 512, seconds=9.7,
                data_seconds=0.001, slowest_rank=3, slowest_behind=draw.random() / 100,
                memory_bytes=2**34, tokens_per_second=52_000 + draw.random(), mfu=0.4)  # fmt: skip
            if done % 480 == 0:
                saved = began + done
                add("checkpoint", step=saved, blocked=1.0, seconds=30.0, bytes=22 * 10**9)
        attempt.ledger.write_text("".join(f"{line}\n" for line in lines))
        assert len(lines) == _ROWS
        clock += 30
        rows_of_requeues.append({"time": clock, "job": f"1.{number - 1}", "name": "train", "requeued": True,
                                 "reason": "preemption", "progress": [number, saved]})  # fmt: skip
        clock += 300
    run.requeues.write_text("".join(f"{json.dumps(row)}\n" for row in rows_of_requeues))


def _microseconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return 1e6 * (time.perf_counter() - began)


MEASURES = {"logging": logging, "look": look, "step": step}

if __name__ == "__main__":
    sys.exit(harness.main(__doc__ or "", MEASURES))
