"""Attempts that need not be bit-equal to an uninterrupted run, as their first rows have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from kit.output.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kit.tracking.rows import Row


class Inexact(TypedDict):
    """Such an attempt."""

    attempt: int
    step: int  # the one it starts from
    reasons: list[str]


def attempts(rows: Iterable[Row]) -> list[Inexact]:
    """Those among the rows of a run; none of earlier versions, which recorded nothing."""
    return [
        {"attempt": row["attempt"], "step": row["step"], "reasons": reasons}
        for row in rows
        if row["kind"] == "attempt" and (reasons := row.get("inexact"))
    ]


def words(found: Sequence[Inexact]) -> str:
    """The first of them in a clause, and how many later ones have other reasons."""
    first = found[0]
    text = f"off since step {first['step']:,} (attempt {first['attempt']}): {'; '.join(first['reasons'])}"
    others = sum(one["reasons"] != first["reasons"] for one in found)
    return text + (f"; {count(others, 'later attempt')} for other reasons" if others else "")
