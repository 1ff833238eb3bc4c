"""Amendments: what may change in mid-run, what may not, and what is on record."""

from __future__ import annotations

import json
import math
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from jobs import train
from kit.cluster import amend_queued, launch, slurm_queue
from kit.config import amendments
from kit.config.fields import dotted_keys
from kit.config.load import changed_recipe
from kit.config.recipe import Recipe
from kit.config.section import Section
from kit.errors import ClusterError, ConfigError, RunError
from kit.plan import schedule
from kit.relay import resolve
from kit.relay.stages import TRAIN
from kit.run import directory
from kit.run.environment import check_environment
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run
    from tests.conftest import Workdir

NO_ROWS: list[dict[str, Any]] = []


@pytest.fixture
def submitted(workdir: Workdir) -> Run:
    """The run directory of the small recipe, whose training has begun; without code and packages."""
    project = resolve.load(workdir.recipe_file)
    run = project.run
    write_json(run.recipe, project.recipe.model_dump(mode="json"))
    write_json(run.cluster, project.cluster.model_dump(mode="json"))
    write_json(run.attempt(1).start, {"from_step": 0, "amendments": 0})
    return run


@pytest.fixture
def whole(workdir: Workdir) -> Run:
    """The same with all that a submission writes."""
    run = directory.prepare(resolve.load(workdir.recipe_file))
    write_json(run.attempt(1).start, {"from_step": 0, "amendments": 0})
    return run


def amend(run: Run, *changes: str, code: bool = False, schedule: Any = None) -> None:
    train.amend_verb(run.root, list(changes), code, schedule)


def refused(run: Run, *changes: str, schedule: Any = None) -> str:
    """The one line of an amendment that is refused, and changes nothing."""
    before = {path: path.read_bytes() for path in (run.recipe, run.cluster)}
    rows = amendments.read(run)
    with pytest.raises(ConfigError) as caught:
        amend(run, *changes, schedule=schedule)
    assert {path: path.read_bytes() for path in before} == before
    assert amendments.read(run) == rows
    assert "\n" not in str(caught.value)
    return str(caught.value)


def keys_and_values(run: Run) -> list[tuple[str, Any, Any]]:
    return [(row["key"], row["old"], row["new"]) for row in amendments.read(run)]


def test_an_amendment_is_on_record_and_in_effect(submitted: Run) -> None:
    amend(
        submitted,
        "training.steps=30",
        "training.health.loss_spike=3",
        "cluster.training.minutes=90",
    )
    assert keys_and_values(submitted) == [
        ("training.steps", 10, 30),
        ("training.health.loss_spike", None, 3.0),
        ("cluster.training.minutes", 60, 90),
    ]
    assert read_json(submitted.recipe)["training"]["steps"] == 30
    assert read_json(submitted.recipe)["training"]["health"]["loss_spike"] == 3.0
    assert read_json(submitted.cluster)["training"]["minutes"] == 90


def test_what_is_so_already_is_not_on_record(
    submitted: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    amend(submitted, "training.steps=10")
    assert amendments.read(submitted) == NO_ROWS
    assert "nothing to change" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        "training.epochs=3", "training.checkpoint_every=2", "training.checkpoint_every=null",
        "training.keep=5", "training.keep_every=100", "training.save_tries=3",
        "training.save_pause=5", "training.validate_every=2", "training.micro_batch=1",
        "training.health.on_bad_step=stop", "tracking.mlflow=null", "release.prompts=[駅伝は]",
        "release={max_new_tokens: 5}", "cluster.training.minutes=90",
        "cluster.training.ranks_per_node=4", "cluster.environment.A=b", "cluster.arrays.retries=5",
    ],
)  # fmt: skip
def test_what_changes_nothing_that_was_computed_may_change(submitted: Run, change: str) -> None:
    amend(submitted, change)
    assert amendments.read(submitted)


