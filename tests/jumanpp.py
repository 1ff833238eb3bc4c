"""A stand-in for Juman++ 2, which no registry carries: its line protocol and its hunger for memory.

    path = jumanpp.install(folder)      # an executable `jumanpp` in the folder, to be put on the PATH

As a program it does what was observed on the real one (`jumanpp --segment`): a line in, a line out, and
- a line that begins with "# " is swallowed; over 1,024 bytes it takes the next line along;
- over 4,096 bytes, or not UTF-8: no answer, at most a message on stderr;
- white space and NUL are words; --segment-separator=X stands between words;
- after a flag it does not know it ignores the others, prints another format, and ends with code 0;
- a run of N characters of one kind takes memory: under a limit it aborts (134).
Words end where the kind of character changes. The environment has it misbehave, for the tests:
STAND_IN_DIE, _HANG, _CHANGE, _SWALLOW, _DOUBLE: at a line that holds this text; STAND_IN_LIFE: end
after so many lines; STAND_IN_BURN: seconds of processor time a byte; STAND_IN_LOG: a folder for a file
of each process, which tells of its first and last answer and of its waiting (JSON).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import sys
import time
from pathlib import Path

VERSION = "Juman++ Version: 2.0.0-rc3 / Dictionary: stand-in / LM: none"
KINDS = ("[A-Za-z]", "[0-9]", "[ぁ-ゟ]", "[゠-ヿ]", "[一-龠々]", "[\u0300-\u036f]")
_KIND = [re.compile(kind) for kind in KINDS]
_RUN = re.compile("|".join(f"(?:{kind}){{100,}}" for kind in KINDS))


def install(folder: Path) -> Path:
    """Make it a program of a folder; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "jumanpp"
    text = Path(__file__).read_text(encoding="utf-8")
    path.write_text(f"#!{sys.executable} -SE\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return path


def segment(line: str, separator: str = " ") -> str:
    """The line with a separator where the kind of character changes; each white space is a word."""
    return separator.join("".join(run) for _, run in itertools.groupby(line, _Words()))


def memory(run: int) -> int:
    """Bytes for a run of characters: 0.5 GB for 500, 1.3 for 700, 3.5 for 1,000 were measured."""
    return int(0.5e9 * (run / 500) ** 2.8)


class _Words:
    """Numbers the words of a line, character by character."""

    def __init__(self) -> None:
        self.kind: object = None
        self.number = 0

    def __call__(self, character: str) -> int:
        kind: object = next((k for k, pattern in enumerate(_KIND) if pattern.match(character)), "")
        self.number += kind != self.kind or kind == ""
        self.kind = kind
        return self.number


class Program:
    """One process: answers stdin on stdout until it ends."""

    def __init__(self, arguments: list[str]) -> None:
        known = re.compile("--segment$|--segment-separator=")
        read = list(itertools.takewhile(known.match, arguments))
        self.segments = "--segment" in read
        self.separator = " "
        for argument in read:
            if argument.startswith("--segment-separator="):
                self.separator = argument.partition("=")[2]
        faults = ("DIE", "HANG", "CHANGE", "SWALLOW", "DOUBLE")
        self.marks = {name: os.environ.get(f"STAND_IN_{name}", "") for name in faults}
        self.life = int(os.environ.get("STAND_IN_LIFE", "0"))
        self.burn = float(os.environ.get("STAND_IN_BURN", "0"))
        self.waited, self.first, self.last = 0.0, 0.0, 0.0
        self.waited_before_last = 0.0  # the wait for the end of the input is none within the text
        self.lines, self.unread = 0, b""

    def run(self) -> None:
        """Answer all lines."""
        probed = False  # what comes before the first empty line is not the text yet
        while raw := self.read(probed):
            began = time.thread_time()
            answer = self.answer(raw.removesuffix(b"\n"))
            while time.thread_time() - began < self.burn * len(raw):
                pass
            if answer is not None:
                self.write(answer)
            probed = probed or raw == b"\n"

    def read(self, timed: bool) -> bytes:
        """The next line, empty at the end; waiting for it counts once the text has begun."""
        while b"\n" not in self.unread:
            self.wait([0], [])
            more = os.read(0, 1 << 16)
            if not more:
                break
            self.unread += more
        raw, end, self.unread = self.unread.partition(b"\n")
        if timed and not self.first:
            self.first, self.waited = time.monotonic(), 0.0
        return raw + end

    def write(self, answer: str) -> None:
        """Print an answer at once, as the real one does over a pipe."""
        raw = answer.encode() + b"\n"
        while raw:
            self.wait([], [1])
            raw = raw[os.write(1, raw) :]
        self.last, self.waited_before_last = time.monotonic(), self.waited

    def wait(self, readable: list[int], writable: list[int]) -> None:
        """Wait for stdin or stdout, and count the time; no wait is what the scheduler takes."""
        if not any(select.select(readable, writable, [], 0)):
            began = time.monotonic()
            select.select(readable, writable, [])
            self.waited += time.monotonic() - began

    def answer(self, raw: bytes) -> str | None:
        """The answer to a line, None where there is none."""
        if raw.startswith(b"# ") and len(raw) >= 3:
            if len(raw) > 1024:
                self.read(timed=False)
            return None
        if len(raw) > 4096:
            print("the input is too long", file=sys.stderr, flush=True)
            return None
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            return None
        self.lines += 1
        if self.life and self.lines > self.life:
            os._exit(1)
        for run in _RUN.findall(line):
            self.take(memory(len(run)))
        line = self.misbehave(line)
        if not self.segments:
            return "\n".join(
                [*(f"{word} {word} {word} 名詞 6" for word in segment(line).split()), "EOS"]
            )
        return segment(line, self.separator)

    def take(self, size: int) -> None:
        """Take memory, and give it back; abort where there is none."""
        try:
            bytearray(size)
        except MemoryError:
            print("std::bad_alloc", file=sys.stderr, flush=True)
            os.abort()

    def misbehave(self, line: str) -> str:
        """What the environment asks for."""
        met = {name for name, mark in self.marks.items() if mark and mark in line}
        if "DIE" in met:
            os._exit(137)
        if "HANG" in met:
            time.sleep(1e6)
        if "SWALLOW" in met:
            self.read(timed=False)
        if "DOUBLE" in met:
            self.write(segment(line))
        return line[1:] if "CHANGE" in met else line

    def log(self, folder: str) -> None:
        """Write down the times, in seconds of the machine's monotonic clock."""
        row = {"first": self.first, "last": self.last, "lines": self.lines}
        row["waited"] = self.waited_before_last
        Path(folder, f"{os.getpid()}.json").write_text(json.dumps(row))


def main(arguments: list[str]) -> int:
    """The program; returns its exit code."""
    if arguments[:1] == ["--version"]:
        print(VERSION)
        return 1  # as the real one does
    program = Program(arguments)
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        program.run()
    if folder := os.environ.get("STAND_IN_LOG"):
        program.log(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
