"""Requests of lines to the pool, and their parts, which shrink after a fault to find the offending line.

A `Request` is answered as a whole, in its turn. A `RequestPart` is a block of its lines that is sent to a
process; after a fault it is split into smaller ones, down to one line.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Request:
    """Lines, and their answers so far."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.answers = list(lines)  # an answer is its line with spaces inserted
        self.missing = len(lines)

    def fill(self, start: int, answers: list[str]) -> None:
        """Store the answers from line `start` on."""
        self.answers[start : start + len(answers)] = answers
        self.missing -= len(answers)


@dataclass
class Case:
    """A fault under investigation, until all blocks that may contain its cause are answered."""

    fault: str
    open: int = 0  # blocks not answered yet
    faults: int = 0
    solved: bool = False


class RequestPart:
    """Lines `start` to `stop` of a request. With a `case` it is suspected, and sent alone."""

    def __init__(self, request: Request, start: int, stop: int, case: Case | None = None) -> None:
        self.request, self.start, self.stop, self.case = request, start, stop, case
        self.lines = request.lines[start:stop]
        self.data = "".join(f"{line}\n" for line in [*self.lines, ""]).encode()
        self.size = len(self.data)

    def words(self, raw: bytes) -> list[str] | None:
        """The answers in the output, one per line; None if it does not answer the lines.

        The whole block is compared at once: an answer without its spaces is the lines.
        """
        text = raw.decode(errors="replace")
        return (
            text[:-1].split("\n")
            if _same(text, "".join(f"{line}\n" for line in self.lines))
            else None
        )

    def count_answered(self, raw: bytes) -> int:
        """The number of leading lines that were answered correctly before the fault."""
        answers = raw.decode(errors="replace").split("\n")
        good = 0
        while good < min(len(answers), len(self.lines)) and _same(answers[good], self.lines[good]):
            good += 1
        return good

    def split(self, good: int, case: Case) -> Iterator[RequestPart]:
        """Yield smaller blocks, with the line after the first `good` alone: it is the most likely cause.

        The rest is halved, so that a process that answers late is also caught in few steps.
        """
        count = self.stop - self.start
        good = min(good, count - 1)
        cuts = sorted({0, good, good + 1, (good + 1 + count) // 2, count})
        for start, stop in itertools.pairwise(cuts):
            yield RequestPart(self.request, self.start + start, self.start + stop, case)


def _same(answer: str, lines: str) -> bool:
    """Whether the answer is the lines with single spaces inserted."""
    return answer.replace(" ", "") == lines and not (
        "  " in answer
        or " \n" in answer
        or "\n " in answer
        or answer[:1] == " "
        or answer[-1:] == " "
    )
