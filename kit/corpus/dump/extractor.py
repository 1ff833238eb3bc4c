"""wikiextractor 3.1 as a program: pages go in through a pipe, their texts come out, in order.

for page, text in extractor.texts(pages, namespaces, failed):
    ...

The program is AGPL-3 software and is never imported. Its three processes (mapper, worker, reducer) wait
forever when one of them dies: so they are watched, and after a failure the pending pages go one at a
time to fresh processes until the offending page is found.

Memory: at most `AHEAD` pages and `AHEAD_BYTES` (or one page) are pending, an answer has at most
`LONGEST_ANSWER` bytes, and each of the three processes gets `MEMORY` of address space.
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
AHEAD = 32  # pages; the program itself reads eleven ahead of its output
AHEAD_BYTES = 16 << 20
LONGEST_ANSWER = 32 << 20  # bytes; JSON escapes a character of three bytes as six
MEMORY = 1 << 30  # bytes of address space: {{padleft:x|999999999}} is a gigabyte
PROCESSES = 1  # workers: with one CPU per task a second would idle, and cost another process
_PIPE = 1 << 20  # bytes; the largest an unprivileged user may request from Linux
_POLL = 1.0  # seconds of silence after which the children are checked
_STDERR = 2000  # bytes of its messages to keep
# The shell limits the memory, leaves a watcher that kills the group when this process dies (even by
# kill -9: its end of a pipe closes), and becomes the program. The command comes as a list.
_SHELL = (
    'ulimit -v "$1" 2>/dev/null; shift; '
    '(read -r _ <"/dev/fd/$0"; kill -KILL 0) >/dev/null 2>&1 & exec "$@"'
)


@dataclass(frozen=True)
class Page:
    """An article of the dump: title and wikitext still escaped as in XML, and its place for messages."""

    title: str
    text: bytes
    place: str
    revised: tuple[int, int, int] | None = None  # year, month, day
    id: str | None = None  # of the page in the wiki, in decimal

    def xml(self, number: int) -> bytes:
        """The page as the program expects it, which reads lines, not XML."""
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
    """Yield the text of each page, in the order of the pages.

    Calls `failed` with a page that the program cannot process and the reason; the page is skipped unless
    `failed` raises. Raises InputError if the program is missing or does not work at all. The first page
    starts the program; closing the generator kills all of it.
    """
    pending: deque[Page] = deque()
    head = _head(namespaces)
    while (page := next(pages, None) if not pending else pending.popleft()) is not None:
        pending.appendleft(page)
        try:
            with _Program(head, patience) as program:
                yield from program.run(pages, pending)
        except _Failed:
            yield from _one_by_one(pending, head, failed, patience)


def _one_by_one(
    pending: deque[Page], head: bytes, failed: Callable[[Page, str], None], patience: float
) -> Iterator[tuple[Page, str]]:
    """Extract each page by a fresh process, up to the offending one, which is reported to `failed`."""
    while pending:
        page = pending[0]
        try:
            text = _alone(page, head, patience)
        except _Failed as failure:
            _probe(head, patience)
            pending.popleft()
            failed(page, str(failure))
            return
        pending.popleft()
        yield page, text


def _alone(page: Page, head: bytes, patience: float) -> str:
    with _Program(head, patience) as program:
        return next(program.run(iter([]), deque([page])))[1]


def _probe(head: bytes, patience: float) -> None:
    """Raise InputError unless the program can process a trivial page."""
    try:
        _alone(Page("a", b"a", ""), head, patience)
    except _Failed as failure:
        raise InputError(
            f"wikiextractor does not work here: {failure}; try `{sys.executable} -m "
            "wikiextractor.WikiExtractor --help`, and reinstall ekiden[wikipedia]"
        ) from None


def _head(namespaces: list[str]) -> bytes:
    """Build the header of a dump, with nothing but its namespaces.

    The program drops an article whose title begins with the name of namespace 10, even
    「Template Method パターン」. So it gets a name with which no title can begin.
    """
    names = "".join(f'<namespace key="">{name}</namespace>\n' for name in namespaces)
    return f'{names}<namespace key="10">></namespace>\n</siteinfo>\n'.encode()


class _Failed(Exception):  # noqa: N818  of one page, perhaps
    """The program died, is stuck, or answered for another page."""


class _Program:
    """One run of the program, in a process group of its own that is killed at the end."""

    def __init__(self, head: bytes, patience: float) -> None:
        if importlib.util.find_spec("wikiextractor") is None:
            raise InputError("wikiextractor is not installed; run pip install 'ekiden[wikipedia]'")
        self._out = memoryview(head)  # bytes still to be written to the program
        self._in = bytearray()  # its incomplete last line
        self._patience = patience
        self._silence = 0.0  # seconds without a byte in or out
        self._feeding = False  # whether the selector watches stdin
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
            with contextlib.suppress(OSError, AttributeError):  # larger pipes let both sides run on
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
            # Before wait(): until then the id cannot belong to another process.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()
        os.close(self._alive)

    def run(self, pages: Iterator[Page], pending: deque[Page]) -> Iterator[tuple[Page, str]]:
        """Feed the pending pages, then `pages`; a page is pending until its text is yielded.

        Raises _Failed, with the unanswered pages left in `pending`.
        """
        again = deque(pending)
        asked = answered = 0
        while True:
            if not self._out and not self._stdin.closed and (again or _has_room(pending)):
                page = again.popleft() if again else next(pages, None)
                if page is not None:
                    if len(pending) == asked - answered:
                        pending.append(page)
                    asked += 1
                    self._out = memoryview(page.xml(asked))
                elif not pending:
                    return
                else:
                    self._stdin.close()  # so that a page it leaves out is not waited for
            for answer in self._exchange():
                answered += 1
                if answer["id"] != str(answered):
                    raise _Failed(f"wikiextractor skipped a page before its page {answer['id']}")
                yield pending.popleft(), answer["text"]
            if not pending and self._stdin.closed:
                return

    def _exchange(self) -> list[dict[str, str]]:
        """Read and write as the pipes allow, waiting at most a second; returns the complete answers."""
        if bool(self._out) != self._feeding:
            self._feeding = not self._feeding
            if self._feeding:
                self._selector.register(self._stdin, selectors.EVENT_WRITE)
            else:
                self._selector.unregister(self._stdin)
        started = time.monotonic()
        ready = [key.fileobj for key, _ in self._selector.select(min(_POLL, self._patience))]
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
        if self._silence >= _POLL and self._is_crippled():
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
            raise _Failed(f"its text is larger than {LONGEST_ANSWER >> 20} MiB")
        if b"\n" not in data:
            return []
        *lines, self._in = self._in.split(b"\n")
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise _Failed("wikiextractor wrote invalid JSON") from None

    def _listen(self) -> None:
        data = os.read(self._stderr.fileno(), _PIPE)
        self._messages = (self._messages + data)[-_STDERR:]
        if not data:
            self._selector.unregister(self._stderr)

    def _is_crippled(self) -> bool:
        """Whether one of its processes is dead: the others would wait for it forever."""
        if b"Error" in self._messages:  # of the mapper, which then waits for the reducer
            return True
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return any(
                Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
                for each in [pid, *children]
            )
        except OSError:  # no /proc, or a child that has just ended: PATIENCE covers it
            return False

    def _reason(self) -> str:
        with contextlib.suppress(OSError, KeyError):
            if self._selector.get_key(self._stderr) and self._selector.select(0):
                os.set_blocking(self._stderr.fileno(), False)
                self._listen()
        lines = self._messages.decode(errors="replace").strip().split("\n")
        last = next((line for line in reversed(lines) if not line.startswith("WARNING")), "")
        return f"wikiextractor failed: {last or 'it was killed, or ended early'}"


def _has_room(pending: deque[Page]) -> bool:
    return len(pending) < AHEAD and sum(len(page.text) for page in pending) < AHEAD_BYTES
