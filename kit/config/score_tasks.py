"""Names of tasks in `release.tasks`: the eight of japanese_leaderboard in lm-evaluation-harness."""

from __future__ import annotations

TASKS = (
    "jcommonsenseqa", "jnli", "marc_ja", "jsquad", "jaqket_v2", "xlsum_ja", "xwinograd_ja", "mgsm",
)  # fmt: skip
GROUP = "japanese_leaderboard"
_PREFIX = "ja_leaderboard_"
_IN_HARNESS = {"xlsum_ja": "xlsum", "xwinograd_ja": "xwinograd"}


def names(given: str) -> list[str]:
    """The tasks that a name stands for; none if it is not one of the eight, or of their group."""
    if given == GROUP:
        return [*TASKS]
    name = given.removeprefix(_PREFIX)
    name = next((own for own, short in _IN_HARNESS.items() if short == name), name)
    return [name] if name in TASKS else []


def in_harness(name: str) -> str:
    """The name that the harness has for one of the eight."""
    return f"{_PREFIX}{_IN_HARNESS.get(name, name)}"
