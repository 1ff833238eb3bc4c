"""Every path of a workspace and of a run. No other module joins path strings.

WORKSPACE/raw/SOURCE/            what jobs.download brought, cut into units
          fingerprints/UNIT/     of each document, where duplicates are left out
          duplicates/BUCKET/     which documents those are
          shards/UNIT/           training and held-out documents of a unit, and their manifest
          corpus-report/         what each step kept and dropped
          word-counts/SPACES/GROUP/  how often each word stands in a group of shards
          words/SPACES/          the same of all of them
          candidates/NAME/       a tokenizer of the recipe's list, and what was measured of it
          tokenizer/             the one that was chosen: a folder AutoTokenizer loads
          tokens/UNIT/           token files of a unit
          tokens/index.json      which they are, once all are made
          mlflow.db, mlartifacts/  where no server is named
          synthetic/NAME/        a workspace of random tokens, for a rehearsal before there are others
          runs/NAME/             a run: its recipe, code, environment, and all it made
          runs/NAME/at/STEP/     what was made of one of its checkpoints beside the training, and
                                 jobs/COMMAND/: a run directory for each job that makes it
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Workspace:
    """The files that runs over one corpus share."""

    root: Path

    @property
    def folders(self) -> list[Path]:
        """The folders right below it, made or not."""
        names = (
            "raw",
            "fingerprints",
            "duplicates",
            "shards",
            "corpus-report",
            "word-counts",
            "words",
        )
        return [self.root / name for name in (*names, "candidates", "tokenizer", "tokens", "runs")]

    def raw(self, source: str) -> Path:
        """The folder of a source's raw files."""
        return self.root / "raw" / source

    def shard(self, unit: str) -> Path:
        """The folder of a unit's documents."""
        return self.root / "shards" / unit

    def fingerprints(self, unit: str) -> Path:
        """The folder of a unit's fingerprints."""
        return self.root / "fingerprints" / unit

    def duplicates(self, bucket: int) -> Path:
        """The folder of one bucket's list of duplicates."""
        return self.root / "duplicates" / f"{bucket:05d}"

    @property
    def corpus_report(self) -> Path:
        """The report on all shards."""
        return self.root / "corpus-report"

    def word_counts(self, spaces: str, group: int) -> Path:
        """The folder of a group's word counts, for tokenizers that take spaces so."""
        return self.root / "word-counts" / spaces / f"{group:05d}"

    def words(self, spaces: str) -> Path:
        """The folder of the word counts of the whole corpus."""
        return self.root / "words" / spaces

    @property
    def candidates(self) -> Path:
        """What was trained and measured to choose from."""
        return self.root / "candidates"

    def candidate(self, name: str) -> Path:
        """The folder of one candidate."""
        return self.candidates / name

    @property
    def pick(self) -> Path:
        """A user's choice among the candidates, which stands before the recipe's rule."""
        return self.candidates / "pick.json"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's folder."""
        return self.root / "tokenizer"

    def tokens(self, unit: str) -> Path:
        """The folder of a unit's tokens."""
        return self.root / "tokens" / unit

    @property
    def tokens_index(self) -> Path:
        """Says that the tokens of all units are made, and which files they are."""
        return self.root / "tokens" / "index.json"

    @property
    def mlflow(self) -> Path:
        """MLflow's sqlite file."""
        return self.root / "mlflow.db"

    def synthetic(self, name: str) -> Workspace:
        """The workspace of random tokens for a rehearsal of a recipe."""
        return Workspace(self.root / "synthetic" / name)

    @property
    def synthetic_mark(self) -> Path:
        """Says that the tokens of this workspace are random."""
        return self.root / "synthetic.json"

    def run(self, name: str) -> Run:
        """A run of this workspace."""
        return Run(self.root / "runs" / name)

    def runs(self) -> list[Run]:
        """All runs of this workspace, by name."""
        return [Run(path) for path in sorted((self.root / "runs").glob("*"))]


@dataclass(frozen=True)
class Results:
    """What becomes of weights: folders with a manifest, as of every stage."""

    root: Path

    @property
    def evaluation(self) -> Path:
        """The scores."""
        return self.root / "evaluation"

    @property
    def export(self) -> Path:
        """The model in the form of a release."""
        return self.root / "export"

    @property
    def samples(self) -> Path:
        """Text that the model wrote."""
        return self.root / "samples"


