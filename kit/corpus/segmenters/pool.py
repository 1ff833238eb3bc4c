"""A pool of processes that answer lines with lines: in order, kept busy, and replaced when they fail.

    pool = Pool(["jumanpp", "--segment"], workers=4, ...)
    pool.ask(line)                  # any number of times
    pool.answers(pool.window)       # those available, in order; waits while too many are missing
    pool.send_rest(); pool.answers(0)

All input and output is non-blocking, so a full pipe cannot stop both sides; each answer is a function of
its line, independent of timing and the number of processes. A process that dies, stays silent for
`patience` seconds, or answers anything but its lines with spaces inserted, is replaced. Its unanswered
blocks are sent again, each alone on a process; the offending block in smaller blocks, down to one line on
a fresh process. A line that fails there stays unsegmented and is counted. Raises ClusterError if a
process does not start or fails its probe, if many fail in a row, and if they keep failing while no line
is to blame.
"""

from __future__ import annotations

import selectors
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from kit.corpus.segmenters.requests import Case, Request, RequestPart
from kit.corpus.segmenters.worker import PIPE, Worker
from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBE = "東京都に行く。"
_PROBING, _SENTINEL = Request([PROBE]), Request(["。"])  # sent by the pool itself
_BLOCK = 5_000  # characters: some 15 kB, 30 ms of Juman++'s time
# Bytes queued per process. They fit into its pipe and keep it busy for 0.3 s while the pool is away; not
# longer, since at the end of a stream one process may have all of them left to do.
_LOAD = PIPE * 5 // 8
_AHEAD = 64  # blocks per process that may be unanswered, including those waiting for their turn
_GATHER = 0.002  # seconds; answers come line by line, and single ones are not worth waking up for
_MAX_CONSECUTIVE_FAULTS = 100  # faults without an answer in between
_FAULTS = {
    "died": "exited with code {code}",
    "silent": "did not answer in time",
    "changed": "returned different text ('{answer}')",
}
_MAX_UNEXPLAINED_FAULTS = 10  # faults that no line explains; one more for each hundred requests


