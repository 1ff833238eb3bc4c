"""A run that is interrupted at random, held against one that is not.

    python -m tests.chaos --interruptions 50 --seed 1 [--slurm]

One line of JSON on standard output; progress on standard error. Exit code 1 where weights, optimizer
or ledger differ, where the run did not end, or where an interruption had another effect than it may.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.store.paths import Workspace
from tests.slurm.conftest import missing, running

from .course import Course, differences
from .course import overrides as of_course
from .drive import Drive, Stuck
from .kinds import FULL_DISK, LOCAL, SLURM
from .places import NAME, Local, OnSlurm, Place, SmallDisk, small_disk, temporary

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS_EACH = 12  # steps for an interruption, so that there is progress in between
DISK_MB = 2000  # two checkpoints, one in the making, and those put aside as broken


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--interruptions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slurm", action="store_true", help="on a real Slurm, started for it")
    parser.add_argument("--kinds", default="", metavar="REGEXP", help="only kinds with such names")
    parser.add_argument("--workspace", type=Path, help="a folder to keep; else a temporary one")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="in both runs")
    parser.add_argument("--mlflow", metavar="URI", help="publish there, and draw for TensorBoard")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without clearing up
    if given.slurm and (reason := missing()):
        parser.error(reason)
    report = chaos(
        given.interruptions,
        given.seed,
        given.workspace,
        slurm=given.slurm,
        kinds=given.kinds,
        mlflow=given.mlflow,
        overrides=given.set,
    )
    print(json.dumps(report))
    good = report["ended"] and not report["surprises"]
    keys = ("weights_equal", "optimizer_equal", "ledger_equal")
    return 0 if good and all(report[key] for key in keys) else 1


def chaos(
    interruptions: int,
    seed: int,
    workspace: Path | None,
    *,
    slurm: bool,
    kinds: str,
    mlflow: str | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Both runs, and the report."""
    began = time.monotonic()
    with ExitStack() as stack:
        root = workspace or Path(stack.enter_context(temporary()))
        watched = (f"tracking.mlflow={mlflow}", "tracking.tensorboard=true") if mlflow else ()
        steps = STEPS_EACH * (interruptions + 2)
        course = Course(root.resolve(), steps, of_course(overrides), watched)
        course.prepare()
        reference = course.reference()
        run = Workspace(course.workspace).run(NAME)
        disk = stack.enter_context(small_disk(run, DISK_MB))
        place: Place = OnSlurm(course, stack.enter_context(running())) if slurm else Local(course)
        full = FULL_DISK if isinstance(disk, SmallDisk) else ()
        every = (*(SLURM if slurm else LOCAL), *full)
        drive = Drive(
            course,
            place,
            [kind for kind in every if re.search(kinds, kind.name)],
            interruptions,
            random.Random(seed),
            disk if isinstance(disk, SmallDisk) else None,
        )
        stack.callback(drive.end)
        equal: dict[str, Any] = dict.fromkeys(
            ("weights_equal", "optimizer_equal", "ledger_equal"), False
        )
        why = None
        try:
            drive.go()
            equal = differences(run, reference)
        except (Stuck, AssertionError) as stuck:  # or a command that failed
            why = str(stuck)
            print(why, file=sys.stderr)
        return {
            **drive.report(),
            **equal,
            "ended": why is None,
            "why_not": why,
            "left_out": {} if isinstance(disk, SmallDisk) else {"disk full": disk},
            "cluster": "slurm" if slurm else "local",
            "seed": seed,
            "seconds": round(time.monotonic() - began),
        }


if __name__ == "__main__":
    sys.exit(main())