@pytest.mark.parametrize(
    "change",
    ["training.learning_rate=2e-3", "training.seed=1", "training.global_batch=16", "name=other"],
)
def test_what_is_for_a_fork_is_refused_and_says_so(submitted: Run, change: str) -> None:
    line = refused(submitted, change)
    assert "allowed: cluster.*, training.steps, " in line
    assert f"ekiden train fork {submitted.root} --at STEP name=NEW" in line


def test_every_key_of_a_recipe_is_amended_or_forked_or_bound_by_decision() -> None:
    decided = (*amendments.MAY_CHANGE, *amendments.BOUND)
    named = {key for key in dotted_keys(Recipe) if f"{key}." not in decided}
    forked = {key for key in named if not amendments.is_in(key, decided)}
    assert forked == {
        "model", "training",
        "name", "training.micro_batch_reason",
        "model.rope_theta", "model.dropout", "model.activation", "model.attention",
        "model.activation_checkpointing", "training.global_batch", "training.seed",
        "training.labels", "training.learning_rate", "training.minimum_learning_rate",
        "training.warmup_steps", "training.decay", "training.decay_share", "training.decay_shape",
        "training.weight_decay", "training.muon_momentum", "training.beta1", "training.beta2",
        "training.epsilon",
        "training.clip", "training.gradient_dtype", "training.loss_chunk", "training.compile",
            "training.loss_kernel", "training.z_loss",
        "training.deterministic", "training.validation_blocks", "training.deepspeed",
    }  # fmt: skip


def test_a_mark_on_a_key_that_a_section_does_not_have_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        type("Wrong", (Section,), {"BOUND": frozenset({"layers"})})


@pytest.mark.parametrize(
    "change",
    [
        "model.n_layer=2", "model.architecture=llama", "corpus.held_out=0.2", "tokenizer.vocab_size=900",
        "tokens.tasks=3", "workspace=elsewhere", "training.precision=bf16",
    ],
)  # fmt: skip
def test_what_binds_a_checkpoint_is_for_a_run_of_its_own(submitted: Run, change: str) -> None:
    line = refused(submitted, change)
    assert line.startswith(change.split("=", maxsplit=1)[0])
    assert "start a new run" in line
    assert "fork" not in line


def test_another_cluster_is_for_a_submission(submitted: Run) -> None:
    assert "another --cluster" in refused(submitted, "cluster.kind=slurm")


def test_an_unknown_key_is_refused(submitted: Run) -> None:
    assert "did you mean steps?" in refused(submitted, "training.step=30")


def test_one_bad_key_and_nothing_is_amended(submitted: Run) -> None:
    refused(submitted, "training.steps=30", "training.seed=1")
    assert "minutes=0" in refused(submitted, "training.steps=30", "cluster.training.minutes=0")


def test_the_tree_is_checked_as_a_whole(submitted: Run) -> None:
    assert "give steps or epochs" in refused(submitted, "training.steps=null")
    line = refused(submitted, "cluster.training.ranks_per_node=3")
    assert "3 ranks cannot share training.global_batch=8" in line
    amend(submitted, "cluster.training.ranks_per_node=8", "training.micro_batch=1")


def test_an_amendment_that_could_not_be_trained_is_refused(submitted: Run) -> None:
    recipe = read_json(submitted.recipe)
    recipe["training"]["deepspeed"] = {"zero_optimization": {"stage": 3}}
    write_json(submitted.recipe, recipe)
    line = refused(submitted, "training.health.on_bad_step=rollback")
    assert "DeepSpeed cannot load a checkpoint in mid-run under ZeRO-3" in line
    amend(submitted, "training.health.on_bad_step=stop")