class Pool:
    """See the module. `unsegmented` counts the lines that fail, by reason."""

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        memory: int,
        patience: float,
        unsegmented: Counter[str],
    ) -> None:
        """Start the processes and probe them. Raises ClusterError."""
        self.window = workers * _AHEAD
        self._command, self._number, self._memory = command, workers, memory
        self._patience, self._unsegmented = patience, unsegmented
        self._wait = min(patience / 4, 1.0)  # seconds, at most, per wait for output
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self._lines: list[str] = []
        self._size = 0
        self._requests: deque[Request] = deque()
        self._waiting: deque[RequestPart] = deque()
        self._suspects: deque[RequestPart] = deque()
        self._in_a_row = self._unexplained = self._answered = 0
        self.start()

    def start(self) -> None:
        """Start the missing processes, and wait for their answer to the probe."""
        try:
            while len(self._workers) < self._number:
                self._start_one()
            while any(worker.blocks for worker in self._workers):
                self._pump(self._wait)
        except BaseException:
            self.close()
            raise

    @property
    def open(self) -> int:
        """The number of requests that are unanswered, or wait for an earlier one."""
        return len(self._requests)

    def ask(self, line: str) -> None:
        """Queue a line: not empty, without spaces, of at most 4,096 bytes."""
        self._lines.append(line)
        self._size += len(line) + 1
        if self._size >= _BLOCK:
            self.send_rest()

    def send_rest(self) -> None:
        """Send the last, incomplete block."""
        if self._lines:
            request = Request(self._lines)
            self._requests.append(request)
            self._waiting.append(RequestPart(request, 0, len(self._lines)))
            self._lines, self._size = [], 0
            self._pump(0.0)

    def answers(self, limit: int) -> list[str]:
        """The available answers, in order; waits until at most `limit` requests are unanswered."""
        available: list[str] = []
        while True:
            while self._requests and not self._requests[0].missing:
                available += self._requests.popleft().answers
                self._answered += 1
            if len(self._requests) <= limit:
                return available
            self._pump(self._wait)

    def drop(self) -> None:
        """Forget unanswered requests; kills the processes that are working on them."""
        self._lines, self._size = [], 0
        for queue in (self._requests, self._waiting, self._suspects):
            queue.clear()
        for worker in list(self._workers):
            if any(block.request is not _SENTINEL for block in worker.blocks):
                self._end(worker)

    def close(self) -> None:
        """End all processes."""
        self.drop()
        for worker in self._workers:  # close all pipes first, so that the processes end in parallel
            self._selector.unregister(worker.output)
            worker.close_pipes()
        while self._workers:
            self._workers.pop().close(kill=False)

    def _start_one(self) -> Worker:
        worker = Worker(self._command, self._memory)
        self._workers.append(worker)
        self._selector.register(worker.output, selectors.EVENT_READ)
        self._send(worker, RequestPart(_PROBING, 0, 1), alone=True)
        return worker

    def _end(self, worker: Worker) -> int:
        self._selector.unregister(worker.output)
        self._workers.remove(worker)
        return worker.close(kill=not worker.ended)

    def _pump(self, wait: float) -> None:
        """Wait up to `wait` seconds for output, then send and read as the pipes allow."""
        self._hand_out()
        begin = time.monotonic()
        if self._selector.select(wait) and wait:
            time.sleep(_GATHER)
        # At most `wait`: the machine itself may have been suspended meanwhile.
        waited = min(time.monotonic() - begin, wait)
        for worker in list(self._workers):
            worker.waited = worker.waited + waited if worker.blocks else 0.0
            worker.receive()
            self._collect(worker)
        self._hand_out()

    def _hand_out(self) -> None:
        """Send suspects first, each alone on a process; otherwise fill each process's pipe."""
        for worker in list(self._workers):
            if self._suspects and not worker.blocks:
                self._question(worker, self._suspects.popleft())
        while self._waiting and not self._suspects:  # suspects need a process without other blocks
            free = [worker for worker in self._workers if not worker.alone and worker.load < _LOAD]
            if not free:
                break
            self._send(min(free, key=lambda worker: worker.load), self._waiting.popleft())
        for worker in self._workers:
            worker.flush()

    def _question(self, worker: Worker, suspect: RequestPart) -> None:
        """Send a suspect alone; a single line to a fresh process, whose failure is conclusive."""
        if len(suspect.lines) == 1 and not worker.fresh:
            self._end(worker)
            worker = self._start_one()
        self._send(worker, suspect, alone=True)

    def _send(self, worker: Worker, block: RequestPart, alone: bool = False) -> None:
        """Send a block to a process, and a sentinel line after it.

        If the process swallows the end of the block, the answer to the sentinel shows it, and the pool
        does not wait in vain.
        """
        worker.send(block, alone)
        worker.send(RequestPart(_SENTINEL, 0, 1), alone)

    def _collect(self, worker: Worker) -> None:
        """Collect the answers of a process, and check its health."""
        while (answer := worker.answer()) is not None and worker.blocks:
            words = worker.blocks[0].words(answer)
            if words is None or (worker.probing and words == [PROBE]):
                self._fault(worker, "changed")
                return
            self._accept(worker, worker.pop(answer), words)
        if worker.ended:
            self._fault(worker, "died")
        elif worker.overflows():
            self._fault(worker, "changed")
        elif worker.waited > self._patience:
            self._fault(worker, "silent")

    def _accept(self, worker: Worker, block: RequestPart, words: list[str]) -> None:
        worker.probing = False
        if block.request in (_PROBING, _SENTINEL):
            return
        worker.fresh = False
        self._in_a_row = 0
        block.request.fill(block.start, words)
        if block.case:
            self._close_case(block.case)

    def _fault(self, worker: Worker, reason: str) -> None:
        """Replace a process, and investigate its unanswered blocks. Raises ClusterError."""
        blocks = [block for block in worker.blocks if block.request is not _SENTINEL]
        partial = worker.partial_answer()
        stderr = worker.last_stderr_line()
        code = self._end(worker)
        answer = partial.decode(errors="replace")[:60].strip()
        fault = _FAULTS[reason].format(code=code, answer=answer) + (stderr and f" ({stderr})")
        if worker.probing:
            raise self._error(f"asked for '{PROBE}', it {fault}")
        self._in_a_row += 1
        if self._in_a_row > _MAX_CONSECUTIVE_FAULTS:
            raise self._error(f"{self._in_a_row} times in a row it {fault}")
        self._start_one()
        if blocks:
            self._suspect(blocks, blocks[0].count_answered(partial), reason, fault)
        else:
            self._close_case(Case(fault, open=1))

    def _suspect(self, blocks: list[RequestPart], good: int, reason: str, fault: str) -> None:
        """Search the blocks for the offending line; most likely it is in the first one."""
        first, *others = blocks
        if first.case and len(first.lines) == 1:
            self._unsegmented[reason] += 1
            first.request.fill(first.start, first.lines)
            first.case.solved = True
            self._close_case(first.case)
            return
        case = first.case or Case(fault)
        case.open -= 1 if first.case else 0
        case.faults += 1
        if case.faults > _MAX_CONSECUTIVE_FAULTS and not case.solved:
            raise self._error(f"{case.faults} times, with no line to blame, it {fault}")
        for block in others:
            block.case = case
        suspects = [*first.split(good, case), *others]
        case.open += len(suspects)
        # Single lines first: they need the process that was just started.
        self._suspects.extend(sorted(suspects, key=lambda block: len(block.lines)))

    def _close_case(self, case: Case) -> None:
        case.open -= 1
        if case.open or case.solved:
            return
        self._unexplained += 1
        if self._unexplained > _MAX_UNEXPLAINED_FAULTS + self._answered // 100:
            raise self._error(f"{self._unexplained} times, with no line to blame, it {case.fault}")

    def _error(self, problem: str) -> ClusterError:
        return ClusterError(
            f"{' '.join(self._command)}: {problem}; try it by hand on this node, "
            "or use corpus.segmenter=mecab"
        )