@dataclass(frozen=True)
class Run(Results):
    """A run directory: the one thing a submitted job is given."""

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.root / "recipe.json"

    @property
    def cluster(self) -> Path:
        """The resolved cluster."""
        return self.root / "cluster.json"

    @property
    def environment(self) -> Path:
        """The packages every node must have."""
        return self.root / "environment.txt"

    @property
    def identity(self) -> Path:
        """The run's own id, from the first attempt to the last."""
        return self.root / "identity.json"

    @property
    def code(self) -> Path:
        """The code that runs."""
        return self.root / "code"

    @property
    def jobs(self) -> Path:
        """What was submitted last, by job."""
        return self.root / "jobs.json"

    @property
    def submissions(self) -> Path:
        """submitit's pickles and scripts, and the output of every task."""
        return self.root / "logs"

    def job_logs(self, job: str) -> Path:
        """The part of `submissions` that belongs to a job."""
        return self.submissions / job

    def mistake(self, job: str) -> Path:
        """The user's mistake that ended a job, which is not to be tried again."""
        return self.job_logs(job) / "failure.json"

    @property
    def requeues(self) -> Path:
        """How each start of a job ended, and whether it was requeued: a JSON object a line."""
        return self.root / "requeues.jsonl"

    @property
    def stop(self) -> Path:
        """A user makes this file to end the training job, saved; the next submission removes it."""
        return self.root / "STOP"

    @property
    def save(self) -> Path:
        """A user makes this file to have a checkpoint now; it is removed when that is asked for."""
        return self.root / "SAVE"

    @property
    def amendments(self) -> Path:
        """What was changed in mid-run: a JSON object a line."""
        return self.root / "amendments.jsonl"

    @property
    def origin(self) -> Path:
        """Of a fork: the run and the step it was begun from."""
        return self.root / "fork.json"

    @property
    def supervisor(self) -> Path:
        """The process id of whoever works on the run on this machine."""
        return self.root / "supervisor.pid"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor in the background says."""
        return self.submissions / "supervisor.log"

    @property
    def forkserver_log(self) -> Path:
        """What the process says from which the tasks of this machine are forked."""
        return self.submissions / "forkserver.log"

    @property
    def attempts(self) -> Path:
        """The attempts of the training job."""
        return self.root / "attempts"

    @property
    def begun(self) -> bool:
        """Whether weights of this run are there or being made: from here on its recipe stays."""
        return self.attempts.is_dir() or self.origin.is_file()

    def attempt(self, number: int) -> Attempt:
        """One attempt, counted from 1."""
        return Attempt(self.attempts / f"{number:04d}")

    def claimed_attempts(self) -> list[Attempt]:
        """The attempts that were claimed, in order; one may have died before it wrote anything."""
        if not self.attempts.is_dir():
            return []
        return [
            self.attempt(int(name))
            for name in sorted(p.name for p in self.attempts.iterdir())
            if name.isdigit()
        ]

    @property
    def checkpoints(self) -> Path:
        """Committed checkpoints, and hidden ones that are not."""
        return self.root / "checkpoints"

    def checkpoint(self, step: int, attempt: int) -> Path:
        """The folder of one checkpoint."""
        return self.checkpoints / f"step-{step:08d}.attempt-{attempt:04d}"

    def universal(self, checkpoint: Path) -> Path:
        """A folder to convert a checkpoint in, for another number of ranks; removed when it is read."""
        return self.checkpoints / f".universal-{checkpoint.name}"

    def committed_checkpoints(self) -> dict[Path, tuple[int, int]]:
        """Step and attempt of every committed checkpoint, by its folder, in no order."""
        if not self.checkpoints.is_dir():
            return {}
        found = {path: checkpoint_numbers(path) for path in self.checkpoints.iterdir()}
        return {path: numbers for path, numbers in found.items() if numbers is not None}

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.root / "tensorboard"

    @property
    def mlflow_cursor(self) -> Path:
        """How far MLflow has been told."""
        return self.root / "mlflow-cursor.json"

    @property
    def beside(self) -> Path:
        """What is made of single checkpoints beside the training, and the code that makes it."""
        return self.root / "at"

    def at(self, step: int) -> AtStep:
        """The place for what is made of the checkpoint of a step."""
        return AtStep(self.beside / f"step-{step:08d}")

    def made_at(self) -> list[AtStep]:
        """The steps of which something was made beside the training, in order."""
        return [AtStep(path) for path in sorted(self.beside.glob("step-*"))]

    @property
    def moment(self) -> Path:
        """Of the directory of a job beside the training: how far the training had come."""
        return self.root / "training.json"

    @property
    def job_at(self) -> AtStep | None:
        """Of the directory of a job beside the training: the place for what it makes."""
        return AtStep(self.root.parents[1]) if self.moment.is_file() else None


@dataclass(frozen=True)
class AtStep(Results):
    """What was made of the checkpoint of one step; its folders are named as those of a finished run.

    A job that makes one of them has a directory of its own in the form of a run directory, with the
    checkpoint in it as long as it needs it: nothing that the training job relies on is written.
    """

    @property
    def step(self) -> int:
        """Of the checkpoint."""
        return int(self.root.name.removeprefix("step-"))

    @property
    def run(self) -> Run:
        """The run that the checkpoint is of."""
        return Run(self.root.parents[1])

    def job(self, command: str) -> Run:
        """The run directory of the job of a command."""
        return Run(self.root / "jobs" / command)


def checkpoint_numbers(folder: Path) -> tuple[int, int] | None:
    """Step and attempt of a checkpoint's folder, None for another name."""
    match = re.fullmatch(r"step-(\d{8})\.attempt-(\d{4})", folder.name)
    return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class Attempt:
    """The directory of one attempt of the training job."""

    root: Path

    @property
    def number(self) -> int:
        """Counted from 1."""
        return int(self.root.name)

    @property
    def start(self) -> Path:
        """Job, host, port, and the step it started from."""
        return self.root / "start.json"

    @property
    def ledger(self) -> Path:
        """Rows, one JSON object a line."""
        return self.root / "ledger.jsonl"

    @property
    def hang(self) -> Path:
        """The step that did not end, where the attempt ended itself for that."""
        return self.root / "hang.json"

    @property
    def end(self) -> Path:
        """How it ended; absent after a crash."""
        return self.root / "end.json"
