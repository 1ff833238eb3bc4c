"""Every path of a workspace and of a run, with the modules *_paths.py. No other module joins path strings.

WORKSPACE/raw/SOURCE/            raw text from jobs.download, cut into units
          fingerprints/UNIT/     hashes of the documents, if duplicates are removed
          duplicates/BUCKET/     lists of duplicate documents
          signatures/UNIT/       hashes of the n-grams of documents, if near-duplicates are removed
          bands/BUCKET/          pairs of near-duplicates
          near-duplicates/       the list of near-duplicates to leave out
          shards/UNIT/           training and held-out documents of a unit, and their manifest
          corpus-report/         documents and characters kept and dropped by each step
          word-counts/SPACES/GROUP/  word counts of a group of shards
          words/SPACES/          word counts of the whole corpus
          candidates/NAME/       a candidate tokenizer, and its measures
          tokenizer/             the chosen tokenizer: a folder for AutoTokenizer
          tokens/UNIT/           token files of a unit
          tokens/index.json      the list of token files, once all are complete
          mlflow.db, mlartifacts/  MLflow's data, if no server is named
          mlflow-server/         backups of the database of `jobs.watch mlflow`, and its host
          synthetic/NAME/        a workspace of random tokens, to rehearse before there are real ones
          checks/NAME/           the last check of the nodes for a run
          acceptance/NAME/       the report on whether a machine can train a recipe
          runs/NAME/             a run: its recipe, code, environment, and all its output
          runs/NAME/at/STEP/     results for one of its checkpoints, made during training, and
                                 jobs/COMMAND/: a run directory for each job that makes them
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kit.store.attempt_paths import Attempt
from kit.store.job_paths import JobFiles
from kit.store.service_paths import GuardFiles, ServerFiles
from kit.store.view_paths import Views

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Workspace:
    """The files shared by all runs on one corpus."""

    ACCEPTANCE: ClassVar = "-acceptance"  # after the name of a run: its acceptance
    REHEARSAL: ClassVar = "-rehearsal"  # after the name of a run: its rehearsal

    root: Path

    @property
    def folders(self) -> list[Path]:
        """Its top-level folders, which need not exist."""
        names = (
            "raw", "fingerprints", "duplicates", "signatures", "bands", "near-duplicates", "shards",
            "corpus-report", "word-counts", "words", "candidates", "tokenizer", "tokens", "runs",
        )  # fmt: skip
        return [self.root / name for name in names]

    def raw(self, source: str) -> Path:
        """The folder of a source's raw files."""
        return self.root / "raw" / source

    def shard(self, unit: str) -> Path:
        """The folder of a unit's documents."""
        return self.root.joinpath("shards", unit)

    def fingerprints(self, unit: str) -> Path:
        """The folder of a unit's fingerprints."""
        return self.root / "fingerprints" / unit

    def duplicates(self, bucket: int) -> Path:
        """The folder of one bucket's list of duplicates."""
        return self.root / "duplicates" / f"{bucket:05d}"

    def signatures(self, unit: str) -> Path:
        """The folder of the signatures of a unit's documents."""
        return self.root / "signatures" / unit

    def band(self, bucket: int) -> Path:
        """The folder of the pairs in one bucket of a band."""
        return self.root / "bands" / f"{bucket:05d}"

    @property
    def near_duplicates(self) -> Path:
        """The folder of the list of near-duplicates."""
        return self.root / "near-duplicates"

    @property
    def corpus_report(self) -> Path:
        """The folder of the report on all shards."""
        return self.root / "corpus-report"

    def word_counts(self, spaces: str, group: int) -> Path:
        """The folder of a group's word counts, for tokenizers with this treatment of spaces."""
        return self.root / "word-counts" / spaces / f"{group:05d}"

    def words(self, spaces: str) -> Path:
        """The folder of the word counts of the whole corpus."""
        return self.root / "words" / spaces

    @property
    def candidates(self) -> Path:
        """The folder of the candidate tokenizers."""
        return self.root / "candidates"

    def candidate(self, name: str) -> Path:
        """The folder of one candidate."""
        return self.candidates / name

    @property
    def pick(self) -> Path:
        """The user's choice among the candidates, which overrides the recipe's rule."""
        return self.candidates / "pick.json"

    @property
    def tokenizer(self) -> Path:
        """The folder of the chosen tokenizer."""
        return self.root / "tokenizer"

    def tokens(self, unit: str) -> Path:
        """The folder of a unit's tokens."""
        return self.root.joinpath("tokens", unit)

    @property
    def tokens_index(self) -> Path:
        """The index of all token files, written when every unit is complete."""
        return self.root / "tokens" / "index.json"

    @property
    def mlflow(self) -> Path:
        """MLflow's SQLite file."""
        return self.root / "mlflow.db"

    @property
    def mlflow_server(self) -> ServerFiles:
        """The files of the MLflow server that `jobs.watch mlflow` runs."""
        return ServerFiles(self.root / "mlflow-server")

    def synthetic(self, name: str) -> Workspace:
        """The workspace of random tokens for the rehearsal of a recipe."""
        return Workspace(self.root / "synthetic" / name)

    def acceptance(self, name: str) -> Run:
        """The report on whether a cluster can train a recipe, and its job, laid out as a run."""
        return Run(self.root / "acceptance" / name)

    @property
    def synthetic_mark(self) -> Path:
        """A marker file: the tokens of this workspace are random."""
        return self.root / "synthetic.json"

    def check(self, name: str) -> Run:
        """The directory of the job that checks the nodes for a run, laid out as a run."""
        return Run(self.root / "checks" / name)

    def run(self, name: str) -> Run:
        """A run of this workspace."""
        return Run(self.root / "runs" / name)

    def runs(self) -> list[Run]:
        """All runs of this workspace, by name."""
        return [Run(path) for path in sorted((self.root / "runs").glob("*"))]


