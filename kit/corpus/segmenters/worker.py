"""One process that answers lines with lines, over pipes that are never waited on.

Blocks of lines are sent one behind the other; an empty line closes a block, and the empty line that
answers it closes the block's answer. No line of a block is empty, so whatever the process swallows or
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
_LEAVE = 2.0  # seconds for a process whose input has ended to end as well


class Worker:
    """The process, the blocks it has not answered, and what it has said so far."""

    def __init__(self, command: Sequence[str], memory: int) -> None:
        """Start it, with `memory` bytes of address space. Raises ClusterError."""
        self.blocks: deque[RequestPart] = deque()
        self.load = 0  # bytes of the blocks
        self.alone = False  # nothing else may be sent until it has answered
        self.fresh = True  # has answered nothing yet that could have worn it out
        self.waited = 0.0  # seconds without a word, while there was something to answer
        self.ended = False
        self.probing = True  # has not shown yet that it answers as it should
        self._unsent = bytearray()
        self._answer = bytearray()
        self._seen = 0  # bytes of the answer that hold no end of a block
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        try:
            self.process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
            )
        except OSError as error:
            raise ClusterError(
                f"{command[0]}: cannot be started ({error.strerror}); install it on every node"
            ) from error
        pipes = (self.process.stdin, self.process.stdout)
        self.input, self.output = (pipe.fileno() for pipe in pipes if pipe)
        for descriptor in (self.input, self.output):
            os.set_blocking(descriptor, False)
            # Where the user's pipes are used up the usual 64 KiB do, a little less busily.
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE)
        self._limit(memory)

    def send(self, block: RequestPart, alone: bool = False) -> None:
        """Hand it a block."""
        self.blocks.append(block)
        self.load += block.size
        self.alone = alone
        self._unsent += block.data
        self.flush()

    def flush(self) -> None:
        """Write what its pipe takes. That it is gone shows at its output."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                del self._unsent[: os.write(self.input, self._unsent)]

    def hear(self) -> None:
        """Read what is there; `ended` when there will be no more."""
        with contextlib.suppress(BlockingIOError):
            while said := os.read(self.output, PIPE):
                self._answer += said
                self.waited = 0.0
            self.ended = True

    def answer(self) -> bytes | None:
        """The answer to the first block, without the empty line that closes it; None while it is open."""
        end = 0 if self._answer.startswith(b"\n") else self._answer.find(b"\n\n", self._seen) + 1
        self._seen = max(len(self._answer) - 1, 0)
        return bytes(self._answer[:end]) if end or self._answer.startswith(b"\n") else None

    def take(self, answer: bytes) -> RequestPart:
        """Take the first block, with its answer."""
        block = self.blocks.popleft()
        self.load -= block.size
        del self._answer[: len(answer) + 1]
        self._seen = 0
        self.alone = self.alone and bool(self.blocks)
        return block

    def begun(self) -> bytes:
        """The answer to the first block as far as it came, in whole lines."""
        return bytes(self._answer[: self._answer.rfind(b"\n") + 1])

    def overflows(self) -> bool:
        """Whether it says more than any answer to its first block can be: a space for each byte."""
        return len(self._answer) > (2 * self.blocks[0].size if self.blocks else 0)

    def complaint(self) -> str:
        """The last line it wrote to its stderr, or nothing."""
        self._complaints.seek(max(self._complaints.seek(0, os.SEEK_END) - 1000, 0))
        lines = self._complaints.read().decode(errors="replace").strip().split("\n")
        return lines[-1]

    def dismiss(self) -> None:
        """Close its input, at which it ends, and its output, at which it ends in mid-answer."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()

    def close(self, kill: bool) -> int:
        """See that it is gone; returns its exit code, negative for a signal."""
        if kill:
            self.process.kill()
        self.dismiss()
        self._complaints.close()
        try:
            return self.process.wait(_LEAVE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _limit(self, memory: int) -> None:
        """Set its address space; nothing was sent to it so far that could take memory."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_AS)
        if hard != resource.RLIM_INFINITY:
            memory = min(memory, hard)
        resource.prlimit(self.process.pid, resource.RLIMIT_AS, (memory, memory))
