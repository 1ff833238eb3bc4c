"""What `status` says after each kind of end, and how a command ends that its user ends."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from jobs import ekiden
from kit.errors import EkidenError
from kit.store.files import write_json
from tests.conftest import ROOT
from tests.relay import wait_until
from tests.server import serving
from tests.speed import patience

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from tests.conftest import Workdir

JOBS = sorted(ekiden.JOBS)
LISTS = ("list", "plan", "presets", "watch")  # of one verb, which makes nothing
OTHER_KEYS = ("state", "reason", "since", "unit", "job", "log", "tail", "faults", "next")


def ask(module: str, *arguments: str) -> Result:
    """A command line in this process, for what starts no other one."""
    app = importlib.import_module(f"jobs.{module}").app
    return CliRunner().invoke(app, arguments)


def shown(workdir: Workdir, module: str, *arguments: str) -> str:
    """What `status` prints."""
    found = ask(module, "status", str(workdir.recipe_file), *arguments)
    assert found.exit_code == 0, found.output
    return found.stdout


def status(workdir: Workdir, module: str, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shown(workdir, module, *arguments, "--json"))
    return found


def interrupted(
    line: str, module: str, *arguments: str, ready: Callable[[], bool] = lambda: True
) -> str:
    """What a command says to a Ctrl-C that comes when it has said `line`; its exit code is 75."""
    command = [sys.executable, "-u", "-m", f"jobs.{module}", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        before = next((text for text in process.stdout if line in text), None)
        assert before is not None
        wait_until(ready, "what is to be interrupted", every=0.02)
        os.killpg(process.pid, signal.SIGINT)
        after = process.communicate(timeout=patience(60))[0]
    assert process.returncode == 75, after
    assert after.startswith("stopping (SIGINT): ")
    assert "Traceback" not in after
    return after


def test_a_failed_chain_names_stage_unit_reason_log_and_command(workdir: Workdir) -> None:
    workdir.web.write_bytes("駅伝\n".encode("euc-jp"))
    told = workdir.run("jobs.pipeline", "run", str(workdir.recipe_file))
    assert told.returncode == 2
    found = status(workdir, "pipeline")["stages"]
    assert {name: stage["state"] for name, stage in found.items()} == {
        "download": "done", "preprocess": "failed", **dict.fromkeys(list(found)[2:], "waiting"),
    }  # fmt: skip
    failed = found["preprocess"]
    assert failed["reason"] in told.stderr
    assert f"{workdir.web}, line 1: byte 1" in failed["reason"]
    assert failed["unit"] == "web-00000"
    log = workdir.workspace.run("small").job_logs("preprocess")
    assert failed["log"].startswith(str(log))
    assert failed["reason"] in failed["tail"][-1]
    assert failed["since"] > 0
    again = f"ekiden pipeline run {workdir.recipe_file}"
    assert failed["next"] == again
    assert found["train"]["reason"] == "preprocess, before it, failed"

    lines = shown(workdir, "preprocess")
    for text in ("; failed", f"reason {failed['reason']}", "unit   web-00000", f"log    {log}",
                 f"next   ekiden preprocess run {workdir.recipe_file}"):  # fmt: skip
        assert text in lines


def test_what_is_stale_or_broken_says_why_and_what_follows_sees_it(workdir: Workdir) -> None:
    workdir.make(workdir.recipe(), "preprocess")
    assert status(workdir, "preprocess")["state"] == "done"
    (fault, *_) = status(workdir, "preprocess", "corpus.held_out=0.2")["faults"]
    assert fault["why"] == "held_out: 0.1 -> 0.2"

    shard = next(workdir.workspace.root.glob("shards/web-*/train.txt.zst"))
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(bytes(raw))
    found = status(workdir, "preprocess", "--verify")
    assert found["state"] == "broken"
    assert found["faults"] == [
        {"unit": shard.parent.name, "state": "broken",
         "why": "train.txt.zst: bytes differ from its manifest"},
    ]  # fmt: skip
    assert found["next"].endswith("--verify")

    size = workdir.web.stat().st_size
    with workdir.web.open("a", encoding="utf-8") as text:
        text.write("\n最後に加えた一行。\n")
    (fault,) = status(workdir, "download")["faults"]
    assert fault["unit"] == "web"
    total = workdir.web.stat().st_size
    assert f"input changed: bytes {size} -> {total}" in fault["why"]
    found = status(workdir, "preprocess")
    assert (found["state"], found["reason"]) == ("stale", "download, before it, is stale")
    assert found["next"] == f"ekiden download run {workdir.recipe_file}"
    tokens = status(workdir, "tokenize")
    assert tokens["state"] == "waiting"
    assert set(OTHER_KEYS) <= set(tokens)


def test_a_text_that_is_gone_is_told_and_the_status_of_the_rest_goes_on(workdir: Workdir) -> None:
    workdir.dump.unlink()
    stages = status(workdir, "pipeline")["stages"]
    assert stages["download"]["state"] == "broken"
    assert "corpus.sources.jawiki.location=" in stages["download"]["reason"]
    assert (stages["train"]["state"], stages["train"]["reason"]) == (
        "waiting", "download, before it, is broken",
    )  # fmt: skip


@pytest.mark.parametrize("called", [("download",), ("ekiden", "download")], ids=" ".join)
def test_ctrl_c_in_a_transfer_keeps_what_came_and_says_75(
    workdir: Workdir, called: tuple[str, ...]
) -> None:
    with serving() as server:
        server.body, server.hold = workdir.web.read_bytes(), threading.Event()
        source = f"corpus.sources.web.location={server.url()}"
        arguments = (*called, "run", str(workdir.recipe_file), source)
        in_transfer = {"ready": lambda: bool(server.asked)}
        after = interrupted("download: web", *arguments, **in_transfer)
        assert "download ends; its finished units are kept" in after
        found = status(workdir, "download", source)
        assert (found["state"], found["unit"]) == ("cancelled", "web")
        server.hold.set()
        workdir.make(workdir.recipe(source), "download")
    assert status(workdir, "download", source)["state"] == "done"


def test_ctrl_c_in_a_stage_and_in_a_chain_keeps_units_and_says_75(workdir: Workdir) -> None:
    workdir.make(workdir.recipe(), "download")
    after = interrupted("(1 of", "preprocess", "run", str(workdir.recipe_file))
    assert "preprocess ends; its finished units are kept" in after
    found = status(workdir, "preprocess")
    assert found["state"] == "cancelled"
    assert found["missing"] >= 1
    arguments = ("pipeline", "run", str(workdir.recipe_file))
    after = interrupted("preprocess: started", *arguments)
    assert "running tasks are ended, finished units are kept" in after
    assert "the same command resumes it" in after
    found = status(workdir, "pipeline")["stages"]["preprocess"]
    assert found["state"] == "cancelled"
    assert found["next"] == f"ekiden pipeline run {workdir.recipe_file}"
    watched = ask("watch", str(workdir.recipe_file), "--once").stdout
    assert f"next        {found['next']}" in watched


def test_ctrl_c_while_slurm_does_not_answer_says_75(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, asked = workdir.folder / "bin", workdir.folder / "asked"
    programs.mkdir()
    (programs / "squeue").write_text(f"#!/bin/sh\ntouch {asked}\nexec sleep 600\n")
    (programs / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    write_json(workdir.workspace.run("small").jobs, {"slurm": {"train": "17"}, "time": 0.0})
    command = [sys.executable, "-m", "jobs.train", "status", str(workdir.recipe_file)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        wait_until(asked.exists, "question to squeue")
        process.send_signal(signal.SIGINT)
        _, after = process.communicate(timeout=patience(60))
    assert process.returncode == 75, after
    assert after.startswith("stopping (SIGINT): ")
    assert "Traceback" not in after


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        *[(job, (verb, "RECIPE")) for job in JOBS if job not in ("download", "pipeline", *LISTS)
          for verb in ("run", "submit")],
        *[(job, (verb, "RECIPE", "corpus.sources.web.location=gone.txt"))
          for job in ("download", "pipeline") for verb in ("run", "submit")],
        ("preprocess", ("report", "RECIPE")), ("tokenizer", ("report", "RECIPE")),
        ("tokenizer", ("run", "RECIPE", "--pick", "PICK")),
        ("tokenizer", ("run", "RECIPE", "--pick", "none")),
        ("tokenize", ("inspect", "RECIPE", "0")), ("generate", ("text", "RECIPE", "--prompt", "a")),
        ("train", ("rehearse", "RECIPE")), ("train", ("amend", "work/runs/small", "training.steps=3")),
        ("train", ("fork", "work/runs/small", "--at", "3", "name=b")),
        ("pipeline", ("show", "RECIPE", "training.steps=-1")),
    ],
)  # fmt: skip
def test_bad_input_is_told_before_anything_is_made(
    workdir: Workdir, module: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(workdir.folder)
    pick = workdir.recipe().tokenizer.specs()[0].name
    placed = {"RECIPE": str(workdir.recipe_file), "PICK": pick}
    given = [placed.get(one, one) for one in arguments]
    found = ask(module, *given)
    assert isinstance(found.exception, EkidenError), found.output
    assert found.exception.exit_code == 2
    assert files_of(workdir.folder) == before


def test_watch_shows_a_run_that_was_never_submitted_and_one_that_was(workdir: Workdir) -> None:
    recipe = str(workdir.recipe_file)
    before = ask("watch", recipe, "--once")
    assert before.exit_code == 0, before.output
    assert "no node was held yet" in before.stdout
    # Without a terminal it is text too.
    without_time = [one.stdout.splitlines()[1:] for one in (before, ask("watch", recipe))]
    assert without_time[0] == without_time[1]
    run = workdir.workspace.run("small")
    write_json(run.identity, {"id": "a", "name": "small", "time": time.time() - 60})
    write_json(run.recipe, workdir.recipe().model_dump(mode="json"))
    found = json.loads(ask("watch", recipe, "--json").stdout)
    shares = {name: one["share"] for name, one in found["goodput"]["buckets"].items()}
    assert shares["earlier_stages"] == 1
    assert sum(shares.values()) == 1
    assert found["alerts"] == []


@pytest.mark.parametrize("job", JOBS)
def test_every_command_ends_with_the_exit_codes_of_all(job: str) -> None:
    assert (
        (ROOT / "jobs" / f"{job}.py")
        .read_text()
        .endswith('if __name__ == "__main__":\n    main(app)\n')
    )


def files_of(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
