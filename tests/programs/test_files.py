"""Files whose writer is killed, or whose disk is full."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.cluster import announced
from kit.store import manifest
from kit.store.files import is_temporary, write_json
from kit.tracking import ledger
from tests.disk import fill, small_disk
from tests.relay import wait_until

if TYPE_CHECKING:
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from kit.store.files import atomic
with atomic(Path(sys.argv[1])) as out:
    out.write(b"x" * 5_000_000)
    out.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_killed_write_leaves_the_file_as_it_was(
    tmp_path: Path, root: Path, before: bytes | None
) -> None:
    target = tmp_path / "a.bin"
    if before is not None:
        target.write_bytes(before)
    done = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(target)], cwd=root, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert (target.read_bytes() if target.exists() else None) == before
    left = [path for path in tmp_path.iterdir() if path != target]
    assert left
    assert all(is_temporary(path) for path in left)


KILLED_BEFORE_COMMIT = """
import os, signal, sys
from pathlib import Path
from kit.store.units import Unit, make_units
def make(folder):
    (folder / "cloth").write_bytes(b"whole")
    os.kill(os.getpid(), signal.SIGKILL)
make_units("weave", [Unit("a", Path(sys.argv[1]), {}, make)])
"""


def test_a_folder_whose_process_was_killed_before_commit_is_missing(
    tmp_path: Path, root: Path
) -> None:
    command = [sys.executable, "-c", KILLED_BEFORE_COMMIT, str(tmp_path / "a")]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a" / "cloth").read_bytes() == b"whole"
    assert manifest.state(tmp_path / "a", {}) == "missing"


def test_rows_wait_for_a_full_disk_and_none_is_lost(run: Run) -> None:
    place = run.attempt(1)
    place.root.mkdir()
    with small_disk(place.root, "64k"):
        fill_and_free(place)


def fill_and_free(place: Attempt) -> None:
    book = ledger.Ledger(place)
    added = [book.add("step", step=1, text="a" * 100)]
    filler = fill(place.root)
    added += [book.add("step", step=step, text="b" * 1000) for step in range(2, 20)]
    with pytest.raises(OSError, match="No space left"):
        book.sync()
    filler.unlink()
    added.append(book.add("step", step=20))
    book.close()
    assert list(ledger.rows(place)) == added


PRINTS = """
import sys
from kit.output import streams

if sys.argv[1] == "spared":
    streams.spare_both()
for stream in (sys.stdout, sys.stderr):
    print("a line for the log", file=stream, flush=True)
    print("駅伝" * 10_000, file=stream, flush=True)
"""


@pytest.mark.parametrize("how", ["spared", "not spared"])
def test_a_log_on_a_full_disk_is_no_error_to_who_writes_it(root: Path, how: str) -> None:
    with Path("/dev/full").open("wb") as full:  # a disk with no room left
        command = [sys.executable, "-c", PRINTS, how]
        done = subprocess.run(command, cwd=root, stdout=full, stderr=full, check=False)
    assert (done.returncode == 0) is (how == "spared")


def test_a_log_says_what_is_printed(root: Path) -> None:
    command = [sys.executable, "-c", PRINTS, "spared"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == "a line for the log\n" + "駅伝" * 10_000 + "\n"


# A command that is stopped when nobody reads its messages any more, and still saves.
STOPPED = """
import os, signal, sys, time
from pathlib import Path
from jobs import ending
from kit.output import log

with ending.in_order():
    Path(sys.argv[1], "ready").touch()
    try:
        while True:
            time.sleep(0.05)
    finally:
        log.warning("stopping")
        print("much", file=sys.stderr)
        time.sleep(0.2)  # as a second signal comes
        Path(sys.argv[1], "saved").touch()
"""


@pytest.mark.parametrize("reader", ["pipe", "terminal"])
def test_a_command_saves_whose_messages_nobody_reads(
    root: Path, tmp_path: Path, reader: str
) -> None:
    ours, its = os.pipe() if reader == "pipe" else pty.openpty()
    command = [sys.executable, "-c", STOPPED, str(tmp_path)]
    process = subprocess.Popen(command, cwd=root, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    wait_until((tmp_path / "ready").exists, "start", every=0.02)
    os.close(ours)
    process.send_signal(signal.SIGINT if reader == "pipe" else signal.SIGHUP)
    if reader == "terminal":  # the kernel sends one, and a shell another
        time.sleep(0.1)
        process.send_signal(signal.SIGHUP)
    assert process.wait() == 75
    assert (tmp_path / "saved").exists()


def test_the_count_of_tasks_on_a_full_disk_ends_no_array(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    with small_disk(run.root, "64k"):
        write_json(run.jobs, {"local": [{"name": "tokenize"}]})
        fill(run.root)
        announced.record_tasks(run, "tokenize", 2, 3)
        said = capfd.readouterr().err
        assert said.endswith(f"{run.jobs}: not written (No space left on device)\n")
        assert "running" not in announced.local_jobs(run)[0]
