"""Lines that are asked for together, and what becomes of them when their answer is no answer.

A `Request` is what the pool was asked, and is answered as a whole, in its turn. A `RequestPart` is a row of
its lines on the way to a process; after a fault it is cut into smaller ones, down to the line.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Request:
    """Lines, and their answers as they come."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.answers = list(lines)  # an answer is its line with spaces in it
        self.missing = len(lines)

    def fill(self, start: int, answers: list[str]) -> None:
        """The answers from line `start` on."""
        self.answers[start : start + len(answers)] = answers
        self.missing -= len(answers)


@dataclass
class Case:
    """A fault that is looked into: the blocks that may hold its cause, until all are answered."""

    what: str  # happened
    open: int = 0
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
        """The answers out of what came back, one for each line; None where they are not that.

        The whole block is compared at once: without the spaces its answer is its lines.
        """
        text = raw.decode(errors="replace")
        return (
            text[:-1].split("\n")
            if _same(text, "".join(f"{line}\n" for line in self.lines))
            else None
        )

    def answered(self, raw: bytes) -> int:
        """How many lines, from the first, were answered well before the fault."""
        said = raw.decode(errors="replace").split("\n")
        good = 0
        while good < min(len(said), len(self.lines)) and _same(said[good], self.lines[good]):
            good += 1
        return good

    def cut(self, good: int, case: Case) -> Iterator[RequestPart]:
        """Smaller blocks, with the line after the first `good` alone: most likely it is at fault.

        The rest is halved, so that also a process that answers late is found out in few steps.
        """
        count = self.stop - self.start
        good = min(good, count - 1)
        places = sorted({0, good, good + 1, (good + 1 + count) // 2, count})
        for start, stop in itertools.pairwise(places):
            yield RequestPart(self.request, self.start + start, self.start + stop, case)


def _same(answer: str, lines: str) -> bool:
    """Whether the answer is the lines with single spaces inside them."""
    return answer.replace(" ", "") == lines and not (
        "  " in answer
        or " \n" in answer
        or "\n " in answer
        or answer[:1] == " "
        or answer[-1:] == " "
    )
