"""One process that answers lines with lines, over non-blocking pipes.

Blocks of lines are sent one after the other; an empty line closes a block, and the empty line that
answers it closes the block's answer. No line of a block is empty, so anything the process swallows or
adds shows at the next empty line at the latest.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import subprocess
import tempfile
from collections import deque
from typing import TYPE_CHECKING

from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.corpus.segmenters.requests import RequestPart

PIPE = 256 << 10  # bytes: half a second's work at 0.54 MB/s; an unprivileged pipe may have 1 MiB
_EXIT_TIMEOUT = 2.0  # seconds for a process to exit after its input has ended


class Worker:
    """The process, its unanswered blocks, and its output so far."""

    def __init__(self, command: Sequence[str], memory: int) -> None:
        """Start the process, with `memory` bytes of address space. Raises ClusterError."""
        self.blocks: deque[RequestPart] = deque()
        self.load = 0  # bytes of the blocks
        self.alone = False  # nothing else may be sent until it has answered
        self.fresh = True  # has answered no line yet that could have damaged it
        self.waited = 0.0  # seconds of silence with blocks to answer
        self.ended = False
        self.probing = True  # has not yet answered the probe
        self._unsent = bytearray()
        self._answer = bytearray()
        self._searched = 0  # leading bytes of the answer without the end of a block
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        try:
            self.process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
            )
        except OSError as error:
            raise ClusterError(
                f"{command[0]}: cannot be started ({error.strerror}); install it on every node"
            ) from error
        pipes = (self.process.stdin, self.process.stdout)
        self.input, self.output = (pipe.fileno() for pipe in pipes if pipe)
        for descriptor in (self.input, self.output):
            os.set_blocking(descriptor, False)
            # If the user's pipe quota is used up, the default 64 KiB do, a little less busily.
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE)
        self._limit(memory)

    def send(self, block: RequestPart, alone: bool = False) -> None:
        """Queue a block and write as much as the pipe takes."""
        self.blocks.append(block)
        self.load += block.size
        self.alone = alone
        self._unsent += block.data
        self.flush()

    def flush(self) -> None:
        """Write as much as the pipe takes. The death of the process shows at its output."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                del self._unsent[: os.write(self.input, self._unsent)]

    def receive(self) -> None:
        """Read the available output; sets `ended` at its end."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.output, PIPE):
                self._answer += data
                self.waited = 0.0
            self.ended = True

    def answer(self) -> bytes | None:
        """The answer to the first block, without its closing empty line; None while incomplete."""
        end = (
            0 if self._answer.startswith(b"\n") else self._answer.find(b"\n\n", self._searched) + 1
        )
        self._searched = max(len(self._answer) - 1, 0)
        return bytes(self._answer[:end]) if end or self._answer.startswith(b"\n") else None

    def pop(self, answer: bytes) -> RequestPart:
        """Remove the first block and its answer."""
        block = self.blocks.popleft()
        self.load -= block.size
        del self._answer[: len(answer) + 1]
        self._searched = 0
        self.alone = self.alone and bool(self.blocks)
        return block

    def partial_answer(self) -> bytes:
        """The whole lines of the answer to the first block so far."""
        return bytes(self._answer[: self._answer.rfind(b"\n") + 1])

    def overflows(self) -> bool:
        """Whether the output is longer than any answer to the first block: one space per byte."""
        return len(self._answer) > (2 * self.blocks[0].size if self.blocks else 0)

    def last_stderr_line(self) -> str:
        """The last line on stderr, or an empty string."""
        self._stderr.seek(max(self._stderr.seek(0, os.SEEK_END) - 1000, 0))
        lines = self._stderr.read().decode(errors="replace").strip().split("\n")
        return lines[-1]

    def close_pipes(self) -> None:
        """Close its input, at which it ends, and its output, at which it ends in mid-answer."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()

    def close(self, kill: bool) -> int:
        """End the process; returns its exit code, negative for a signal."""
        if kill:
            self.process.kill()
        self.close_pipes()
        self._stderr.close()
        try:
            return self.process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _limit(self, memory: int) -> None:
        """Limit its address space, before any input that could take memory."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_AS)
        if hard != resource.RLIM_INFINITY:
            memory = min(memory, hard)
        resource.prlimit(self.process.pid, resource.RLIMIT_AS, (memory, memory))