def test_a_record_that_newer_rules_refuse_loads_and_is_amended(submitted: Run) -> None:
    recipe = read_json(submitted.recipe)
    recipe["release"] |= {"license": "no-longer-listed", "prompts": ["　"]}
    recipe["training"] |= {"precision": "bf16", "gradient_dtype": "fp16"}
    recipe["training"]["deepspeed"] = {"zero_optimization": {"stage": 2}, "no_such_key": 1}
    write_json(submitted.recipe, recipe)
    assert resolve.load(submitted.root).recipe.release.license == "no-longer-listed"
    assert "release.license='nor-is-this'" in refused(submitted, "release.license=nor-is-this")
    assert "prompt 0 is empty; write a prompt" in refused(submitted, "release.prompts=[' ']")
    assert "training.steps=0: " in refused(submitted, "training.steps=0")
    own = changed_recipe(resolve.read_run(submitted.root).recipe, ["training.keep=3"])
    assert (own.training.keep, own.release.prompts) == (3, ["　"])


def test_an_end_in_the_past_is_refused(submitted: Run) -> None:
    submitted.checkpoint(5, 1).mkdir(parents=True)
    assert "would end at step 4, but its newest checkpoint is of step 5" in refused(
        submitted, "training.steps=4"
    )
    amend(submitted, "training.steps=5")


def test_an_amendment_without_a_change_is_a_mistake(submitted: Run) -> None:
    assert "training.steps=200" in refused(submitted)


def test_what_is_no_run_directory_is_a_mistake(workdir: Workdir) -> None:
    for place in (workdir.folder, workdir.folder / "nowhere", workdir.recipe_file):
        with pytest.raises(ConfigError, match="run directory"):
            train.amend_verb(place, ["training.steps=30"])


def test_the_unchanged_recipe_is_still_the_runs(workdir: Workdir, submitted: Run) -> None:
    amend(submitted, "training.steps=30", "cluster.training.minutes=90")
    project = resolve.load(workdir.recipe_file)
    assert (project.recipe.training.steps, project.cluster.training.minutes) == (30, 90)
    directory.prepare(project)
    assert read_json(submitted.recipe)["training"]["steps"] == 30
    assert read_json(submitted.cluster)["training"]["minutes"] == 90


def test_a_recipe_that_has_the_new_value_is_the_runs_too(workdir: Workdir, submitted: Run) -> None:
    amend(submitted, "training.steps=30")
    directory.prepare(resolve.load(workdir.recipe_file, ["training.steps=30"]))


def test_a_recipe_with_a_value_the_run_never_had_is_another(
    workdir: Workdir, submitted: Run
) -> None:
    amend(submitted, "training.steps=30")
    with pytest.raises(RunError, match=r"training\.steps: 30 -> 31"):
        directory.prepare(resolve.load(workdir.recipe_file, ["training.steps=31"]))


def test_the_last_amendment_counts(workdir: Workdir, submitted: Run) -> None:
    for steps in (30, 20, 10, 40):
        amend(submitted, f"training.steps={steps}")
    for steps in (10, 20, 30, 40):
        assert (
            resolve.load(workdir.recipe_file, [f"training.steps={steps}"]).recipe.training.steps
            == 40
        )


def test_an_amended_cluster_counts_on_that_cluster_alone(workdir: Workdir, submitted: Run) -> None:
    amend(submitted, "cluster.training.minutes=90", "cluster.environment.A=b")
    tree = {"name": "other", "kind": "local", "training": {"ranks_per_node": 2}}
    other = str(workdir.write("other.yaml", tree))
    assert resolve.load(workdir.recipe_file, [], other).cluster.training.minutes == 60
    own = resolve.load(workdir.recipe_file).cluster
    assert (own.training.minutes, own.environment) == (90, {"A": "b"})


def test_a_newer_value_of_the_cluster_file_stands(workdir: Workdir, submitted: Run) -> None:
    amend(submitted, "cluster.training.minutes=90")
    loaded = resolve.load(workdir.recipe_file, ["cluster.training.minutes=45"])
    assert loaded.cluster.training.minutes == 45


