"""A rank killed at each moment of a save: what is resumed is whole, and the run ends as if nothing was."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.store.files import read_json
from kit.tracking import ledger
from tests.relay import command, copy_of
from tests.speed import LONG

from .course import Course, differences

if TYPE_CHECKING:
    from kit.store.paths import Run

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

KILLER = Path(__file__).parent / "killer"
EVERY = 2  # steps from checkpoint to checkpoint


@dataclass(frozen=True)
class Moment:
    """A moment of the second save of an attempt, as killer/sitecustomize.py knows it."""

    name: str
    rank: int
    event: str
    pattern: str
    after: bool = False
    nth: int = 2  # the first save of an attempt succeeds


EVERY_MOMENT = (
    Moment("the staging directory is made", 0, "os.mkdir", r"/\.step-[^/]*$", after=True),
    Moment("the model's file is opened", 0, "open", r"/\.step-[^/]*/.*model_states"),
    Moment("the shard of rank 1 is opened", 1, "open", r"/\.step-[^/]*/.*_rank_1_.*optim_states"),
    Moment("rank 1 has said done", 1, "os.rename", r"/\.step-[^/]*/done-1\.json$", after=True),
    Moment("the manifest is written", 0, "os.rename", r"/\.step-[^/]*/checkpoint\.json$"),
    Moment("the rename", 0, "os.rename", r"/step-[^/]*$"),
    Moment("just after the rename", 0, "os.rename", r"/step-[^/]*$", after=True),
)
# Each kind of them always: while files are written, when all are, at the rename, after it.
MOMENTS = EVERY_MOMENT if LONG else (EVERY_MOMENT[1], *EVERY_MOMENT[4:])
COMMITTED = "just after the rename"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tokens: Path) -> tuple[Run, Run]:
    """A run that is killed at every moment, and one that is not."""
    workspace = copy_of(tokens, tmp_path_factory.mktemp("moments"))
    tiny = (
        "model.n_layer=1",
        "model.n_embd=32",
        "model.n_head=2",
        "model.n_positions=32",
        "training.optimizer=muon",  # AdamW trains embeddings, biases and norms
        "training.global_batch=4",
        "training.micro_batch=2",
        "training.validate_every=7",
        "training.validation_blocks=2",
        f"training.checkpoint_every={EVERY}",
        "tracking.mlflow=null",
        "tracking.tensorboard=false",
    )
    course = Course(workspace, 2 * EVERY * len(MOMENTS), tiny)
    reference = course.reference()
    run = course.run("killed")
    (workspace / "moments.json").write_text(json.dumps([asdict(moment) for moment in MOMENTS]))
    command(
        "train", "run", *course.arguments(
            "killed",
            f"cluster.environment.PYTHONPATH={run.code}:{KILLER}",
            f"cluster.environment.EKIDEN_KILLER={workspace}",
        )
    )  # fmt: skip
    return run, reference


@pytest.mark.parametrize("number", range(len(MOMENTS)), ids=[moment.name for moment in MOMENTS])
def test_a_killed_save_is_never_resumed(runs: tuple[Run, Run], number: int) -> None:
    run, _ = runs
    killed, after = (read_json(a.start) for a in ledger.attempts(run)[number : number + 2])
    assert (run.root.parents[1] / f"done-{number}").exists()
    assert not run.attempt(number + 1).end.exists()
    whole = killed["from_step"] + EVERY
    if MOMENTS[number].name == COMMITTED:  # the second save, which waits until the first is written
        assert after["from_step"] > whole
        whole = after["from_step"]
    assert after["checkpoint"] == run.checkpoint(whole, number + 1).name


def test_a_run_killed_at_every_moment_of_a_save_ends_as_one_that_was_not(
    runs: tuple[Run, Run],
) -> None:
    run, reference = runs
    assert len(ledger.attempts(run)) == len(MOMENTS) + 1
    assert all(differences(run, reference).values()), differences(run, reference)