@dataclass(frozen=True)
class Results:
    """The results for a model: folders with a manifest, as for any stage."""

    root: Path

    @property
    def evaluation(self) -> Path:
        """The scores of the model."""
        return self.root / "evaluation"

    @property
    def task_scores(self) -> Path:
        """Its scores on tasks, a folder each."""
        return self.root / "task-scores"

    @property
    def export(self) -> Path:
        """The model in release format."""
        return self.root / "export"

    @property
    def samples(self) -> Path:
        """Text generated by the model."""
        return self.root / "samples"


@dataclass(frozen=True)
class Run(Results, JobFiles, Views):
    """A run directory: the only input of a submitted job."""

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
        """The list of packages that every node must have."""
        return self.root / "environment.txt"

    @property
    def scores(self) -> Path:
        """The scores of all checkpoints, a JSON line each: the ledger of evaluations."""
        return self.root / "scores" / "ledger.jsonl"

    @property
    def identity(self) -> Path:
        """The id of the run, the same in all its attempts."""
        return self.root / "identity.json"

    @property
    def code(self) -> Path:
        """A link to the code that the jobs run."""
        return self.root / "code"

    @property
    def jobs(self) -> Path:
        """The last submission of each job."""
        return self.root / "jobs.json"

    @property
    def submitting(self) -> Path:
        """Exists while somebody submits jobs of this run, on any machine: who, in one line."""
        return self.root / "submitting.json"

    @property
    def setup(self) -> Path:
        """Lines that set up the shell of a job, for the plain batch scripts of sbatch/."""
        return self.root / "setup.sh"

    @property
    def requeues(self) -> Path:
        """The end of each start of a job, and the requeue decision: one JSON object per line."""
        return self.root / "requeues.jsonl"

    @property
    def stop(self) -> Path:
        """Create this file to save and end the training job; the next submission removes it."""
        return self.root / "STOP"

    @property
    def save(self) -> Path:
        """Create this file to request a checkpoint now; it is removed when the request is accepted."""
        return self.root / "SAVE"

    @property
    def profile(self) -> Path:
        """Create this file to profile the next steps; it is removed when the request is accepted."""
        return self.root / "PROFILE"

    @property
    def drills(self) -> Path:
        """Interruptions on purpose that the supervisor of this machine carries out."""
        return self.root / "drills.json"

    @property
    def amendments(self) -> Path:
        """Changes made during the run: one JSON object per line."""
        return self.root / "amendments.jsonl"

    @property
    def origin(self) -> Path:
        """The run and step that a fork started from."""
        return self.root / "fork.json"

    @property
    def supervisor(self) -> Path:
        """The process id of the supervisor of the run on this machine."""
        return self.root / "supervisor.pid"

    @property
    def attempts(self) -> Path:
        """The folder of the training job's attempts."""
        return self.root / "attempts"

    @property
    def begun(self) -> bool:
        """Whether training has begun or the run is a fork: from then on its recipe is fixed."""
        return self.attempts.is_dir() or self.origin.is_file()

    def attempt(self, number: int) -> Attempt:
        """The attempt of that number, from 1."""
        return Attempt(self.attempts / f"{number:04d}")

    def claimed_attempts(self) -> list[Attempt]:
        """The claimed attempts, in order; some may have died before they wrote anything."""
        if not self.attempts.is_dir():
            return []
        names = sorted(path.name for path in self.attempts.iterdir())
        return [self.attempt(int(name)) for name in names if name.isdigit()]

    @property
    def checkpoints(self) -> Path:
        """The folder of committed checkpoints, and of hidden, uncommitted ones."""
        return self.root / "checkpoints"

    def checkpoint(self, step: int, attempt: int) -> Path:
        """The folder of one checkpoint."""
        return self.checkpoints / f"step-{step:08d}.attempt-{attempt:04d}"

    def universal(self, checkpoint: Path) -> Path:
        """A folder to convert a checkpoint for another world size; removed once it is loaded."""
        return self.checkpoints / f".universal-{checkpoint.name}"

    def committed_checkpoints(self) -> dict[Path, tuple[int, int]]:
        """Step and attempt of every committed checkpoint, by folder, unordered."""
        if not self.checkpoints.is_dir():
            return {}
        folders = {path: checkpoint_numbers(path) for path in self.checkpoints.iterdir()}
        return {path: numbers for path, numbers in folders.items() if numbers is not None}

    @property
    def guard(self) -> GuardFiles:
        """The files of its guards."""
        return GuardFiles(self.root)

    def guard_elsewhere(self, states: Path, name: str) -> GuardFiles:
        """The same for a user who may not write here, by name in the folder `states` of that user."""
        return GuardFiles(states / "ekiden" / "guard" / name)

    @property
    def mlflow_log(self) -> Path:
        """The log of the process that publishes to MLflow."""
        return self.submissions / "mlflow.log"

    @property
    def beside(self) -> Path:
        """The folder of results for single checkpoints, made during training, and of their code."""
        return self.root / "at"

    def at(self, step: int) -> AtStep:
        """The results for the checkpoint of a step."""
        return AtStep(self.beside / f"step-{step:08d}")

    def made_at(self) -> list[AtStep]:
        """The steps that have results made during training, in order."""
        return [AtStep(path) for path in sorted(self.beside.glob("step-*"))]

    @property
    def moment(self) -> Path:
        """In the directory of a job on one checkpoint: the progress of the training at submission."""
        return self.root / "training.json"

    @property
    def job_at(self) -> AtStep | None:
        """In the directory of a job on one checkpoint: the results that it makes; else None."""
        return AtStep(self.root.parents[1]) if self.moment.is_file() else None


@dataclass(frozen=True)
class AtStep(Results):
    """The results for the checkpoint of one step, in folders named as those of a finished run.

    The job that makes them has a run directory of its own, with the checkpoint linked into it while needed:
    it writes nothing that the training job relies on.
    """

    @property
    def step(self) -> int:
        """The step of the checkpoint."""
        return int(self.root.name.removeprefix("step-"))

    @property
    def run(self) -> Run:
        """The run of the checkpoint."""
        return Run(self.root.parents[1])

    def job(self, command: str) -> Run:
        """The run directory of the job for a command."""
        return Run(self.root / "jobs" / command)


def checkpoint_numbers(folder: Path) -> tuple[int, int] | None:
    """Step and attempt in the name of a checkpoint's folder; None for any other name."""
    match = re.fullmatch(r"step-(\d{8})\.attempt-(\d{4})", folder.name)
    return (int(match[1]), int(match[2])) if match else None
