"""Jobs beside a training: what they are given of a run, and what they leave alone."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from jobs import evaluate
from kit.cluster import lock
from kit.config.cluster import Cluster
from kit.config.section import read_resolved
from kit.errors import CheckpointError, ConfigError, RunError
from kit.relay import resolve
from kit.release import checkpoint_jobs, source
from kit.store.files import file_hash, read_json, write_json
from kit.tracking import scores

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run
    from tests.conftest import Workdir


def add_checkpoint(run: Run, step: int, attempt: int) -> Path:
    folder = run.checkpoint(step, attempt)
    weights = folder / "state" / "weights.pt"
    weights.parent.mkdir(parents=True)
    weights.write_text(f"weights {step} of attempt {attempt}")
    file = {"size": weights.stat().st_size, "xxh3": file_hash(weights)}
    write_json(folder / "checkpoint.json", {"step": step, "files": {"weights.pt": file}})
    return folder


@pytest.fixture
def run(workdir: Workdir) -> Run:
    """The run of the small recipe, of 10 steps, with a checkpoint of step 5."""
    project = resolve.load(workdir.recipe_file)
    run = project.run
    write_json(run.recipe, project.recipe.model_dump(mode="json"))
    write_json(run.cluster, project.cluster.model_dump(mode="json"))
    write_json(run.attempt(1).start, {"from_step": 0})
    rows = [{"kind": "step", "step": s, "learning_rate": s * 0.00005} for s in range(1, 8)]
    run.attempt(1).ledger.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    add_checkpoint(run, 5, 1)
    return run


def given(workdir: Workdir, run: Run, *overrides: str, step: int = 5) -> Run:
    """The directory of the job that evaluates step 5, all laid out."""
    checkpoint_jobs.prepare(
        "evaluate", resolve.load(workdir.recipe_file, list(overrides)), step, print
    )
    return run.at(step).job("evaluate")


def test_a_job_keeps_the_checkpoint_that_its_run_removes(workdir: Workdir, run: Run) -> None:
    job = given(workdir, run)
    shutil.rmtree(run.checkpoint(5, 1))
    found = source.source_of(job)
    assert found.checkpoint.problem() is None
    assert (found.run, found.place) == (run, run.at(5))
    source.remove_links(job)
    with pytest.raises(CheckpointError, match=r"weights.pt is missing; give another --step"):
        source.require_files(source.source_of(job))


def test_the_moment_tells_how_far_training_had_come(workdir: Workdir, run: Run) -> None:
    moment = source.moment(given(workdir, run))
    assert moment == source.Moment(5, 10, 5 * 8 * 16, 0.00025)
    assert moment.words == (
        "training was not finished: step 5 of 10, 640 tokens seen, learning rate 0.00025"
    )


def test_a_checkpoint_that_goes_while_it_is_linked_is_one_line_and_leaves_nothing(
    workdir: Workdir, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The run prunes between the look and the link: for the test, within the first link itself.
    link = os.link

    def prune_then_link(path: Path, target: Path) -> None:
        shutil.rmtree(run.checkpoint(5, 1))
        link(path, target)

    monkeypatch.setattr(os, "link", prune_then_link)
    with pytest.raises(CheckpointError, match="removed by its run just now"):
        given(workdir, run)
    assert not list(run.at(5).root.rglob("*.*"))


def test_a_checkpoint_made_again_after_a_rollback_is_taken_in_place_of_the_old_one(
    workdir: Workdir, run: Run
) -> None:
    job = given(workdir, run)
    shutil.rmtree(run.checkpoint(5, 1))
    write_json(run.attempt(2).start, {"from_step": 0})
    fresh = add_checkpoint(run, 5, 2)
    assert checkpoint_jobs.state("evaluate", resolve.load(workdir.recipe_file), 5) == "stale"
    assert given(workdir, run) == job
    assert source.source_of(job).checkpoint.folder.name == fresh.name


def test_a_dry_run_shows_the_script_of_a_job_on_a_checkpoint_and_writes_nothing(
    workdir: Workdir, run: Run
) -> None:
    far = {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2}}
    cluster = str(workdir.write("far.yaml", far))
    before = {*workdir.folder.rglob("*")}
    words = ["submit", str(run.root), "--step", "5", "--cluster", cluster, "--dry-run", "--json"]
    done = CliRunner().invoke(evaluate.app, words, catch_exceptions=False)
    (job,) = json.loads(done.stdout)
    assert (job["name"], job["tasks"], job["depends_on"]) == ("evaluate", 1, [])
    assert "#SBATCH --job-name=small-evaluate-5\n" in job["script"]
    assert str(run.at(5).job("evaluate").root) in job["script"]
    assert {*workdir.folder.rglob("*")} == before


def test_the_code_of_all_jobs_is_one_copy_and_the_runs_own_is_not_touched(
    workdir: Workdir, run: Run
) -> None:
    job = given(workdir, run)
    add_checkpoint(run, 6, 1)
    other = given(workdir, run, step=6)
    assert job.code.resolve() == other.code.resolve()
    assert (job.code / "kit" / "errors.py").is_file()
    assert not run.code.exists()
    assert not run.jobs.exists()


@pytest.mark.parametrize(
    ("alive", "override", "device"),
    [
        (True, "cluster.single.gpus=0", "cpu"),
        (True, "cluster.single.gpus=1", "cuda"),
        (False, "cluster.single.gpus=0", "cuda"),
    ],
)
def test_no_gpu_is_taken_from_a_training_unless_the_cluster_says_so(
    workdir: Workdir, run: Run, alive: bool, override: str, device: str
) -> None:
    if alive:
        with lock.hold(run):
            job = given(workdir, run, "cluster.device=cuda", override)
    else:
        job = given(workdir, run, "cluster.device=cuda", override)
    assert read_resolved(job.cluster, Cluster).device == device
    assert read_json(run.cluster)["device"] == "cpu"


def test_a_recipe_that_is_not_the_runs_own_is_refused(workdir: Workdir, run: Run) -> None:
    project = resolve.load(workdir.recipe_file, ["training.seed=3"], refuse=False)
    with pytest.raises(RunError, match=r"training.seed: 0 -> 3"):
        checkpoint_jobs.submit("evaluate", project, 5, print)
    assert not run.beside.exists()


def test_two_jobs_for_one_result_are_refused_and_two_results_are_not(
    workdir: Workdir, run: Run
) -> None:
    project = resolve.load(workdir.recipe_file)
    with lock.hold(run), lock.hold(run.at(5).job("generate")):
        given(workdir, run)  # beside the training, and another result of the same step
        with (
            lock.hold(run.at(5).job("evaluate")),
            pytest.raises(RunError, match="is already running"),
        ):
            checkpoint_jobs.run("evaluate", project, 5, print)


def test_what_a_fork_was_begun_from_is_made_of_its_parent(workdir: Workdir, run: Run) -> None:
    add_checkpoint(run, 4, 0)
    write_json(run.attempt(1).start, {"from_step": 4})
    write_json(run.origin, {"run": "parent", "step": 4})
    with pytest.raises(
        CheckpointError, match=r"--step 4: .* forked from it; name the run parent, or a later"
    ):
        checkpoint_jobs.state("evaluate", resolve.load(workdir.recipe_file), 4)


def test_several_steps_or_all_are_taken_one_by_one(workdir: Workdir, run: Run) -> None:
    add_checkpoint(run, 7, 1)
    assert checkpoint_jobs.steps(run) == [5, 7]

    def planned(step: str) -> list[str]:
        words = ["run", str(workdir.recipe_file), "--step", step, "--dry-run"]
        done = CliRunner().invoke(evaluate.app, words, catch_exceptions=False)
        return [line.split("checkpoint of ")[1].split(";")[0] for line in done.stdout.splitlines()]

    assert planned("all") == planned("5,7") == ["step 5", "step 7"]
    assert planned("7") == ["step 7"]
    with pytest.raises(ConfigError, match="--step 5-7: not a step; give a number, several"):
        planned("5-7")


def test_all_steps_of_a_run_without_a_checkpoint_are_one_line(workdir: Workdir) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoint yet; train first"):
        checkpoint_jobs.steps(workdir.workspace.run("small"))


def test_scores_are_shown_by_step(workdir: Workdir, run: Run) -> None:
    def shown(*more: str) -> str:
        words = ["show", str(workdir.recipe_file), *more]
        return CliRunner().invoke(evaluate.app, words, catch_exceptions=False).stdout

    assert "no scores yet" in shown()
    row = {
        "kind": "score",
        "step": 5,
        "weights": "a",
        "task": "jnli",
        "metric": "acc",
        "value": 0.5,
    }
    scores.add(run, [row | {"main": True}, row | {"metric": "f1"}])  # type: ignore[list-item]
    assert shown().splitlines() == ["step  jnli/acc", "   5       0.5"]
    assert "jnli/f1" in shown("--every-metric").splitlines()[0]
    assert [one["metric"] for one in json.loads(shown("--json"))] == ["acc", "f1"]