def test_a_crash_after_the_record_is_made_good_by_the_next_submission(
    workdir: Workdir, submitted: Run
) -> None:
    before = submitted.recipe.read_bytes()
    amend(submitted, "training.steps=30")
    submitted.recipe.write_bytes(before)
    assert resolve.read_run(submitted.root).recipe.training.steps == 30
    directory.prepare(resolve.load(workdir.recipe_file))
    assert read_json(submitted.recipe)["training"]["steps"] == 30


def test_amended_code_is_another_snapshot_and_the_old_one_stays(whole: Run) -> None:
    had = whole.code.resolve()
    patched = had / "kit" / "errors.py"
    patched.write_text(patched.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    whole.environment.write_text("torch==1.0\n", encoding="utf-8")
    amend(whole, code=True)
    assert whole.code.resolve() != had
    assert patched.is_file()  # a job that has begun goes on with it
    code, environment = amendments.read(whole)
    assert code["key"] == "code"
    assert code["old"] != code["new"]
    assert code["new"] in whole.code.resolve().name
    assert environment["key"] == "environment"
    assert environment["old"] == ["torch==1.0"]
    assert any(line.startswith("torch==") for line in environment["new"])
    check_environment(whole)


def test_the_same_code_is_no_amendment(whole: Run) -> None:
    amend(whole, code=True)
    assert amendments.read(whole) == NO_ROWS


def test_a_task_keeps_to_the_snapshot_it_began_with(workdir: Workdir, whole: Run) -> None:
    cluster = resolve.load(workdir.recipe_file).cluster
    path = launch.job_environment(whole, cluster)["PYTHONPATH"]
    assert path == str(whole.code.resolve())
    assert path != str(whole.code)


def test_before_training_begins_a_submission_takes_the_code_of_the_checkout(
    workdir: Workdir,
) -> None:
    loaded = resolve.load(workdir.recipe_file)
    run = directory.prepare(loaded)
    (run.code / "kit" / "errors.py").write_text("", encoding="utf-8")
    directory.prepare(loaded)
    assert (run.code / "kit" / "errors.py").read_text(encoding="utf-8")


def test_before_training_begins_a_submission_brings_its_own_recipe(workdir: Workdir) -> None:
    run = directory.prepare(resolve.load(workdir.recipe_file))
    identity = run.identity.read_bytes()
    changed = resolve.load(workdir.recipe_file, ["tokenizer.vocab_size=1100"])
    directory.prepare(changed)
    assert read_json(run.recipe)["tokenizer"]["vocab_size"] == 1100
    assert run.identity.read_bytes() == identity
    run.attempt(1).root.mkdir(parents=True)
    with pytest.raises(RunError, match=r"tokenizer\.vocab_size: 1100 -> 1200"):
        directory.prepare(resolve.load(workdir.recipe_file))


def test_an_attempt_that_began_before_does_not_know_of_it(submitted: Run) -> None:
    amend(submitted, "training.steps=30")
    start = read_json(submitted.attempt(1).start)
    assert [row["key"] for row in amendments.since(submitted, start)] == ["training.steps"]
    assert amendments.since(submitted, {"amendments": 1}) == NO_ROWS


def test_a_run_whose_end_was_put_off_is_not_done(workdir: Workdir, submitted: Run) -> None:
    write_json(submitted.attempt(1).end, {"outcome": "done", "step": 10})
    submitted.checkpoint(10, 1).mkdir(parents=True)
    recipe = resolve.load(workdir.recipe_file).recipe
    assert TRAIN.done(submitted, recipe)
    amend(submitted, "training.keep=3")
    assert TRAIN.done(submitted, recipe)
    amend(submitted, "training.steps=30", schedule="anew")
    assert not TRAIN.done(submitted, recipe)


def test_a_run_directory_stands_for_its_recipe_and_cluster(
    workdir: Workdir, submitted: Run
) -> None:
    amend(submitted, "cluster.training.minutes=90")
    assert resolve.load(submitted.root) == resolve.load(workdir.recipe_file)
    loaded = resolve.load(submitted.root, ["cluster.arrays.parallel=7"])
    assert loaded.cluster.arrays.parallel == 7
    local = resolve.load(submitted.root, [], str(workdir.folder / "cluster" / "local.yaml"))
    assert local == resolve.load(workdir.recipe_file)


def test_no_override_changes_the_recipe_of_a_run_directory(submitted: Run) -> None:
    with pytest.raises(ConfigError, match="amend or fork"):
        resolve.load(submitted.root, ["training.steps=30"])


def test_a_run_directory_elsewhere_is_no_run(submitted: Run, tmp_path: Path) -> None:
    moved = submitted.root.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="move it back to"):
        resolve.load(moved)


