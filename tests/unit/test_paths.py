"""Every path of a workspace and of a run, by name: a workspace made by another version is found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.store.paths import Run, Workspace, checkpoint_numbers

if TYPE_CHECKING:
    from kit.store.attempt_paths import Attempt

ROOT = Path("/work/demo")
RUN = "runs/small"


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names(thing: Workspace | Run | Attempt) -> dict[str, str]:
    """The properties of a place that are paths."""
    found = {
        name: getattr(thing, name)
        for name in dir(type(thing))
        if isinstance(getattr(type(thing), name), property)
    }
    return {name: relative(path) for name, path in found.items() if isinstance(path, Path)}


def test_the_places_of_a_workspace() -> None:
    workspace = Workspace(ROOT)
    assert names(workspace) == {
        "corpus_report": "corpus-report",
        "candidates": "candidates",
        "pick": "candidates/pick.json",
        "tokenizer": "tokenizer",
        "tokens_index": "tokens/index.json",
        "near_duplicates": "near-duplicates",
        "mlflow": "mlflow.db",
        "synthetic_mark": "synthetic.json",
    }
    places = {
        workspace.raw("web"): "raw/web",
        workspace.shard("web-00001"): "shards/web-00001",
        workspace.fingerprints("web-00001"): "fingerprints/web-00001",
        workspace.duplicates(7): "duplicates/00007",
        workspace.signatures("web-00001"): "signatures/web-00001",
        workspace.band(7): "bands/00007",
        workspace.word_counts("lossless", 12): "word-counts/lossless/00012",
        workspace.words("article"): "words/article",
        workspace.candidate("bpe-2000"): "candidates/bpe-2000",
        workspace.tokens("web-00001"): "tokens/web-00001",
        workspace.synthetic("demo").root: "synthetic/demo",
        workspace.run("small").root: RUN,
    }
    for path, name in places.items():
        assert relative(path) == name
    heads = {name.split("/")[0] for name in [*places.values(), *names(workspace).values()]}
    files = {"mlflow.db", "synthetic.json", "synthetic"}
    assert {relative(path) for path in workspace.folders} == heads - files


def test_the_places_of_a_run() -> None:
    run = Workspace(ROOT).run("small")
    assert names(run) == {
        name: f"{RUN}/{place}"
        for name, place in {
            "recipe": "recipe.json",
            "cluster": "cluster.json",
            "environment": "environment.txt",
            "identity": "identity.json",
            "code": "code",
            "jobs": "jobs.json",
            "setup": "setup.sh",
            "submissions": "logs",
            "requeues": "requeues.jsonl",
            "drills": "drills.json",
            "stop": "STOP",
            "save": "SAVE",
            "profile": "PROFILE",
            "amendments": "amendments.jsonl",
            "origin": "fork.json",
            "submitting": "submitting.json",
            "supervisor": "supervisor.pid",
            "supervisor_log": "logs/supervisor.log",
            "forkserver_log": "logs/forkserver.log",
            "attempts": "attempts",
            "checkpoints": "checkpoints",
            "report": "report",
            "report_page": "report/report.html",
            "tensorboard": "tensorboard",
            "mlflow_cursor": "mlflow-cursor.json",
            "mlflow_log": "logs/mlflow.log",
            "beside": "at",
            "moment": "training.json",
            "evaluation": "evaluation",
            "export": "export",
            "samples": "samples",
            "scores": "scores/ledger.jsonl",
            "task_scores": "task-scores",
        }.items()
    }
    checkpoint = run.checkpoint(40, 2)
    for path, name in {
        run.job_logs("train"): "logs/train",
        run.mistake("train"): "logs/train/failure.json",
        run.attempt(3).root: "attempts/0003",
        checkpoint: "checkpoints/step-00000040.attempt-0002",
        run.universal(checkpoint): "checkpoints/.universal-step-00000040.attempt-0002",
        run.at(40).root: "at/step-00000040",
        run.at(40).evaluation: "at/step-00000040/evaluation",
        run.at(40).job("export").root: "at/step-00000040/jobs/export",
    }.items():
        assert relative(path) == f"{RUN}/{name}"
    assert checkpoint_numbers(checkpoint) == (40, 2)
    assert run.at(40).step == 40
    assert run.at(40).run == run


def test_the_places_of_an_attempt() -> None:
    attempt = Workspace(ROOT).run("small").attempt(12)
    assert attempt.number == 12
    files = {
        "start": "start.json",
        "ledger": "ledger.jsonl",
        "hang": "hang.json",
        "end": "end.json",
    }
    assert names(attempt) == {name: f"{RUN}/attempts/0012/{file}" for name, file in files.items()}


def test_what_is_no_checkpoint_has_no_numbers() -> None:
    for name in (
        "step-00000040.attempt-0002.x",
        ".step-00000040.attempt-0002",
        "broken-step-00000040.attempt-0002-17",
        "step-40.attempt-2",
    ):
        assert checkpoint_numbers(Path(name)) is None


def test_a_run_has_begun_with_its_first_attempt_or_as_a_fork(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.runs() == []
    for name in ("b", "a"):
        workspace.run(name).root.mkdir(parents=True)
    assert [run.root.name for run in workspace.runs()] == ["a", "b"]
    one, fork = workspace.runs()
    assert not one.begun
    assert one.claimed_attempts() == []
    assert one.committed_checkpoints() == {}
    assert one.made_at() == []
    for number in (11, 2):
        one.attempt(number).root.mkdir(parents=True)
    (one.attempts / "lost+found").mkdir()
    assert one.begun
    assert [attempt.number for attempt in one.claimed_attempts()] == [2, 11]
    fork.origin.touch()
    assert fork.begun
    one.checkpoint(5, 1).mkdir(parents=True)
    (one.checkpoints / ".step-00000006.attempt-0001").mkdir()
    assert one.committed_checkpoints() == {one.checkpoint(5, 1): (5, 1)}
    job = one.at(5).job("export")
    assert job.job_at is None
    job.root.mkdir(parents=True)
    job.moment.touch()
    assert job.job_at == one.at(5)
    assert one.made_at() == [one.at(5)]
