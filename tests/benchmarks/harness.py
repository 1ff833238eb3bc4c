"""What the benchmarks share: comparing with a peer in one run, turns for programs, and the command line.

    python -m tests.benchmarks.NAME [--json] [--only WORD] [--data FILE ...]

Each line names what is measured, ours, the peer, both figures, their ratio, the bar, and whether it
holds; `--json` prints a list of objects with the keys of `Line`. Figures are medians of repetitions
that were interleaved: ours, the peer, ours, the peer. Exit code 1 where a bar does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import operator
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
_SIGNS = {"<=": operator.le, ">=": operator.ge}
_PATIENCE = 300.0  # seconds for a program to come to what is awaited


@dataclass(frozen=True)
class Line:
    """One comparison. `spread` holds the quartiles of the ratios of neighbouring repetitions."""

    name: str
    unit: str
    ours: float
    peer: float
    peer_name: str
    ratio: float
    spread: tuple[float, float]
    bar: str
    holds: bool

    def __str__(self) -> str:
        low, high = self.spread
        near = "|" in self.bar  # a ratio that is to be all but 1
        ratio = f"1{self.ratio - 1:+.1e}" if near else _ratio(self.ratio)
        spread = "" if low == high else f" (quartiles {_ratio(low)} to {_ratio(high)})"
        return (
            f"{self.name}: ours {_short(self.ours)} {self.unit}, {self.peer_name} {_short(self.peer)} "
            f"{self.unit}, ratio {ratio}{spread}; "
            f"{self.bar}: {'holds' if self.holds else 'DOES NOT HOLD'}"
        )


@dataclass(frozen=True)
class Options:
    """What a benchmark was asked for on its command line."""

    data: tuple[Path, ...] = ()


def compare(
    name: str, unit: str, ours: Sequence[float], peer: Sequence[float], peer_name: str, bar: str
) -> Line:
    """A line from repetitions that were interleaved: `ours[i]` was measured next to `peer[i]`.

    `bar` is a figure, a sign and a limit: `ratio <= 1.03`, `|ratio-1| <= 1e-4`, `ours >= 20`.
    """
    assert len(ours) == len(peer)
    own, other = statistics.median(ours), statistics.median(peer)
    ratio = own / other
    figures = {"ours": own, "ratio": ratio, "|ratio-1|": abs(ratio - 1)}
    pairs = sorted(a / b for a, b in zip(ours, peer, strict=True))
    quartiles = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else [pairs[0]] * 3
    figure, sign, limit = bar.split()
    return Line(
        name=name,
        unit=unit,
        ours=own,
        peer=other,
        ratio=ratio,
        peer_name=peer_name,
        spread=(quartiles[0], quartiles[2]),
        bar=bar,
        holds=bool(_SIGNS[sign](figures[figure], float(limit))),
    )


def interleave(
    ours: Callable[[], float], peer: Callable[[], float], repetitions: int
) -> tuple[list[float], list[float]]:
    """Measure one, the other, the one again: what the machine does meanwhile meets both alike."""
    pairs = [(ours(), peer()) for _ in range(repetitions)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def processor_seconds(words: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Processor time of a Python program and of all it starts. Raises RuntimeError if it fails.

    Its modules are compiled once, as the peers' are, even if this machine's environment forbids it.
    """
    environment = {**(os.environ if environment is None else environment)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            text = said.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(words)}: exit code {process.returncode}\n{text}")
    return usage.ru_utime + usage.ru_stime


