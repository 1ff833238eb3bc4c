"""A guard with real commands, a real HTTP server, a read-only disk, a full one, and another guard."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from jobs import watch
from kit.config import amendments
from kit.errors import EkidenError, JobFailed
from kit.store.files import write_json
from kit.watch import guard_state
from tests.conftest import ROOT
from tests.disk import fill, small_disk
from tests.relay import wait_until
from tests.server import serving
from tests.speed import patience
from tests.written import crashed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.paths import Run
    from tests.conftest import Workdir

KEEP = "alerts.command=cat >> messages.jsonl"  # in the run directory
FAULTS = {"ended", "mlflow_behind"}


@pytest.fixture(autouse=True)
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "states"))
    return tmp_path / "states"


@pytest.fixture
def ended(workdir: Workdir) -> Run:
    """A run that crashed long ago, and of which MLflow knows nothing: two alerts."""
    return crashed(workdir.workspace, workdir.recipe())


def recipe_of(run: Run) -> str:
    """Its file: unlike the run directory it allows overrides."""
    return str(run.root.parents[2] / "small.yaml")


def look(run: Run, *arguments: str) -> str:
    """What `guard --once` prints; EkidenError as it ends."""
    found = CliRunner().invoke(watch.app, ["guard", recipe_of(run), "--once", *arguments])
    if isinstance(found.exception, EkidenError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.stdout


def messages(run: Run) -> list[dict[str, Any]]:
    path = run.root / "messages.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keys(run: Run) -> list[str]:
    return sorted(message["key"] for message in messages(run))


def start(run: Run, *arguments: str) -> subprocess.Popen[str]:
    """A guard in a process of its own."""
    command = [sys.executable, "-m", "jobs.watch", "guard", recipe_of(run), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_an_alert_reaches_a_command_as_json_and_as_text(ended: Run) -> None:
    text = 'printf "%s\\n%s\\n" "$EKIDEN_SUBJECT" "$EKIDEN_MESSAGE" >> messages.txt'
    printed = look(ended, f"{KEEP}; {text}")
    assert keys(ended) == sorted(FAULTS)
    first = messages(ended)[0]
    assert (first["detector"], first["event"], first["severity"]) == ("ended", "raised", "critical")
    assert first["directory"] == str(ended.root)
    assert first["command"] == f"ekiden pipeline run {ended.root}"
    assert first["subject"] == "small: critical: training ended: crash (exit code 1), 4 times"
    assert first["subject"] in printed
    lines = (ended.root / "messages.txt").read_text()
    assert lines.startswith(f"{first['subject']}\n{first['message']}\n")
    assert look(ended, KEEP) == ""
    assert len(messages(ended)) == 2


def test_a_failed_command_is_retried_at_the_next_look(ended: Run) -> None:
    with pytest.raises(JobFailed, match="exit code 7: no route to chat") as failed:
        look(ended, "alerts.command=echo no route to chat >&2; exit 7")
    assert failed.value.exit_code == 1
    assert not ended.guard.heartbeat.exists()
    look(ended, KEEP)
    assert keys(ended) == sorted(FAULTS)
    assert ended.guard.heartbeat.exists()


def test_a_command_that_does_not_end_is_killed_with_what_it_started(ended: Run) -> None:
    hang = "alerts.command=sleep 600 & echo $$ $! > pids; wait"
    with pytest.raises(JobFailed, match=r"no end after 0\.5 s, killed"):
        look(ended, hang, "alerts.timeout=0.5", "alerts.severity=critical")
    for pid in (ended.root / "pids").read_text().split():
        wait_until(lambda pid=pid: not alive(int(pid)), "end of a process", every=0.02)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie that nobody has waited for does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_two_guards_at_once_report_each_alert_once(ended: Run) -> None:
    both = [start(ended, "--once", f"{KEEP}; sleep 1") for _ in range(2)]
    for guard in both:
        assert guard.communicate(timeout=patience(120))[1] == ""
        assert guard.returncode == 0
    assert keys(ended) == sorted(FAULTS)


def test_an_amended_command_is_used_from_the_next_look_on(ended: Run) -> None:
    command = KEEP.partition("=")[2]
    row: amendments.Amendment = {"time": 1.0, "key": "alerts.command", "old": None, "new": command}
    amendments.record(ended, [row])
    look(ended)
    assert keys(ended) == sorted(FAULTS)


def test_the_heartbeat_url_is_requested_only_while_the_queue_answers(
    ended: Run, workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir.folder / "bin").mkdir()
    squeue = workdir.folder / "bin" / "squeue"
    squeue.write_text("#!/bin/sh\nexit 0\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=os.pathsep)
    write_json(ended.jobs, {"slurm": {"train": "17"}, "time": 0.0})
    with serving() as switch:
        url = f"alerts.heartbeat_url={switch.url('beat')}"
        look(ended, url)
        assert switch.names == ["beat"]
        squeue.write_text("#!/bin/sh\necho Unable to contact slurm controller >&2\nexit 1\n")
        os.utime(ended.guard.heartbeat, (0, 0))
        with pytest.raises(JobFailed, match=r"blind: squeue: .*Unable to contact"):
            look(ended, url)
        assert (switch.names, ended.guard.heartbeat.stat().st_mtime) == (["beat"], 0)


def test_a_switch_that_refuses_the_heartbeat_is_a_problem_without_its_address(ended: Run) -> None:
    with serving() as switch:
        switch.status = 500
        with pytest.raises(JobFailed, match="HTTP 500") as failed:
            look(ended, f"alerts.heartbeat_url={switch.url('secret')}")
    assert "secret" not in str(failed.value)


def test_a_test_message_is_sent_at_any_time_and_leaves_no_trace(ended: Run) -> None:
    with serving() as switch:
        url = f"alerts.heartbeat_url={switch.url('beat')}"
        found = CliRunner().invoke(watch.app, ["guard", recipe_of(ended), "--test", KEEP, url])
        assert (found.exit_code, switch.names) == (0, ["beat"])
    assert keys(ended) == ["test"]
    found = CliRunner().invoke(watch.app, ["guard", recipe_of(ended), "--test"])
    assert "alerts.command is not set" in str(found.exception)
    assert not ended.guard.state.exists()


@contextlib.contextmanager
def moved_to_a_small_disk(run: Run) -> Iterator[None]:
    """The files of a run on a disk of 1 MB at its place."""
    files = [path for path in run.root.rglob("*") if path.is_file()]
    kept = {path: path.read_bytes() for path in files}
    with small_disk(run.root, "1m"):
        for path, content in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield


def test_a_run_directory_that_is_read_only_has_its_state_elsewhere(
    ended: Run, states: Path
) -> None:
    """A disk that is mounted read only: root cannot write it either."""
    with moved_to_a_small_disk(ended):
        subprocess.run(["mount", "-o", "remount,ro", str(ended.root)], check=True)
        assert look(ended).count("ekiden ") == len(FAULTS)
        assert look(ended) == ""
    assert sorted(path.name for path in states.rglob("guard.*")) == [
        "guard.heartbeat",
        "guard.json",
    ]


def test_alerts_come_through_while_the_disk_is_full(ended: Run) -> None:
    with moved_to_a_small_disk(ended):
        fill(ended.root)
        assert look(ended).count("ekiden ") == len(FAULTS)
        assert look(ended) == ""
        assert not ended.guard.lock.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_guard_at_once_also_while_a_command_runs(
    ended: Run, number: signal.Signals
) -> None:
    with start(ended, "alerts.command=echo $$ > pids; sleep 600", "alerts.timeout=300") as guard:
        wait_until((ended.root / "pids").exists, "command", every=0.02)
        guard.send_signal(number)
        _, said = guard.communicate(timeout=patience(60))
    assert guard.returncode == 75
    assert said.startswith(f"stopping ({number.name}): only the guard ends; the run continues\n")
    assert "Traceback" not in said
    (pid,) = (ended.root / "pids").read_text().split()
    wait_until(lambda: not alive(int(pid)), "end of the command", every=0.02)
    assert not ended.guard.lock.exists()
    assert guard_state.load(ended).since() == {}


def test_a_guard_without_its_run_is_refused(workdir: Workdir) -> None:
    (workdir.folder / "work/runs").mkdir(parents=True)
    command = ["guard", str(workdir.recipe_file), "--once"]
    found = CliRunner().invoke(watch.app, command)
    assert "no such run; submit it first" in str(found.exception)
    for wrong in (["--every", "5"], ["--once", "--test"], ["--once", "--every", "90"]):
        found = CliRunner().invoke(watch.app, ["guard", str(workdir.recipe_file), *wrong])
        assert isinstance(found.exception, EkidenError)
