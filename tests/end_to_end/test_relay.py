"""The relay on this machine: the demo's recipe with fewer steps, interrupted and not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.cluster import decisions, lock
from kit.config.recipe import Recipe, Release
from kit.relay.resolve import load
from kit.relay.stages import stages_of
from kit.relay.submit import invalidate_broken
from kit.release import evaluate, export, generate
from kit.store.files import read_json
from kit.store.paths import Run, Workspace
from kit.tracking import ledger
from tests.later import later
from tests.relay import (
    DEMO,
    ROOT,
    SHORT,
    TINY,
    curve,
    final_files,
    log_of,
    wait_for_step,
    wait_until,
)
from tests.speed import patience
from tests.warm import command

from .conftest import ALONE, SAID, SECRET

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.end_to_end

# More steps than there is time for.
ENDLESS = (
    *TINY,
    *ALONE,
    "training.steps=1000000",
    "training.validate_every=1000000",
    "training.checkpoint_every=1000000",
)


@pytest.fixture(scope="module")
def workspace(preempted: Run) -> Path:
    return preempted.root.parents[1]


@pytest.fixture(scope="module")
def uninterrupted(workspace: Path, preempted: Run) -> Run:
    """The same training from the same tokens, not interrupted."""
    command(
        "train",
        "run",
        str(DEMO),
        f"workspace={workspace}",
        *SHORT,
        "tracking.mlflow=null",
        "name=uninterrupted",
    )
    return Workspace(workspace).run("uninterrupted")


def test_a_preempted_run_is_requeued_and_done(preempted: Run) -> None:
    ends = [read_json(attempt.end) for attempt in ledger.attempts(preempted)]
    assert [end["outcome"] for end in ends] == ["interrupted", "done"]
    assert ends[0]["reason"] == "SIGTERM"
    assert 20 <= ends[0]["step"] < 40
    assert read_json(ledger.attempts(preempted)[1].start)["from_step"] == ends[0]["step"]


def test_a_preemption_leaves_no_trace_in_weights_and_ledger(
    preempted: Run, uninterrupted: Run
) -> None:
    assert len(ledger.attempts(uninterrupted)) == 1
    assert final_files(preempted) == final_files(uninterrupted)
    assert curve(preempted) == curve(uninterrupted)
    samples, same = (ledger.samples(run) for run in (preempted, uninterrupted))
    assert [row["step"] for row in samples if row["prompt"] == "駅伝は"] == [0, 10, 20, 30, 40]
    assert ledger.comparable(samples) == ledger.comparable(same)


def test_no_file_of_a_relay_has_the_value_of_a_secret(preempted: Run) -> None:
    name, value = SECRET
    assert name in preempted.cluster.read_text()
    files = [path for path in preempted.root.parents[1].rglob("*") if path.is_file()]
    assert len(files) > 50
    assert not [path for path in files if value.encode() in path.read_bytes()]


def odd_modes(folder: Path, umask: int) -> dict[str, str]:
    """The files and folders whose mode is not the one that the umask gives, with that mode."""
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}
    return {
        str(path): oct(mode)
        for path, mode in modes.items()
        if not path.is_symlink() and mode != (0o777 if path.is_dir() else 0o666) & ~umask
    }


def test_every_file_of_a_relay_has_the_mode_of_the_umask(preempted: Run) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert odd_modes(preempted.root.parents[1], umask) == {}


@pytest.mark.long  # a whole relay, of processes that inherit the umask
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_another_user_reads_what_the_umask_allows(tmp_path: Path, umask: int) -> None:
    where = (str(DEMO), f"workspace={tmp_path}", "tracking.mlflow=workspace")
    subprocess.run(
        [sys.executable, "-m", "jobs.pipeline", "run", *where, *SHORT],
        check=True,
        capture_output=True,
        cwd=ROOT,
        umask=umask,
    )
    assert len([*tmp_path.rglob("*")]) > 100
    assert odd_modes(tmp_path, umask) == {}


def test_the_curve_has_every_step_once(preempted: Run) -> None:
    rows = ledger.canonical(preempted)
    assert [row["step"] for row in rows if row["kind"] == "step"] == list(range(1, 41))
    assert [row["step"] for row in rows if row["kind"] == "validation"] == [0, 10, 20, 30, 40]


def test_tensorboard_shows_the_ledger(preempted: Run) -> None:
    events = EventAccumulator(str(preempted.tensorboard), size_guidance={"scalars": 0}).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    steps = [row for row in ledger.canonical(preempted) if row["kind"] == "step"]
    assert shown == [(row["step"], pytest.approx(row["loss"])) for row in steps]


def test_mlflow_shows_the_ledger_under_one_identity(preempted: Run) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{preempted.root.parents[1] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ekiden")
    identity = read_json(preempted.identity)["id"]
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`ekiden.run` = '{identity}'")
    assert found.info.status == "FINISHED"
    shown = client.get_metric_history(found.info.run_id, "train/loss")
    steps = [row for row in ledger.canonical(preempted) if row["kind"] == "step"]
    assert sorted((metric.step, metric.value) for metric in shown) == [
        (row["step"], row["loss"]) for row in steps
    ]


def test_the_model_beats_a_unigram_model(preempted: Run) -> None:
    scores = read_json(preempted.evaluation / "scores.json")
    assert scores["loss"] < scores["unigram_loss"]


# Run by a Python that knows transformers and numpy alone, as a user of the released folder does.
_RELEASED = """
import json, sys
import numpy as np, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
folder, tokens, length = sys.argv[1], sys.argv[2:-1], int(sys.argv[-1])
assert not any(name.split(".")[0] in ("kit", "jobs") for name in sys.modules)
model = AutoModelForCausalLM.from_pretrained(folder).eval()
row = torch.from_numpy(np.concatenate([np.fromfile(f, "<u2") for f in tokens]).astype("int64"))
losses = []
with torch.no_grad():
    for start in range(0, (len(row) - 1) // length * length, length):
        logits = model(row[None, start : start + length]).logits[0].float()
        losses.append(torch.nn.functional.cross_entropy(logits, row[start + 1 : start + length + 1]))
text = pipeline("text-generation", model=folder)("駅伝は")[0]["generated_text"]
tokenizer = AutoTokenizer.from_pretrained(folder)
assert model.config.bos_token_id == tokenizer.bos_token_id == int(row[-1])  # it ends a document
odd = " 駅伝  を\\n\\n走る。naïve café, </s><unk>\\r\\n👨‍👩‍👧 𠮷 ㍻\\t <0x41>\\n"
assert tokenizer.decode(tokenizer(odd)["input_ids"]) == odd
print(json.dumps({"loss": float(torch.stack(losses).mean()), "dtype": str(model.dtype),
                  "text": text, "ids": tokenizer("駅伝 は")["input_ids"]}))
"""


def test_the_released_folder_gives_the_ledgers_loss_without_code_of_ours(
    preempted: Run, tmp_path: Path
) -> None:
    units = sorted((preempted.root.parents[1] / "tokens").glob("*/held-out.tokens"))
    program = tmp_path / "released.py"
    program.write_text(_RELEASED)
    done = subprocess.run(
        [sys.executable, "-P", program, preempted.export, *units, "64"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["dtype"] == "torch.bfloat16"
    last = [row for row in ledger.canonical(preempted) if row["kind"] == "validation"][-1]
    # bf16 has 8 bits of mantissa: a logit is rounded by 2**-9 of its size at the most, and the
    # mean over some thousand tokens by far less.
    assert found["loss"] == pytest.approx(last["validation_loss"], rel=2**-9)
    assert found["text"].startswith("駅伝は")
    assert found["ids"]


def test_generate_prints_plain_text(preempted: Run, workspace: Path) -> None:
    text = command(
        "generate",
        "text",
        str(DEMO),
        f"workspace={workspace}",
        *SHORT,
        "release.temperature=0.001",  # of the command, not of the export: each prompt has a seed of its own
        "release.max_new_tokens=12",
        *("--prompt", "ＡＢＣ駅の町は") * 2,
    )
    one, other = text.splitlines()
    assert one == other
    assert one.startswith("ABC駅の町は")
    assert "▁" not in text
    assert "␤" not in text


def test_verify_finds_a_damaged_part_of_a_release(
    preempted: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    project = load(preempted.root)
    samples, manifest = preempted.samples / "samples.json", preempted.samples / "manifest.json"
    before = (samples.read_bytes(), manifest.read_bytes())
    samples.write_bytes(b"{" + before[0][1:])
    invalidate_broken(project, stages_of(project.recipe, "generate"))
    assert "generate: samples is damaged and will be made again" in capsys.readouterr().out
    assert not manifest.exists()
    samples.write_bytes(before[0])
    manifest.write_bytes(before[1])


def test_a_finished_relay_has_nothing_left_to_do(preempted: Run, workspace: Path) -> None:
    attempts = len(ledger.attempts(preempted))
    overrides = (f"workspace={workspace}", *SHORT)
    assert "nothing to submit" in command("pipeline", "submit", str(DEMO), *overrides)
    command("pipeline", "run", str(DEMO), *overrides)
    assert len(ledger.attempts(preempted)) == attempts


CLOCK = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def test_a_log_has_a_clock_an_attempt_and_a_rank_in_every_line_and_no_words_of_libraries(
    preempted: Run,
) -> None:
    of_node = r"train: job \S+ on \S+|preflight: \d checks in [\d.]+ s"  # before the ranks meet
    ranks = rf"((attempt \d )?rank \d: .+|{of_node})"
    for line in log_of(preempted, "train").splitlines():
        assert re.fullmatch(f"{CLOCK} {ranks}", line), line
    for job in ("preprocess", "evaluate", "export", "generate"):
        assert log_of(preempted, job)
        for line in log_of(preempted, job).splitlines():
            assert re.fullmatch(f"{CLOCK} {job}: .+", line), line


def test_training_says_what_it_does(preempted: Run) -> None:
    saved = read_json(ledger.attempts(preempted)[0].end)["step"]
    log = log_of(preempted, "train")
    expected = [
        "attempt 1 rank 0: building the model and DeepSpeed's engine",
        r"attempt 1 rank 0: training starts at step 0: 2 ranks, [\d,]+ parameters, [\d,]+ tokens",
        r"attempt 1 rank 0: step 1 of 40, loss \d\.\d{3}, [\d,]+ tokens/s, .+ left",
        r"attempt 1 rank 0: validation at step 10: loss \d\.\d{3} in .+",
        rf"attempt 1 rank 0: leaving after step {saved}: SIGTERM",
        rf"attempt 1 rank 0: checkpoint of step {saved}: [\d.]+ MB in .+, blocking training for .+",
        rf"attempt 1 rank 0: train: SIGTERM at step {saved}; step {saved} is saved",
        rf"attempt 2 rank 0: verifying the checkpoint of step {saved} of attempt 1",
        rf"attempt 2 rank 0: loading the checkpoint of step {saved} of attempt 1",
        rf"attempt 2 rank 0: resumes from step {saved} of attempt 1",
        rf"attempt 2 rank 0: step {saved + 1} of 40, .+ left",
        r"attempt 2 rank 0: step 40 of 40, loss \d\.\d{3}, [\d,]+ tokens/s",
        "attempt 2 rank 0: finished after step 40",
    ]
    for line in expected:
        assert re.search(rf"^{CLOCK} {line}$", log, re.MULTILINE), line
    steps = re.findall(r"rank 0: step (\d+) of 40", log)
    assert len(set(steps)) == len(steps)


def test_the_command_tells_each_step_once_and_what_training_says(
    preempted: Run, workspace: Path
) -> None:
    said = (workspace / SAID).read_text()
    saved = read_json(ledger.attempts(preempted)[0].end)["step"]
    steps = re.findall(r"train: (\d+) of 40 steps, ", said)
    assert len(set(steps)) == len(steps)
    assert f"train: resumes from step {saved} of attempt 1\n" in said
    assert re.search(rf"^{CLOCK} evaluate: done in .+$", said, re.MULTILINE)
    assert re.search(rf"^{CLOCK} download: started, 2 tasks$", said, re.MULTILINE)


def test_a_run_directory_of_another_recipe_is_refused(preempted: Run, workspace: Path) -> None:
    said = command(
        "train", "run", str(DEMO), f"workspace={workspace}", *SHORT, "training.seed=1", code=2
    )
    assert said.count("\n") == 1
    assert "training.seed: 0 -> 1" in said


def test_a_run_goes_on_after_it_was_cancelled_and_saves_when_its_supervisor_is_killed(
    workspace: Path,
) -> None:
    arguments = (str(DEMO), f"workspace={workspace}", *ENDLESS, "name=stopped")
    command("train", "submit", *arguments, "cluster.preempt_at_step=5")
    follower = subprocess.Popen(
        [sys.executable, "-m", "jobs.train", "logs", "--follow", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    run = Workspace(workspace).run("stopped")
    wait_until(lambda: len(ledger.attempts(run)) > 1, "second attempt")
    preempted = read_json(ledger.attempts(run)[0].end)["step"]
    wait_for_step(run, preempted + 1)
    process = run.supervisor.read_text()
    said = command("train", "submit", *arguments, "cluster.preempt_at_step=5")
    assert said == f"nothing to submit: train (process {process}) is running\n"
    said = command("train", "submit", *arguments, code=2)
    assert "reads another recipe or cluster file than yours (cluster.preempt_at_step: 5 -> " in said
    said = command("evaluate", "submit", *arguments, "cluster.preempt_at_step=5", code=2)
    assert f"process {process} is running train, and takes no more stages" in said
    said = command("train", "cancel", *arguments)
    assert not lock.is_held(run)
    saved = read_json(ledger.attempts(run)[1].end)["step"]
    line = f"train: process {process} was running; cancelled, saved up to step {saved}\n"
    assert line in said
    assert "; cancelled\n  reason by its user" in command("train", "status", *arguments)
    assert "nothing to cancel" in command("train", "cancel", *arguments)

    followed, _ = follower.communicate(timeout=patience(120))
    assert follower.returncode == 0
    assert followed == f"==> {run.job_logs('train')}/train-0_0_log.out <==\n{log_of(run, 'train')}"
    assert f"attempt 2 rank 0: resumes from step {preempted} of attempt 1\n" in followed
    second = command("train", "logs", str(run.root), "--attempt", "2").split("\n", 1)[1]
    assert followed.endswith(second)

    command("train", "submit", *arguments)
    wait_for_step(run, saved + 1)
    os.kill(int(run.supervisor.read_text()), signal.SIGKILL)
    wait_until(ledger.attempts(run)[-1].end.is_file, "end.json")
    assert [read_json(attempt.start)["from_step"] for attempt in ledger.attempts(run)] == [
        0,
        preempted,
        saved,
    ]
    ends = [read_json(attempt.end) for attempt in ledger.attempts(run)]
    assert {end["outcome"] for end in ends} == {"interrupted"}
    assert [end["reason"] for end in ends] == ["SIGTERM", "cancelled by its user", "SIGTERM"]
    made = {step for step, _ in run.committed_checkpoints().values()}
    assert made == {end["step"] for end in ends[1:]}  # two are kept
    said = command("pipeline", "status", *arguments)
    assert "train: interrupted\n  reason process" in said
    assert "was killed, or its machine went down" in said


def test_a_command_that_is_stopped_saves_and_says_75(workspace: Path) -> None:
    name = ("name=stopped-by-hand", "tracking.mlflow=workspace")
    arguments = (str(DEMO), f"workspace={workspace}", *ENDLESS, *name)
    program = [sys.executable, "-m", "jobs.train", "run", *arguments]
    with subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        run = Workspace(workspace).run("stopped-by-hand")
        wait_for_step(run, 5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=patience(120))
    assert process.returncode == 75
    assert "\nstopping (SIGINT): the training saves its last full step" in said
    assert "stopped and saved" in said
    (end,) = (read_json(attempt.end) for attempt in ledger.attempts(run))
    assert [step for step, _ in run.committed_checkpoints().values()] == [end["step"]]
    assert end["reason"] == "cancelled by its user"
    with contextlib.closing(sqlite3.connect(workspace / "mlflow.db")) as database:
        (row,) = database.execute("SELECT status FROM runs WHERE name = ?", (run.root.name,))
    assert row == ("KILLED",)


@pytest.mark.long  # a limit is a minute at least; tests/slurm has one of Slurm's
def test_a_time_limit_on_this_machine_requeues_and_a_stop_file_ends_plainly(
    workspace: Path,
) -> None:
    limit = ("cluster.training.minutes=1", "cluster.training.warning_seconds=1")
    arguments = (str(DEMO), f"workspace={workspace}", *ENDLESS, "name=limited-here")
    command("train", "submit", *arguments, *limit, "cluster.training.failures=0")
    run = Workspace(workspace).run("limited-here")
    wait_until(lambda: len(ledger.attempts(run)) > 1, "second attempt")
    (limited,) = decisions.read(run)
    assert (limited["requeued"], limited["reason"]) == (True, "time limit")
    end = read_json(ledger.attempts(run)[0].end)
    assert (end["outcome"], end["reason"]) == ("interrupted", "time limit")
    assert read_json(ledger.attempts(run)[1].start)["from_step"] == end["step"]

    run.stop.touch()
    wait_until(lambda: not lock.is_held(run), "the supervisor's end")
    assert decisions.read(run)[-1]["reason"] == "stopped: STOP file"
    said = command("train", "status", *arguments)
    assert "; stopped\n  reason STOP file" in said
    attempts = len(ledger.attempts(run))
    command("train", "submit", *arguments)
    wait_until(lambda: len(ledger.attempts(run)) > attempts, "next attempt")
    assert not run.stop.exists()
    os.kill(int(run.supervisor.read_text()), signal.SIGTERM)
    wait_until(lambda: not lock.is_held(run), "the supervisor's end")
    assert read_json(ledger.attempts(run)[-1].end)["reason"] == "cancelled by its user"


def test_a_key_that_is_new_and_not_set_leaves_a_release_done(preempted: Run) -> None:
    recipe = Recipe.model_validate(read_json(preempted.recipe))
    newer = later(Release).model_validate(recipe.release.model_dump())
    for release, state in ((newer, "done"), (Release(dtype="float32"), "stale")):
        now = recipe.model_copy(update={"release": release})
        units = [*evaluate.units(preempted, now), *export.units(preempted, now)]
        units += generate.units(preempted, now)
        assert [unit.state() for unit in units] == [state] * 3