@dataclass
class Program:
    """The processes of one program, a rank each, and the file of rows that tells of its steps."""

    name: str
    processes: list[subprocess.Popen[bytes]]
    file: Path

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """The rows of a kind so far; a last one that is being written is left."""
        if not self.file.is_file():
            return []
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True)
        rows = (json.loads(line) for line in lines if line.endswith("\n"))
        return [row for row in rows if row["kind"] == kind]

    def ended(self) -> list[float]:
        """The Unix times at which its steps ended."""
        return [row["time"] for row in self.rows("step")]

    def processor_seconds(self) -> float:
        """The processor time that its ranks have had, all threads."""
        return sum(_worked(process.pid) for process in self.processes)

    def helping_seconds(self) -> float:
        """The processor time that the processes have had which its ranks have started, and which run."""
        return sum(_worked(helper.pid) for helper in self._helpers())

    def wait_for(self, steps: int) -> None:
        """Wait until it has done so many steps. Raises RuntimeError where it ends before."""
        self.wait_until(lambda: len(self.ended()) >= steps, f"step {steps}")

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds. Raises RuntimeError where it ends before."""
        deadline = time.monotonic() + _PATIENCE
        while not holds():
            codes = [process.poll() for process in self.processes]
            if any(code not in (None, 0) for code in codes) or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: no {what}; exit codes {codes}")
            time.sleep(0.05)

    def pause(self) -> None:
        """Stop it where it stands."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """End it, at once, and wait for what its ranks have started: that ends by itself."""
        helpers = self._helpers()
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        _send(helpers, signal.SIGCONT)
        psutil.wait_procs(helpers, _PATIENCE)

    def _signal(self, number: int) -> None:
        """Send a signal to its ranks, and to what they have started: its work belongs to the same turn."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)
        _send(self._helpers(), number)

    def _helpers(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += psutil.Process(process.pid).children(recursive=True)
        return found


@dataclass(frozen=True)
class Turn:
    """Seconds a step in one turn of a program."""

    step: float
    processor: float  # of all ranks
    helping: float  # processor time of what the ranks have started


def take_turns(
    programs: Sequence[Program], turns: int, steps: int, warm: int, lead: int = 1
) -> list[list[Turn]]:
    """The turns of each program: while one runs, the others are stopped.

    All are brought to `warm` steps beforehand. A turn is `lead` steps, the first of which was begun
    in an earlier turn, and `steps` that count; their mean holds all that happens between steps. Processor
    time is that of the whole turn.
    """
    for program in programs:
        program.go_on()
        program.wait_for(warm)
        program.pause()
    found: list[list[Turn]] = [[] for _ in programs]
    for _ in range(turns):
        for program, its_turns in zip(programs, found, strict=True):
            its_turns.append(_turn(program, steps, lead))
    return found


def _turn(program: Program, steps: int, lead: int) -> Turn:
    before = len(program.ended())
    worked, helped = program.processor_seconds(), program.helping_seconds()
    program.go_on()
    program.wait_for(before + lead + steps)
    program.pause()
    ended = program.ended()
    inside = ended[before + lead - 1 :][: steps + 1]
    count = len(ended) - before
    return Turn(
        step=(inside[-1] - inside[0]) / steps,
        processor=(program.processor_seconds() - worked) / count,
        helping=(program.helping_seconds() - helped) / count,
    )


@contextlib.contextmanager
def ranks(
    name: str,
    commands: Iterable[tuple[Sequence[str], Mapping[str, str]]],
    rows: Path,
    folder: Path,
) -> Iterator[Program]:
    """Start a program, a command and its environment for each rank; it is ended with the block.

    What the ranks print goes to `folder`, and is shown where the block fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = Program(name, [], rows)
    logs = []
    try:
        for rank, (command, variables) in enumerate(commands):
            logs.append(folder / f"{rank}.log")
            with logs[-1].open("wb") as log:
                program.processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=os.environ | variables,
                        cwd=ROOT,
                    )
                )
        yield program
    except RuntimeError:
        for path in logs:
            print(f"{path}:\n{path.read_text(errors='replace')[-2000:]}", file=sys.stderr)
        raise
    finally:
        program.end()


def main(text: str, measures: Mapping[str, Callable[[Options], Iterable[Line]]]) -> int:
    """Run the measures of a benchmark; returns the exit code. `text` is the module's docstring."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    parser.add_argument("--only", metavar="WORD", choices=measures, help=", ".join(measures))
    parser.add_argument(
        "--data",
        metavar="FILE",
        nargs="+",
        type=Path,
        default=[],
        help="real text, where one is read",
    )
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # under nohup a HUP is ignored
            signal.signal(number, lambda *_: sys.exit(1))  # through the blocks that end programs
    lines: list[Line] = []
    for name, measure in measures.items():
        if arguments.only in (None, name):
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            for line in measure(Options(tuple(arguments.data))):
                lines.append(line)
                if not arguments.json:
                    print(line, flush=True)
    if arguments.json:
        print(json.dumps([asdict(line) for line in lines], ensure_ascii=False, indent=1))
    return 0 if all(line.holds for line in lines) else 1


def _worked(process: int) -> float:
    """Processor seconds of a process so far; 0 if it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0.0
    user, system = stat.rpartition(")")[2].split()[11:13]  # see man proc
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _send(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _short(value: float) -> str:
    """A figure in four digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
