"""Words by Juman++ 2, in a pool of processes (`jumanpp --segment`).

Juman++ answers a line with a line, but for some: over 4,096 bytes and invalid UTF-8 get no answer, a line
that begins with "# " is swallowed, white space and NUL are words of their own, and a run of one kind of
character takes memory that grows faster than its square (0.5 GB for 500 letters). All these are known
beforehand and kept away from it (see cuts). What else it fails at is found out by the pool.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from kit.corpus.segmenters.chunking import APART, chunks, has_long_run
from kit.corpus.segmenters.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

COMMAND = ("jumanpp", "--segment")
MEMORY = 2 << 30  # bytes of a process; 100 MB are resident as a rule
PATIENCE = 120.0  # seconds for a line that takes 0.2 ms as a rule, or for the model to load
LONGEST = 1000  # characters of a piece: at four bytes each within its 4,096
LONGEST_RUN = 200  # characters of one kind: some 40 MB


class _Plan(NamedTuple):
    """How the chunks of a batch come together: None is an answer of the pool, a text is a word."""

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
        """Start the processes. Raises ClusterError where they do not answer as Juman++ 2 does."""
        self.kept_whole: Counter[str] = Counter()
        self._longest_run = longest_run
        self._pool = Pool(command, workers, memory, patience, self.kept_whole)

    def __enter__(self) -> Jumanpp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See segment.Segmenter."""
        self._pool.close()

    def stream(self, batches: Iterable[Sequence[str]]) -> Iterator[list[str]]:
        """See segment.Segmenter. Raises ClusterError where the processes keep failing."""
        self._pool.start()
        plans: deque[_Plan] = deque()
        answers: deque[str] = deque()
        try:
            for batch in batches:
                plans.append(self._plan(batch))
                answers.extend(self._pool.answers(self._pool.window))
                yield from _whole_batches(plans, answers)
            self._pool.send_rest()
            while plans:
                answers.extend(self._pool.answers(max(self._pool.open - 1, 0)))
                yield from _whole_batches(plans, answers)
        finally:
            self._pool.drop()

    def _plan(self, batch: Sequence[str]) -> _Plan:
        chunks = [self._ask(text) for text in batch]
        return _Plan(chunks, sum(chunk.count(None) for chunk in chunks))

    def _ask(self, text: str) -> list[str | None]:
        """Ask the pool for what of a chunk can be asked for."""
        if not APART.search(text) and (
            len(text) <= self._longest_run  # most chunks are
            or (len(text) <= LONGEST and not has_long_run(text, self._longest_run))
        ):
            self._pool.ask(text)
            return [None]
        parts: list[str | None] = []
        for piece, reason in chunks(text, LONGEST, self._longest_run):
            if reason:
                self.kept_whole[reason] += 1
            else:
                self._pool.ask(piece)
            parts.append(piece if reason else None)
        return parts


def _whole_batches(plans: deque[_Plan], answers: deque[str]) -> Iterator[list[str]]:
    """The batches, from the first, for which all answers are there."""
    while plans and len(answers) >= plans[0].asked:
        yield [
            " ".join(answers.popleft() if part is None else part for part in chunk)
            for chunk in plans.popleft().chunks
        ]
