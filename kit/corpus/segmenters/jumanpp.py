"""Words by Juman++ 2, in a pool of processes (`jumanpp --segment`).

Juman++ answers each line with a line, with exceptions: lines over 4,096 bytes and invalid UTF-8 get no
answer, a line that begins with "# " is swallowed, white space and NUL are words of their own, and a run of
one kind of character takes memory that grows faster than its square (0.5 GB for 500 letters). Such text
is never sent (chunking.py). The pool finds any other input that it fails on.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from kit.corpus.segmenters.chunking import UNSAFE, chunks, has_long_run
from kit.corpus.segmenters.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

COMMAND = ("jumanpp", "--segment")
MEMORY = 2 << 30  # bytes of address space per process; normally 100 MB are resident
PATIENCE = 120.0  # seconds for a line, normally 0.2 ms, or for loading the model
LONGEST = 1000  # characters of a chunk: at four bytes each within the 4,096
LONGEST_RUN = 200  # characters of one kind: some 40 MB


class _Plan(NamedTuple):
    """The parts of each chunk of a batch: None for the next answer of the pool, a text for a word."""

    chunks: list[list[str | None]]
    asked: int


class Jumanpp:
    """See segment.Segmenter."""

    def __init__(
        self,
        workers: int,
        command: Sequence[str] = COMMAND,
        memory: int = MEMORY,
        patience: float = PATIENCE,
        longest_run: int = LONGEST_RUN,
    ) -> None:
        """Start the processes. Raises ClusterError if they do not answer like Juman++ 2."""
        self.unsegmented: Counter[str] = Counter()
        self._longest_run = longest_run
        self._pool = Pool(command, workers, memory, patience, self.unsegmented)

    def __enter__(self) -> Jumanpp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See segment.Segmenter."""
        self._pool.close()

    def stream(self, batches: Iterable[Sequence[str]]) -> Iterator[list[str]]:
        """See segment.Segmenter. Raises ClusterError if the processes keep failing."""
        self._pool.start()
        plans: deque[_Plan] = deque()
        answers: deque[str] = deque()
        try:
            for batch in batches:
                plans.append(self._plan(batch))
                answers.extend(self._pool.answers(self._pool.window))
                yield from _complete_batches(plans, answers)
            self._pool.send_rest()
            while plans:
                answers.extend(self._pool.answers(max(self._pool.open - 1, 0)))
                yield from _complete_batches(plans, answers)
        finally:
            self._pool.drop()

    def _plan(self, batch: Sequence[str]) -> _Plan:
        chunks = [self._ask(text) for text in batch]
        return _Plan(chunks, sum(chunk.count(None) for chunk in chunks))

    def _ask(self, text: str) -> list[str | None]:
        """Send the safe parts of a chunk to the pool; returns all its parts, as in a plan."""
        if not text:  # an empty line would close a block
            return [text]
        if not UNSAFE.search(text) and (
            len(text) <= self._longest_run  # true of most chunks
            or (len(text) <= LONGEST and not has_long_run(text, self._longest_run))
        ):
            self._pool.ask(text)
            return [None]
        parts: list[str | None] = []
        for piece, reason in chunks(text, LONGEST, self._longest_run):
            if reason:
                self.unsegmented[reason] += 1
            else:
                self._pool.ask(piece)
            parts.append(piece if reason else None)
        return parts


def _complete_batches(plans: deque[_Plan], answers: deque[str]) -> Iterator[list[str]]:
    """Yield the leading batches whose answers are complete."""
    while plans and len(answers) >= plans[0].asked:
        yield [
            " ".join(answers.popleft() if part is None else part for part in chunk)
            for chunk in plans.popleft().chunks
        ]
