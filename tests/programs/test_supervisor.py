"""The supervisor of this machine as slurmctld: the time limit of an attempt."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from kit.cluster import announced
from kit.cluster.oom_killer import OomKiller
from kit.cluster.processes import Processes
from kit.cluster.supervisor import Watch, _Stop
from kit.store.files import write_json
from tests.relay import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run


def test_a_time_limit_does_not_count_the_time_for_which_a_rank_is_stopped(run: Run) -> None:
    write_json(run.jobs, {"local": [{"name": "train"}]})
    said: list[str] = []
    with subprocess.Popen(["sleep", "600"]) as rank:
        task = Processes("train-0-a.0", [rank], run.root / "log", 0)
        ends = time.time() + 600
        watch = Watch(run, "train", task, ends, ends - 90, None)
        watch.extend_limit(said.append)
        assert (watch.ends, said) == (ends, [])

        rank.send_signal(signal.SIGSTOP)
        wait_until(task.stopped, "a stop")
        began = time.time()
        while time.time() < began + 0.3:
            watch.extend_limit(said.append)
        assert (watch.ends, said) == (ends, [])  # it may be stopped for long
        rank.send_signal(signal.SIGCONT)
        wait_until(lambda: not task.stopped(), "its continuation")
        watch.extend_limit(said.append)
        rank.kill()

    assert watch.ends - watch.warns == 90
    assert ends + 0.3 <= watch.ends <= ends + (time.time() - began) + 1
    assert announced.end_of(run, "train") == watch.ends  # as rank 0 asks for it
    (line,) = said
    assert line.startswith("train: stopped for ")


def test_a_rank_that_dies_as_its_cgroup_counts_a_kill_is_told_and_its_peer_is_not(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/\n")
    count = tmp_path / "memory.events.local"
    count.write_text("oom_kill 0\n")
    log = run.root / "log"
    log.touch()
    with subprocess.Popen(["sleep", "600"]) as peer, subprocess.Popen(["sleep", "600"]) as rank:
        task = Processes("train-0-a.0", [peer, rank], log, 0)
        killer = OomKiller(tmp_path, tmp_path, tmp_path / "none")
        watch = Watch(run, "train", task, time.time() + 600, time.time() + 510, None, killer)
        count.write_text("oom_kill 1\n")
        rank.kill()
        rank.wait()
        peer.terminate()
        state = watch.wait(_Stop(), lambda _: None)
    assert state.oom is not None
    assert (state.oom.who, state.oom.certain) == ("rank 1", True)


def test_a_terminal_that_is_closed_stops_a_run_unless_it_is_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _Stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with _Stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)
