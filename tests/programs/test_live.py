"""The live view in a real terminal: tmux draws it, and types the keys.

Without tmux the tests are skipped; with CI=true they fail.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from kit.relay import resolve
from kit.store.files import write_json
from tests.conftest import ROOT, Workdir, new_workdir
from tests.relay import wait_until
from tests.written import Written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.store.paths import Run

TMUX = shutil.which("tmux")
pytestmark = pytest.mark.skipif(
    TMUX is None and os.environ.get("CI") != "true", reason="tmux is not installed"
)
PROMPT = "prompt>"
MODES = r"stty -a | grep -o ' icanon\| echo '"  # prints both on a terminal that waits for lines
OF_A_SHELL = r"\n icanon\n echo *\n"


@dataclass(frozen=True)
class Terminal:
    """A shell in a terminal of a given size."""

    socket: Path

    def tmux(self, *arguments: str) -> str:
        """What a command of tmux prints."""
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def type(self, *keys: str) -> None:
        """Type keys by their names, or text."""
        self.tmux("send-keys", *keys)

    def shows(self, colours: bool = False) -> str:
        """What stands on it."""
        return self.tmux("capture-pane", "-p", *(["-e"] if colours else []))

    def wait(self, *patterns: str) -> str:
        """What it shows once there is each of these patterns."""
        seen = ""

        def found() -> bool:
            nonlocal seen
            seen = self.shows()
            return all(re.search(one, seen) for one in patterns)

        try:
            wait_until(found, f"{patterns} on the terminal", 60, 0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows:\n{seen}") from None
        return seen


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal of 80 columns and 24 lines, in the checkout."""
    made = Terminal(tmp_path / "tmux")
    shell = f"PS1='{PROMPT} ' exec bash --norc --noprofile"
    made.tmux("new-session", "-d", "-x", "80", "-y", "24", "-c", str(ROOT), "env", "-u", "NO_COLOR",
              "LC_ALL=C.UTF-8", "bash", "-c", shell)  # fmt: skip
    yield made
    made.tmux("kill-server")


@pytest.fixture
def workdir(tmp_path: Path, streams: list[bytes]) -> Workdir:
    """A workspace whose path is Japanese."""
    folder = tmp_path / "駅伝の記録"
    folder.mkdir()
    return new_workdir(folder, streams)


@pytest.fixture
def run(workdir: Workdir) -> Run:
    """A run of two attempts, the second preempted at step 60, with a log."""
    made = workdir.workspace.run("small")
    start = time.time() - 4000
    written = Written(made, start)
    project = resolve.load(workdir.recipe_file, ["training.steps=1000"], "local")
    write_json(made.recipe, project.recipe.model_dump(mode="json"))
    write_json(made.cluster, project.cluster.model_dump(mode="json"))
    written.start(1, 100)
    written.steps(1, 150, range(1, 41))
    written.row(1, "checkpoint", 530, step=37, seconds=5.0, blocked=1.0, bytes=1000)
    written.saved(37, 1)
    written.decide(1, 560, "preemption")
    written.start(2, 900, 37)
    written.steps(2, 960, range(38, 61))
    written.decide(2, 1300, "preemption")
    log = made.job_logs("train") / "train-0_0_log.out"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(f"line {number} of the log: 襷" for number in range(50)) + "\n")
    return made


def watch(run: Run, before: str = "") -> str:
    return f"{before} {sys.executable} -m jobs.watch {shlex.quote(str(run.root))}"


def test_pages_keys_and_sizes_of_the_live_view(terminal: Terminal, run: Run) -> None:
    terminal.type(f"{watch(run)}; echo left with $?; {MODES}", "Enter")
    first = terminal.wait("step 60 of 1,000", "┤", "attempt +1 +2", "goodput", "90%: ", "q quit")
    assert first.splitlines()[0].split()[0].endswith("駅伝の記録/work/runs/small")
    assert PROMPT not in first
    terminal.type("a")
    attempts = terminal.wait("started +from step").splitlines()
    assert [line.split()[0] for line in attempts[2:4]] == ["2", "1"]
    assert attempts[3].split()[-1] == "preemption"
    terminal.type("l")
    terminal.wait(r"train-0_0_log\.out", "line 49 of the log: 襷\n")
    log = run.job_logs("train") / "train-0_0_log.out"
    log.write_text(log.read_text() + "a line that was written later\n")
    terminal.wait("a line that was written later")
    terminal.type("g")
    assert "written later" not in terminal.wait("line 0 of the log", "0 lines above")
    terminal.type("m")
    terminal.wait("step 60 of 1,000")
    terminal.tmux("resize-window", "-x", "200", "-y", "50")
    wide = terminal.wait("chain .* run +step 60 of 1,000", "alerts|critical|warning")
    assert max(map(len, wide.splitlines())) > 150
    terminal.type("q")
    after = terminal.wait("left with 0", OF_A_SHELL, f"(?s){PROMPT}.*{PROMPT}")
    assert "goodput" not in after  # the shell's own screen again


def test_ctrl_z_ctrl_c_and_a_terminal_without_colour(terminal: Terminal, run: Run) -> None:
    terminal.type(watch(run, "NO_COLOR=1"), "Enter")
    terminal.wait("step 60 of 1,000")
    assert not re.search(r"\x1b\[[\d;]*[34][0-7]", terminal.shows(colours=True))
    terminal.type("C-z")
    terminal.wait("Stopped")
    terminal.type(f"{MODES}; fg; {MODES}", "Enter")
    terminal.wait("step 60 of 1,000", "q quit")
    terminal.type("C-c")
    terminal.wait(f"(?s){OF_A_SHELL}.*{OF_A_SHELL}")
    terminal.type("echo left with $?", "Enter")
    after = terminal.wait("left with 0")
    assert "stopping" not in after
    assert "Traceback" not in after


def test_a_killed_view_leaves_the_terminal_as_it_was(terminal: Terminal, run: Run) -> None:
    process = run.root / "process"
    started = f"{shlex.quote(str(process))}; exec {watch(run)}"
    terminal.type(f"bash -c {shlex.quote(f'echo $$ > {started}')}; echo left with $?", "Enter")
    terminal.wait("step 60 of 1,000")
    terminal.type("l")
    terminal.wait("line 49")
    os.kill(int(process.read_text()), 15)
    after = terminal.wait("left with 75")
    assert "line 49" not in after
    terminal.type(MODES, "Enter")
    terminal.wait(OF_A_SHELL)


def test_what_goes_wrong_while_it_watches_is_shown_beside_the_rest(
    terminal: Terminal, run: Run
) -> None:
    terminal.tmux("resize-window", "-x", "80", "-y", "60")
    terminal.type(watch(run), "Enter")
    terminal.wait("step 60 of 1,000")
    whole = run.attempt(2).ledger.read_text()
    run.attempt(2).ledger.write_text("no row\n" + whole)
    terminal.wait("problem ", r"damaged\b", "attempts +2: from step 37")
    run.attempt(2).start.write_text("{")
    terminal.wait("problem ", r"left\s+out\b", "attempts +1: from step 0")
    write_json(run.attempt(2).start, {"job": "17.1", "ranks": 2, "from_step": 37, "time": 1.0})
    run.attempt(2).ledger.write_text(whole)
    wait_until(lambda: "problem" not in terminal.shows(), "end of the problems")
    terminal.type("q")
