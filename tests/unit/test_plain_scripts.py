"""The plain batch scripts of sbatch/ against what `submit` sends."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from kit.cluster import launch, plain, slurm_queue, state
from kit.cluster.jobs import Job
from kit.config import load, presets
from kit.errors import RunError
from kit.relay import chain, plain_job
from kit.relay.prepare import Prepared, lines
from kit.relay.stages import STAGES
from kit.store.files import read_json, write_json, write_text

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.relay.stages import Stage
    from kit.store.paths import Run

ROOT = Path(__file__).parents[2]
BY_STAGE = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)


def work(run: Run, task: int, tasks: int) -> None:
    raise AssertionError


@pytest.fixture(scope="module")
def mdx() -> Cluster:
    return load.load_cluster("mdx", ROOT / "configs" / "demo.yaml", [])


def job_of(stage: Stage) -> Job:
    return Job(stage.name, work, 4 if stage.tasks else 1, stage.resources)


def text_of(stage: Stage) -> str:
    """The script, with the name of its stage in place of the variable."""
    text = presets.batch_script(stage.name).read_text(encoding="utf-8")
    return text.replace("'$stage'", stage.name).replace("$stage", stage.name)


def commands(script: str, program: str) -> list[list[str]]:
    """The words of each command of a program."""
    joined = script.replace("\\\n", "")
    found = [line for line in joined.splitlines() if line.startswith(f"{program} ")]
    return [shlex.split(line, comments=True) for line in found]


def as_plain(words: list[str], run: Run) -> list[str]:
    """Words of what `submit` sends, with the variables of a plain script for what they stand for."""
    python = shlex.quote(sys.executable)
    variables = {python: '"$python"', str(run.root): '"$run"', "trap ''": 'trap ""'}
    for value, variable in variables.items():
        words = [word.replace(value, variable) for word in words]
    return words


@BY_STAGE
def test_a_plain_script_has_the_options_of_the_job_that_is_submitted(
    stage: Stage, run: Run, mdx: Cluster
) -> None:
    found = plain.options(run, mdx, job_of(stage), text_of(stage))
    own = [f"--job-name=run-{stage.name}"]
    limit = 0 if stage.resources == "training" else mdx.resources_of(stage.resources).parallel
    array = [f"--array=0-3%{min(4, limit)}"] if stage.tasks else []
    assert sorted(found.options) == sorted(own + array)
    assert found.surplus == []


@BY_STAGE
def test_a_plain_script_has_the_trap_of_the_job_that_is_submitted(
    stage: Stage, run: Run, mdx: Cluster
) -> None:
    sent = launch.script(run, mdx, job_of(stage), [])
    traps = [as_plain(words, run) for words in commands(sent, "trap")]
    assert len(traps) == 2
    assert commands(text_of(stage), "trap") == traps
    (function,) = re.findall(r"^srun\(\) \{\n(.*?)^\}$", sent, re.MULTILINE | re.DOTALL)
    own = re.sub(r"(srun\(\) \{)  #.*", r"\1", text_of(stage))
    assert function in own


@BY_STAGE
def test_a_plain_script_starts_its_ranks_as_the_job_that_is_submitted(
    stage: Stage, run: Run, mdx: Cluster
) -> None:
    (sent,) = commands(launch.script(run, mdx, job_of(stage), []), "srun")
    (own,) = commands(text_of(stage), "srun")
    cpus = next(word for word in sent if word.startswith("--cpus-per-task="))
    own = [word.replace("$SLURM_CPUS_PER_TASK", cpus.partition("=")[2]) for word in own]
    of_setup = {"--output", *launch.srun_options(mdx, stage.resources)}  # in srun_options
    options = [word for word in sent if word.startswith("--") and word not in of_setup]
    assert [word for word in own if word.startswith("--") and "--output" not in word] == options
    (output,) = (word.partition("=")[2] for word in own if word.startswith("--output"))
    assert output == "${logs}_%t_log.out"
    program = ["${task_python[@]}", "-u", "-m", "kit.relay.plain_job", "work"]
    assert own[-8:] == [*program, "$run", stage.name, "$2"]
    assert f"stage={stage.name} section={stage.resources}\n" in text_of(stage)


@BY_STAGE
def test_a_plain_script_has_the_environment_of_the_job_that_is_submitted(
    stage: Stage, run: Run, mdx: Cluster
) -> None:
    site = mdx.model_copy(
        update={"setup": ["module load 'a b'"], "environment": {"A": "1 2", "PYTHONPATH": "/site"}}
    )
    sent = launch.script(run, site, job_of(stage), []).splitlines()
    expected = sent[sent.index("# setup") + 1 : sent.index("# command")]
    expected = expected[: next(n for n, line in enumerate(expected) if line.startswith("trap "))]
    code = shlex.quote(str(run.code))
    text = plain.setup(run, site)
    before, _, cases = text.partition("case $1 in\n")
    own = cases.partition(f"  {stage.resources})\n")[2].partition("    ;;\n")[0]
    set_up = [line.strip() for line in (before + own).splitlines()]
    made = [line.replace('"$run/code"', code) for line in set_up if not line.startswith("#")]
    arrays = ("python=", "task_python=(", "srun_options=(")
    assert sorted(line for line in made if not line.startswith(arrays)) == sorted(expected)
    assert made[0] == "module load 'a b'"


def test_options_of_srun_reach_the_sections_that_have_them(run: Run, mdx: Cluster) -> None:
    training = mdx.training.model_copy(update={"srun": {"mpi": "pmix", "label": "true"}})
    text = plain.setup(run, mdx.model_copy(update={"training": training}))
    assert re.findall(r"srun_options=\((.*)\)", text) == [
        *("", "", ""),
        "--distribution=block:block --mpi=pmix --label",
    ]


def test_an_option_that_the_cluster_file_lacks_is_named(run: Run, mdx: Cluster) -> None:
    arrays = mdx.arrays.model_copy(update={"memory_gb": None, "partition": "a b", "minutes": 5})
    (stage,) = (stage for stage in STAGES if stage.name == "tokenize")
    job = Job("tokenize", work, 9, "arrays", missing=(3, 12, 16, 25))
    found = plain.options(run, mdx.model_copy(update={"arrays": arrays}), job, text_of(stage))
    assert {"--array=3,7%2", "--partition=a b", "--time=5"} < {*found.options}
    assert found.surplus == ["--mem=4096M"]
    prepared = Prepared("tokenize", "count", found.options, found.surplus, Path("s"), run.root)
    _, remark, line = lines(run, [prepared])
    assert remark.startswith("# s has --mem=4096M")
    assert line.startswith("tokenize=$(sbatch --parsable --dependency=afterok:$count ")
    assert "'--partition=a b'" in line


def test_the_task_of_a_process_is_the_index_of_its_array_in_the_recipes_number() -> None:
    job = Job("tokenize", work, 4, "arrays")
    assert plain_job.task_of(job, {"SLURM_ARRAY_TASK_ID": "3"}) == (3, 4)
    assert plain_job.task_of(job, {}) == (0, 1)
    with pytest.raises(RunError, match=r"no task 4 of 4; use --array=0-3"):
        plain_job.task_of(job, {"SLURM_ARRAY_TASK_ID": "4"})


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch, run: Run) -> dict[str, str]:
    """The states of jobs that squeue knows, by id."""
    states: dict[str, str] = {}

    def known(run: Run) -> dict[str, str]:
        return {job: states[job] for job in slurm_queue.submitted(run).values() if job in states}

    monkeypatch.setattr(slurm_queue, "live_patiently", known)
    write_json(run.cluster, {"name": "mdx"})
    return states


def test_a_plain_job_is_on_record_beside_those_that_are_alive(
    run: Run, queue: dict[str, str]
) -> None:
    write_json(run.jobs, {"slurm": {"count": "7", "merge": "8", "train": "6"}, "time": 5.0})
    write_text(run.mistake("train"), "{}")
    write_text(run.stop, "")
    queue |= {"8": "RUNNING"}
    plain_job.begin(run, Job("train", work, resources="training"), {"SLURM_JOB_ID": "9"})
    record = read_json(run.jobs)
    assert (record["cluster"], record["slurm"]) == ("mdx", {"merge": "8", "train": "9"})
    sent = record["sent"]
    assert sent["merge"]["time"] == 5.0 < sent["train"]["time"]
    assert (sent["train"]["uid"], sent["train"]["first"]) == (os.getuid(), "9")
    running = state.Element("9", "RUNNING", "None", None, None, None)
    (alive,) = slurm_queue.alive_of(run, {"9": [running]})
    with pytest.raises(RunError, match=r"job 9 of this run is RUNNING, of a plain script"):
        chain._refuse_plain(SimpleNamespace(run=run), [alive])  # type: ignore[arg-type]
    assert not run.mistake("train").exists()
    assert not run.stop.exists()


def test_a_requeued_plain_job_leaves_its_record_alone(run: Run, queue: dict[str, str]) -> None:
    write_json(run.jobs, {"slurm": {"tokenize": "9"}, "time": 5.0})
    write_text(run.mistake("tokenize"), "{}")
    array = {"SLURM_JOB_ID": "11", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "2"}
    plain_job.begin(run, Job("tokenize", work, 4, "arrays"), array)
    assert read_json(run.jobs) == {"slurm": {"tokenize": "9"}, "time": 5.0}
    assert run.mistake("tokenize").exists()


def test_a_second_job_of_a_stage_is_refused(run: Run, queue: dict[str, str]) -> None:
    write_json(run.jobs, {"slurm": {"train": "8"}, "time": 5.0})
    queue |= {"8": "PENDING"}
    with pytest.raises(RunError, match=r"job 8, train of this run too, is PENDING; .* scancel 8"):
        plain_job.begin(run, Job("train", work, resources="training"), {"SLURM_JOB_ID": "9"})


@pytest.mark.parametrize(
    ("last", "warns"), [(1, True), (3, False)], ids=["half of the array", "all of it"]
)
def test_an_array_that_looks_whole_and_is_not_is_warned_of(
    run: Run, queue: dict[str, str], capfd: pytest.CaptureFixture[str], last: int, warns: bool
) -> None:
    array = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "9"}
    whole = {"SLURM_ARRAY_TASK_COUNT": f"{last + 1}", "SLURM_ARRAY_TASK_MAX": f"{last}"}
    plain_job.begin(run, Job("tokenize", work, 4, "arrays"), array | whole)
    out = "".join(capfd.readouterr())
    assert ("has 2 of 4 tasks" in out) == warns
