"""The pieces of matrices that a rank updates, and how it gets the rest of those that it shares.

ZeRO 1 and 2 lay the weights of a group end to end, and cut them into one equally long part a rank, wherever
that is: most matrices lie within a part, and one may lie across each cut. A rank that has a piece of such a
matrix gets the others from their ranks; no other matrix crosses the ranks.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor


class Piece(NamedTuple):
    """Values of a matrix, counted row by row, that a rank updates."""

    matrix: int  # its number
    begin: int
    end: int
    at: int  # where they begin in the rank's part

    def of(self, part: Tensor) -> Tensor:
        """The values of this piece in a rank's part, as a view."""
        return part.narrow(0, self.at, self.end - self.begin)


class Pieces:
    """Those of a rank."""

    def __init__(self, sizes: Sequence[int], length: int, rank: int, ranks: int) -> None:
        """`sizes`: of the matrices, in their order; `length`: of the part of each rank."""
        self._of_ranks = [[*_within(sizes, length, one)] for one in range(ranks)]
        self.own = self._of_ranks[rank]
        self._common = [None if r == rank else self._in_common(r) for r in range(ranks)]
        self._any = any(p.end - p.begin < sizes[p.matrix] for part in self._of_ranks for p in part)

    def shared(self, part: Tensor, dtype: torch.dtype) -> dict[int, Tensor]:
        """The matrices of which this rank has only a piece, whole and flat, by number.

        `part` has the values of this rank. A collective.
        """
        if not self._any:
            return {}
        none = part.new_empty(0, dtype=dtype)
        sent = [pair[0].of(part).to(dtype) if pair else none for pair in self._common]
        lengths = [pair[1].end - pair[1].begin if pair else 0 for pair in self._common]
        received = part.new_empty(sum(lengths), dtype=dtype)
        dist.all_to_all_single(received, torch.cat(sent), lengths, [len(one) for one in sent])
        return self._joined(sent, torch.split(received, lengths))

    def _joined(self, sent: Sequence[Tensor], received: Sequence[Tensor]) -> dict[int, Tensor]:
        found: dict[int, dict[int, Tensor]] = {}  # by matrix, and where a piece begins
        for pair, mine, theirs in zip(self._common, sent, received, strict=True):
            if pair:
                pieces = found.setdefault(pair[0].matrix, {})
                pieces |= {pair[0].begin: mine, pair[1].begin: theirs}
        return {
            matrix: torch.cat([pieces[begin] for begin in sorted(pieces)])
            for matrix, pieces in found.items()
        }

    def _in_common(self, other: int) -> tuple[Piece, Piece] | None:
        """This rank's and another's piece of a matrix; there is one at most."""
        theirs = {piece.matrix: piece for piece in self._of_ranks[other]}
        pairs = [(own, theirs[own.matrix]) for own in self.own if own.matrix in theirs]
        return pairs[0] if pairs else None


def _within(sizes: Sequence[int], length: int, rank: int) -> Iterator[Piece]:
    first, last = rank * length, (rank + 1) * length
    ends = accumulate(sizes)
    for matrix, (size, end) in enumerate(zip(sizes, ends, strict=True)):
        start = end - size
        if max(first, start) < min(last, end):
            begin = max(first, start)
            yield Piece(matrix, begin - start, min(last, end) - start, begin - first)