def test_a_job_in_slurm_without_slurm_is_said_to_be_unknown(
    submitted: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_json(submitted.jobs, {"slurm": {"train": "7"}})
    monkeypatch.setenv("PATH", str(tmp_path))
    (line,) = amend_queued.apply(submitted, {"cluster.training.minutes": 90})
    assert "squeue" in line
    with pytest.raises(ClusterError):
        slurm_queue.live(submitted)


def test_a_job_keeps_its_container_and_python_and_other_jobs_do_not_concern_it(
    submitted: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_queue, "submitted", lambda _: {"train": "7"})
    monkeypatch.setattr(slurm_queue, "live", lambda _: {"7": "RUNNING"})
    keys = ("container.image", "python", "network", "arrays.cpus", "checks.skip")
    kept, later = amend_queued.apply(submitted, {f"cluster.{key}": "new" for key in keys})
    assert kept.startswith("job 7 keeps the cluster.container.image, cluster.python that it")
    assert later.startswith("job 7 uses the new cluster.checks.skip from its next attempt on")


def test_without_a_live_job_there_is_nothing_to_say(submitted: Run) -> None:
    assert amend_queued.apply(submitted, {"cluster.training.minutes": 90}) == []


def trained(run: Run, steps: int, ended: bool = True) -> None:
    """Its first attempt has done so many steps, of two seconds each, and saved the last one."""
    rows = [{"kind": "step", "step": n, "seconds": 2.0} for n in range(1, steps + 1)]
    run.attempt(1).ledger.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run.checkpoint(steps if ended else 2, 1).mkdir(parents=True)
    if ended:
        write_json(run.attempt(1).end, {"outcome": "stopped", "step": steps})


@pytest.mark.parametrize("ended", [True, False])
def test_an_amended_end_is_told_before_and_after(
    submitted: Run, capsys: pytest.CaptureFixture[str], ended: bool
) -> None:
    trained(submitted, 5, ended)
    began = time.time()
    amend(submitted, "training.steps=905")
    lines = capsys.readouterr().out.splitlines()
    # Of half a cosine over 10 steps from 0.001 the sixth has this; the new one begins in its middle.
    was = 0.001 * (1 + math.cos(math.pi * 6 / 10)) / 2
    assert lines[:4] == [
        "training.steps: 10 -> 905",
        "steps left after step 5: 5 -> 900",
        f"learning rate of step 6: {was:.3g} -> 0.0005",
        "learning rate of the last step: 0 at step 10 -> 0 at step 905",
    ]
    said, dates = lines[4].split(": ", 1)
    assert said == "arrival, at 2 s per step"
    one, other = (time.strptime(date, "%Y-%m-%d %H:%M %Z") for date in dates.split(" -> "))
    assert time.mktime(one) == pytest.approx(began + 10, abs=61)
    assert time.mktime(other) == pytest.approx(began + 1800, abs=61)
    assert len(lines) == 5


def test_a_schedule_anew_says_by_how_much_it_jumps(
    submitted: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(submitted, 5)
    amend(submitted, "training.steps=30", schedule="anew")
    now = 0.001 * (1 + math.cos(math.pi * 6 / 30)) / 2
    assert (
        f"the learning rate jumps from 0.0005 at step 5 to {now:.3g} at step 6, by {now - 0.0005:.3g}\n"
        in capsys.readouterr().out
    )
    assert amendments.read(submitted)[0]["schedule"] == "anew"


def test_an_amendment_that_leaves_the_end_alone_says_nothing_of_rates(
    submitted: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    amend(submitted, "training.keep=3")
    assert capsys.readouterr().out == "training.keep: 2 -> 3\n"
    assert "schedule" not in amendments.read(submitted)[0]


def test_a_schedule_without_an_end_is_refused(submitted: Run) -> None:
    for how, change in (("anew", "training.keep=3"), ("continue", "training.steps=10")):
        line = refused(submitted, change, schedule=how)
        assert line.startswith(
            f"--schedule {how}: needs a change of the run's end; add training.steps="
        )


def test_an_end_that_was_amended_may_have_its_schedule_anew(submitted: Run) -> None:
    trained(submitted, 5)
    amend(submitted, "training.steps=30")
    amend(submitted, "training.steps=30", schedule="anew")
    assert keys_and_values(submitted) == [("training.steps", 10, 30), ("training.steps", 30, 30)]
    write_json(submitted.attempt(2).start, {"from_step": 5, "amendments": 2})
    training = resolve.read_run(submitted.root).recipe.training
    found = schedule.for_run(submitted, training, lambda its: its.steps_over(0), 2)
    assert found.segments == (schedule.Segment(0, 10), schedule.Segment(5, 30))


def test_an_attempt_that_would_train_at_a_rate_of_zero_says_so(submitted: Run) -> None:
    # Amended while its last steps were made: the attempt after them is the first to know.
    amend(submitted, "training.steps=30")
    write_json(submitted.attempt(2).start, {"from_step": 10, "amendments": 1})
    training = resolve.read_run(submitted.root).recipe.training
    with pytest.raises(
        ConfigError, match=r"let the rate jump with .* training\.steps=30 --schedule anew"
    ):
        schedule.for_run(submitted, training, lambda its: its.steps_over(0), 2)


def test_epochs_of_tokens_that_are_not_made_yet_have_no_outlook(
    workdir: Workdir, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = ["training.steps=null", "training.epochs=2"]
    run = directory.prepare(resolve.load(workdir.recipe_file, epochs))
    amend(run, "training.epochs=3")
    assert capsys.readouterr().out == "training.epochs: 2.0 -> 3.0\n"


def test_a_finished_run_is_not_trained_on_at_a_rate_of_zero(submitted: Run) -> None:
    trained(submitted, 10)
    assert refused(submitted, "training.steps=30").startswith(
        "training.steps=30: the learning rate reached 0 at step 10, and further steps would train "
        "nothing; let the learning rate jump with `--schedule anew`"
    )


def test_the_code_of_an_earlier_version_is_not_left_to_jump(whole: Run) -> None:
    shutil.rmtree(whole.code / "kit" / "plan" / "__pycache__", ignore_errors=True)
    (whole.code / "kit" / "plan" / "schedule.py").unlink()
    assert "add --code" in refused(whole, "training.steps=30")
    amend(whole, "training.steps=30", code=True)
    assert (whole.code / "kit" / "plan" / "schedule.py").is_file()


def test_the_code_of_an_earlier_version_that_goes_on_from_a_rate_is_let(whole: Run) -> None:
    (whole.code / "kit" / "plan" / "schedule.py").rename(whole.code / "kit" / "schedule.py")
    amend(whole, "training.steps=30")
    assert amendments.read(whole)[0]["schedule"] == "continue"


def test_the_addresses_of_alerts_stay_out_of_the_ledger(submitted: Run) -> None:
    amend(submitted, "tracking.mlflow=null", "alerts.heartbeat_url=https://switch.example/s3cr3t")
    rows = amendments.read(submitted)
    assert [row["key"] for row in rows] == ["tracking.mlflow", "alerts.heartbeat_url"]
    assert [row["key"] for row in amendments.to_publish(rows)] == ["tracking.mlflow"]
