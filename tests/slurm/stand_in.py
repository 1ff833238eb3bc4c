"""A run whose ranks are a few lines of bash: for trials of the traps of its batch shell, which are real.

    trial = StandIn(slurm, tmp_path, partition="low")
    job = trial.submit()

The script is the one that `submit` would send, srun starts real steps on real nodes, and the records are
those of the training; only the program of the ranks is another one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kit.cluster import decisions, launch
from kit.cluster.jobs import Job
from kit.config.cluster import Cluster
from kit.store.files import write_json
from kit.store.paths import Run
from tests.relay import ROOT, wait_until

from .trial import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from kit.cluster.decisions import RequeueRecord

    from .conftest import Slurm

# A rank that trains for ten minutes in its first start and is done at once in later ones. The file `answer`
# has its answer to a signal: leave, stay or stop. With `fail` each start fails, with `never` none is done.
_RANK = """#!/bin/bash
folder=$(dirname "$0"); run=$folder/run
token=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
token=${token:-$SLURM_JOB_ID}.${SLURM_RESTART_COUNT:-0}
end() {
  if ((SLURM_PROCID == 0)); then
    attempt=$run/attempts/$(printf %04d $(($(ls "$run/attempts" | wc -l) + 1)))
    mkdir "$attempt"
    printf '{"job": "%s", "outcome": "%s", "reason": "%s", "step": 5, "saved": 5}' "$token" "$1" "$2" \
      > "$attempt/end.json"
  fi
  exit $3
}
told() {
  [[ $(cat "$folder/answer") == stop ]] && { sleep 4; end stopped "STOP file" 75; }
  [[ $(cat "$folder/answer") == stay ]] || { sleep 0.5; end interrupted $1 75; }
}
trap 'told SIGTERM' TERM
trap 'told SIGUSR2' USR2
answer=$(cat "$folder/answer")
mkdir "$folder/starts/${SLURM_ARRAY_TASK_ID:-0}.$SLURM_PROCID" 2>/dev/null || [[ $answer == never ]] ||
  [[ $answer == fail ]] || end done "" 0
[[ $answer == fail ]] && { sleep 2; exit 3; }
for ((i = 0; i < 3000; i++)); do sleep 0.2; done
"""


@dataclass
class StandIn:
    """A run directory with its cluster file, and the folder of its stand-ins."""

    slurm: Slurm
    folder: Path
    name: str = "train"
    tasks: int = 1
    answer: str = "leave"
    setup: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in (self.run.attempts, self.run.checkpoints, self.folder / "starts"):
            folder.mkdir(parents=True)
        self.say(self.answer)
        self.program("rank", _RANK)
        srun = self.slurm.run("which", "srun").strip()
        self.program("srun", f"#!/bin/bash\nexec {srun} -n $SLURM_NTASKS {self.folder}/rank\n")
        self.run.code.symlink_to(ROOT)
        write_json(self.run.recipe, {"tracking": {"mlflow": None}})
        write_json(self.run.cluster, json.loads(self.cluster.model_dump_json()))

    @property
    def run(self) -> Run:
        return Run(self.folder / "run")

    @property
    def cluster(self) -> Cluster:
        whole = {"nodes": 2, "ranks_per_node": 1, "gpus_per_node": 8, "minutes": 60}
        return Cluster.model_validate(
            {
                "name": "trial",
                "kind": "slurm",
                "setup": [f"export PATH={self.folder}:$PATH", *self.setup],
                "arrays": {"gpus": 8, "partition": "low", "parallel": 8, **self.arrays},
                "training": {"partition": "low", **whole, **self.training},
            }
        )

    def say(self, answer: str) -> None:
        """Change the answer of the ranks to a signal."""
        (self.folder / "answer").write_text(answer)

    def program(self, name: str, text: str) -> None:
        """Put a program before others of its name on the PATH of the job."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def submit(self, *options: str) -> str:
        """Submit the job and wait until its ranks have started; returns its id."""
        resources = "training" if self.name == "train" else "arrays"
        job = Job(self.name, _no_work, self.tasks, resources)  # type: ignore[arg-type]
        logs = self.run.job_logs(self.name)
        logs.mkdir(parents=True, exist_ok=True)
        script = logs / "script.sh"
        script.write_text(launch.script(self.run, self.cluster, job, []))
        jobid = self.slurm.run("sbatch", "--parsable", *options, str(script)).strip()
        script.rename(logs / f"{jobid}_submission.sh")
        write_json(self.run.jobs, {"cluster": "trial", "time": 0.0, "slurm": {self.name: jobid}})
        wait_until(lambda: bool(self.started), "start", PATIENCE)
        return jobid

    @property
    def started(self) -> list[str]:
        """The ranks that have started for the first time, as TASK.RANK."""
        return [path.name for path in (self.folder / "starts").iterdir()]

    @property
    def rows(self) -> list[RequeueRecord]:
        """The decisions on its job."""
        return decisions.read(self.run)

    @property
    def reasons(self) -> list[tuple[bool, str]]:
        """Whether each start was followed by another, and why."""
        return [(row["requeued"], row["reason"]) for row in self.rows]

    @property
    def log(self) -> str:
        """What all starts of the job have printed."""
        return "".join(path.read_text() for path in self.run.job_logs(self.name).glob("*.out"))


def _no_work(run: Run, task: int, tasks: int) -> None:
    """Never called: the ranks are the stand-in's."""
