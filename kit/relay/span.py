"""The part of a chain from one stage to another: `--from` and `--until`.

    stages = span.of(recipe, "tokenizer", "train")

A name is a stage's or a command's: a command stands for all its stages, from the first to the last.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from kit.errors import ConfigError
from kit.relay.stages import STAGES, stages_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.relay.stages import Stage

FIRST, LAST = "--from", "--until"


def of(recipe: Recipe, first: str | None = None, last: str | None = None) -> list[Stage]:
    """The stages of a recipe from `first` to `last`; None: from the beginning, to the end.

    Raises ConfigError for an unknown name, a stage that the recipe leaves out, or the wrong order.
    """
    stages = stages_of(recipe)
    begin = 0 if first is None else _places(stages, FIRST, first)[0]
    end = len(stages) - 1 if last is None else _places(stages, LAST, last)[-1]
    if begin > end:
        raise ConfigError(f"{FIRST} {first} {LAST} {last}: {last} comes before {first}")
    return stages[begin : end + 1]


def passed_over(project: Project, first: str | None) -> Iterator[str]:
    """Yield a warning for each stage before `--from` whose files are stale or broken."""
    if first is None:
        return
    stages = stages_of(project.recipe)
    for stage in stages[: _places(stages, FIRST, first)[0]]:
        counts = stage.survey(project.run, project.recipe).counts
        bad = [f"{counts[state]:,} {state}" for state in ("stale", "broken") if counts.get(state)]
        if bad:
            yield f"{stage.name}: {', '.join(bad)}; {FIRST} {first} uses what was made from them as it is"


def _places(stages: Sequence[Stage], option: str, name: str) -> list[int]:
    """The places of a stage, or of all stages of a command."""
    places = [place for place, stage in enumerate(stages) if name in (stage.name, stage.command)]
    if places:
        return places
    if any(stage.name == name for stage in STAGES):
        raise ConfigError(f"{option} {name}: this recipe has no such stage; {_known(stages)}")
    near = difflib.get_close_matches(name, [stage.name for stage in stages], 1)
    hint = f" did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{option} {name}: no such stage;{hint} {_known(stages)}")


def _known(stages: Sequence[Stage]) -> str:
    return f"available: {', '.join(stage.name for stage in stages)}"
