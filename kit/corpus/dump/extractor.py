"""wikiextractor 3.1 as a program: pages go in through a pipe, their texts come out, in order.

for page, text in extractor.texts(pages, namespaces, failed):
    ...

The program is AGPL-3 software, and never imported. It is a mapper, a worker and a reducer, three
processes, and waits for ever when one of them dies: so it is watched, and where it fails, the pages
that it still owes go one at a time to fresh processes until the page at fault is found.

Memory: at most `AHEAD` pages and `AHEAD_BYTES` (or one page) are on their way, an answer has at
most `LONGEST_ANSWER` bytes, and each of the three processes gets `MEMORY` of address space.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType
    from typing import IO, Self

PATIENCE = 300.0  # seconds without a byte in or out; the slowest real page takes a few
AHEAD = 32  # pages; the program itself takes eleven ahead of what it has written
AHEAD_BYTES = 16 << 20
LONGEST_ANSWER = 32 << 20  # bytes; JSON makes six bytes of a character of three
MEMORY = 1 << 30  # bytes of address space: {{padleft:x|999999999}} is a gigabyte
PROCESSES = 1  # workers: a second one is idle where a task has one CPU, and costs another process
_PIPE = 1 << 20  # bytes; the largest a user may ask Linux for
_GLANCE = 1.0  # seconds of silence after which the children are looked at
_REASON = 2000  # bytes of its messages that are kept
# The shell limits the memory, leaves a watcher that ends the group when this process dies (be it by
# kill -9: its end of a pipe closes), and becomes the program. What it runs comes as a list.
_SHELL = (
    'ulimit -v "$1" 2>/dev/null; shift; '
    '(read -r _ <"/dev/fd/$0"; kill -KILL 0) >/dev/null 2>&1 & exec "$@"'
)


@dataclass(frozen=True)
class Page:
    """An article as the dump has it: title and wikitext escaped as in XML, and where it stands."""

    title: str
    text: bytes
    place: str

    def xml(self, number: int) -> bytes:
        """What the program is given; it reads lines, not XML."""
        return (
            f"<page>\n<title>{self.title}</title>\n<ns>0</ns>\n<id>{number}</id>\n<text>".encode()
            + self.text
            + b"</text>\n</page>\n"
        )


def texts(
    pages: Iterator[Page],
    namespaces: list[str],
    failed: Callable[[Page, str], None],
    patience: float = PATIENCE,
) -> Generator[tuple[Page, str], None, None]:
    """The text of each page, in the order of the pages.

    `failed` is told of a page that the program cannot do, with the reason; the page is passed over
    unless it raises. Raises InputError where the program is missing or does not work at all. The
    first page starts the program; nothing of it is left when the generator is closed.
    """
    owed: deque[Page] = deque()
    head = _head(namespaces)
    while (page := next(pages, None) if not owed else owed.popleft()) is not None:
        owed.appendleft(page)
        try:
            with _Program(head, patience) as program:
                yield from program.run(pages, owed)
        except _Failed:
            yield from _one_by_one(owed, head, failed, patience)


def _one_by_one(
    owed: deque[Page], head: bytes, failed: Callable[[Page, str], None], patience: float
) -> Iterator[tuple[Page, str]]:
    """The texts of the pages up to the one at fault, which is told of, each by a fresh process."""
    while owed:
        page = owed[0]
        try:
            text = _alone(page, head, patience)
        except _Failed as failure:
            _probe(head, patience)
            owed.popleft()
            failed(page, str(failure))
            return
        owed.popleft()
        yield page, text


def _alone(page: Page, head: bytes, patience: float) -> str:
    with _Program(head, patience) as program:
        return next(program.run(iter([]), deque([page])))[1]


def _probe(head: bytes, patience: float) -> None:
    """Raise InputError unless the program does a page that is beyond doubt."""
    try:
        _alone(Page("a", b"a", ""), head, patience)
    except _Failed as failure:
        raise InputError(
            f"wikiextractor does not work here: {failure}; try `{sys.executable} -m "
            "wikiextractor.WikiExtractor --help`, and install ekiden[wikipedia] again"
        ) from None


def _head(namespaces: list[str]) -> bytes:
    """The part of a dump before its pages, made new: what else a header holds is not passed on.

    The program drops an article whose title begins with the name of namespace 10, be it only
    「Template Method パターン」. So it is told a name with which no title can begin.
    """
    names = "".join(f'<namespace key="">{name}</namespace>\n' for name in namespaces)
    return f'{names}<namespace key="10">></namespace>\n</siteinfo>\n'.encode()


class _Failed(Exception):  # noqa: N818  of one page, perhaps
    """The program died, is stuck, or does not answer what it was asked."""


class _Program:
    """One run of the program, in a process group of its own that is killed at the end."""

    def __init__(self, head: bytes, patience: float) -> None:
        if importlib.util.find_spec("wikiextractor") is None:
            raise InputError("wikiextractor is not installed; pip install 'ekiden[wikipedia]'")
        self._out = memoryview(head)  # what still goes in
        self._in = bytearray()  # what came out and is no whole line
        self._patience = patience
        self._silence = 0.0  # seconds without a byte in or out
        self._feeding = False  # whether the selector looks at stdin
        self._messages = b""
        watched, self._alive = os.pipe()
        command = [sys.executable, "-u", "-m", "wikiextractor.WikiExtractor", "--quiet", "--json"]
        command += ["--no-templates", "--processes", str(PROCESSES), "-o", "-", "/dev/stdin"]
        try:
            self._process = subprocess.Popen(
                ["sh", "-c", _SHELL, str(watched), str(MEMORY >> 10), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[watched],
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            os.close(self._alive)
            raise
        finally:
            os.close(watched)
        self._stdin, self._stdout, self._stderr = (
            cast("IO[bytes]", pipe)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        os.set_blocking(self._stdin.fileno(), False)
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError, AttributeError):  # more of it runs side by side
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._selector.register(self._stderr, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(
                self._process.pid, signal.SIGKILL
            )  # not waited for yet: the id is still its own
        self._process.wait()
        self._selector.close()
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()
        os.close(self._alive)

    def run(self, pages: Iterator[Page], owed: deque[Page]) -> Iterator[tuple[Page, str]]:
        """Feed what is owed and then `pages`; a page is owed until its text is given.

        Raises _Failed; what is owed then is what the program has not answered.
        """
        again = deque(owed)
        asked = answered = 0
        while True:
            if not self._out and not self._stdin.closed and (again or _room(owed)):
                page = again.popleft() if again else next(pages, None)
                if page is not None:
                    if len(owed) == asked - answered:
                        owed.append(page)
                    asked += 1
                    self._out = memoryview(page.xml(asked))
                elif not owed:
                    return
                else:
                    self._stdin.close()  # a page that it leaves out is not waited for
            for answer in self._exchange():
                answered += 1
                if answer["id"] != str(answered):
                    raise _Failed(f"wikiextractor left out a page before its page {answer['id']}")
                yield owed.popleft(), answer["text"]
            if not owed and self._stdin.closed:
                return

    def _exchange(self) -> list[dict[str, str]]:
        """Wait until something moves, for a second at most; the answers that are whole."""
        if bool(self._out) != self._feeding:
            self._feeding = not self._feeding
            if self._feeding:
                self._selector.register(self._stdin, selectors.EVENT_WRITE)
            else:
                self._selector.unregister(self._stdin)
        started = time.monotonic()
        ready = [key.fileobj for key, _ in self._selector.select(min(_GLANCE, self._patience))]
        if self._stderr in ready:
            self._listen()
        if self._stdin in ready:
            self._write()
        if self._stdout in ready:
            self._silence = 0.0
            return self._read()
        self._silence = 0.0 if self._stdin in ready else self._silence + time.monotonic() - started
        if self._silence >= self._patience:
            raise _Failed(f"wikiextractor neither read nor wrote for {self._patience:g} seconds")
        if self._silence >= _GLANCE and self._is_crippled():
            raise _Failed(self._reason())
        return []

    def _write(self) -> None:
        try:
            self._out = self._out[os.write(self._stdin.fileno(), self._out) :]
        except BrokenPipeError:
            raise _Failed(self._reason()) from None

    def _read(self) -> list[dict[str, str]]:
        data = os.read(self._stdout.fileno(), _PIPE)
        if not data:
            raise _Failed(self._reason())
        self._in += data
        if len(self._in) > LONGEST_ANSWER:
            raise _Failed(f"its text has more than {LONGEST_ANSWER >> 20} MiB")
        if b"\n" not in data:
            return []
        *lines, self._in = self._in.split(b"\n")
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise _Failed("wikiextractor wrote what is no JSON") from None

    def _listen(self) -> None:
        data = os.read(self._stderr.fileno(), _PIPE)
        self._messages = (self._messages + data)[-_REASON:]
        if not data:
            self._selector.unregister(self._stderr)

    def _is_crippled(self) -> bool:
        """Whether one of its processes is dead: the others would wait for it."""
        if b"Error" in self._messages:  # the mapper, which then waits for the reducer
            return True
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return any(
                Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
                for each in [pid, *children]
            )
        except OSError:  # no /proc, or a child that is gone by now: PATIENCE will tell
            return False

    def _reason(self) -> str:
        with contextlib.suppress(OSError, KeyError):
            if self._selector.get_key(self._stderr) and self._selector.select(0):
                os.set_blocking(self._stderr.fileno(), False)
                self._listen()
        lines = self._messages.decode(errors="replace").strip().split("\n")
        last = next((line for line in reversed(lines) if not line.startswith("WARNING")), "")
        return f"wikiextractor failed: {last or 'it was killed, or ended early'}"


def _room(owed: deque[Page]) -> bool:
    return len(owed) < AHEAD and sum(len(page.text) for page in owed) < AHEAD_BYTES
