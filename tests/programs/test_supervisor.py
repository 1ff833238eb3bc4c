"""The supervisor of this machine as slurmctld: the time limit of an attempt."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

from kit.cluster import announced
from kit.cluster.processes import Processes
from kit.cluster.supervisor import Watch
from kit.store.files import write_json
from tests.relay import wait_until

if TYPE_CHECKING:
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
