"""A pool of processes that answer lines with lines: in order, kept busy, and replaced when they fail.

    pool = Pool(["jumanpp", "--segment"], workers=4, ...)
    pool.ask(line)                  # as often as one likes
    pool.answers(pool.window)       # those that are there, in order; waits while too many are not
    pool.send_rest(); pool.answers(0)

All input and output is non-blocking, so no pipe that is full can stop both sides; the answers do not
depend on the number of processes or on timing, for each is a function of its line. A process that
dies, stays silent for `patience` seconds, or says something else than its lines with spaces in them,
is replaced. What it had not answered is asked again, block by block, each alone on a process; the
block at fault in smaller blocks, down to one line on a process of its own. A line that fails there is
kept whole, and counted. ClusterError ends it where a process does not start or fails its probe, where
many fail in a row, and where they keep failing while no line is at fault.
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
_PROBING, _BEHIND = Request([PROBE]), Request(["。"])  # are asked by the pool itself
_BLOCK = 5_000  # characters: some 15 kB, 30 ms of Juman++'s time
# Bytes a process has before it. The pipe takes them, so it works on while nobody attends to it: for
# 0.3 s, and not longer, since at the end of a stream one process may have all of it left to do.
_LOAD = PIPE * 5 // 8
_AHEAD = 64  # blocks a process that may be unanswered, with those that wait for their turn
_GATHER = 0.002  # seconds; answers come line by line, and are not worth waking up for one by one
_IN_A_ROW = 100  # faults without an answer in between
_TOLD = {
    "died": "ended (code {code})",
    "silent": "did not answer in time",
    "changed": "gave back other text ('{said}')",
}
_UNEXPLAINED = 10  # faults without a line at fault; and one more for each hundred requests


class Pool:
    """See the module. `kept_whole` is the counter that lines at fault go into."""

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        memory: int,
        patience: float,
        kept_whole: Counter[str],
    ) -> None:
        """Start the processes and probe them. Raises ClusterError."""
        self.window = workers * _AHEAD
        self._command, self._number, self._memory = command, workers, memory
        self._patience, self._kept_whole = patience, kept_whole
        self._wait = min(patience / 4, 1.0)  # seconds at most for something to happen
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
        """Start the processes that are not there, and wait for their answer to the probe."""
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
        """How many blocks are not answered, or wait for one before them."""
        return len(self._requests)

    def ask(self, line: str) -> None:
        """A line to be answered: not empty, without spaces, of at most 4,096 bytes."""
        self._lines.append(line)
        self._size += len(line) + 1
        if self._size >= _BLOCK:
            self.send_rest()

    def send_rest(self) -> None:
        """Send also what is no whole block yet."""
        if self._lines:
            request = Request(self._lines)
            self._requests.append(request)
            self._waiting.append(RequestPart(request, 0, len(self._lines)))
            self._lines, self._size = [], 0
            self._pump(0.0)

    def answers(self, most: int) -> list[str]:
        """The answers that are there, in order; waits until at most `most` blocks have none."""
        found: list[str] = []
        while True:
            while self._requests and not self._requests[0].missing:
                found += self._requests.popleft().answers
                self._answered += 1
            if len(self._requests) <= most:
                return found
            self._pump(self._wait)

    def drop(self) -> None:
        """Forget what is not answered; processes that are at it are ended."""
        self._lines, self._size = [], 0
        for queue in (self._requests, self._waiting, self._suspects):
            queue.clear()
        for worker in list(self._workers):
            if any(block.request is not _BEHIND for block in worker.blocks):
                self._end(worker)

    def close(self) -> None:
        """End all processes."""
        self.drop()
        for worker in self._workers:  # all at once, then one by one
            self._selector.unregister(worker.output)
            worker.dismiss()
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
        """Hand out, write and read what can be, after waiting up to `wait` seconds for something."""
        self._hand_out()
        begin = time.monotonic()
        if self._selector.select(wait) and wait:
            time.sleep(_GATHER)
        # Not more than was meant: the machine itself may have been stopped meanwhile.
        waited = min(time.monotonic() - begin, wait)
        for worker in list(self._workers):
            worker.waited = worker.waited + waited if worker.blocks else 0.0
            worker.hear()
            self._listen(worker)
        self._hand_out()

    def _hand_out(self) -> None:
        """Suspects first, each alone on a process; else to each process what its pipe takes."""
        for worker in list(self._workers):
            if self._suspects and not worker.blocks:
                self._question(worker, self._suspects.popleft())
        while self._waiting and not self._suspects:  # for those a process is to become free
            free = [worker for worker in self._workers if not worker.alone and worker.load < _LOAD]
            if not free:
                break
            self._send(min(free, key=lambda worker: worker.load), self._waiting.popleft())
        for worker in self._workers:
            worker.flush()

    def _question(self, worker: Worker, suspect: RequestPart) -> None:
        """Ask a suspect alone; one line on a process that nothing has worn out, for the verdict."""
        if len(suspect.lines) == 1 and not worker.fresh:
            self._end(worker)
            worker = self._start_one()
        self._send(worker, suspect, alone=True)

    def _send(self, worker: Worker, block: RequestPart, alone: bool = False) -> None:
        """Hand a block to a process, and a line behind it.

        Where the end of the block is swallowed, the answer to that line stands in its place, and nobody
        waits for an end that does not come.
        """
        worker.send(block, alone)
        worker.send(RequestPart(_BEHIND, 0, 1), alone)

    def _listen(self, worker: Worker) -> None:
        """Take the answers of a process, and see whether it is as it should be."""
        while (answer := worker.answer()) is not None and worker.blocks:
            words = worker.blocks[0].words(answer)
            if words is None or (worker.probing and words == [PROBE]):
                self._fault(worker, "changed")
                return
            self._accept(worker, worker.take(answer), words)
        if worker.ended:
            self._fault(worker, "died")
        elif worker.overflows():
            self._fault(worker, "changed")
        elif worker.waited > self._patience:
            self._fault(worker, "silent")

    def _accept(self, worker: Worker, block: RequestPart, words: list[str]) -> None:
        worker.probing = False
        if block.request in (_PROBING, _BEHIND):
            return
        worker.fresh = False
        self._in_a_row = 0
        block.request.fill(block.start, words)
        if block.case:
            self._close_case(block.case)

    def _fault(self, worker: Worker, reason: str) -> None:
        """Replace a process, and look into what it did not answer. Raises ClusterError."""
        blocks = [block for block in worker.blocks if block.request is not _BEHIND]
        begun = worker.begun()
        complaint = worker.complaint()
        code = self._end(worker)
        told = _TOLD[reason].format(code=code, said=begun.decode(errors="replace")[:60].strip())
        what = f"{told}{complaint and f' ({complaint})'}"
        if worker.probing:
            raise self._error(f"asked for '{PROBE}' it {what}")
        self._in_a_row += 1
        if self._in_a_row > _IN_A_ROW:
            raise self._error(f"{self._in_a_row} times in a row it {what}")
        self._start_one()
        if blocks:
            self._suspect(blocks, blocks[0].answered(begun), reason, what)
        else:
            self._close_case(Case(what, open=1))

    def _suspect(self, blocks: list[RequestPart], good: int, reason: str, what: str) -> None:
        """Find out which line of the blocks was at fault; most likely one of the first block."""
        first, *others = blocks
        if first.case and len(first.lines) == 1:
            self._kept_whole[reason] += 1
            first.request.fill(first.start, first.lines)
            first.case.solved = True
            self._close_case(first.case)
            return
        case = first.case or Case(what)
        case.open -= 1 if first.case else 0
        case.faults += 1
        if case.faults > _IN_A_ROW and not case.solved:
            raise self._error(f"{case.faults} times, with no line at fault, it {what}")
        for block in others:
            block.case = case
        suspects = [*first.cut(good, case), *others]
        case.open += len(suspects)
        # Single lines first: the process that is new is the one they need.
        self._suspects.extend(sorted(suspects, key=lambda block: len(block.lines)))

    def _close_case(self, case: Case) -> None:
        case.open -= 1
        if case.open or case.solved:
            return
        self._unexplained += 1
        if self._unexplained > _UNEXPLAINED + self._answered // 100:
            raise self._error(f"{self._unexplained} times, with no line at fault, it {case.what}")

    def _error(self, what: str) -> ClusterError:
        return ClusterError(
            f"{' '.join(self._command)}: {what}; try it by hand on this node, "
            "or use corpus.segmenter=mecab"
        )
