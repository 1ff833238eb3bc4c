"""A tokenizer from the shards: words counted, candidates trained and measured, one of them chosen.

python -m jobs.tokenizer run demo
python -m jobs.tokenizer report demo
python -m jobs.tokenizer run demo --pick bpe-3000-1500-lossless
"""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.command import Arguments, Json, OfRecipe, main, print_json, verb
from jobs.stage import Act, Doing, do_resolved, stage_app
from kit.relay.submit import ensure_idle, refuse_early, refuse_unfinished, say

Pick = Annotated[
    str | None,
    typer.Option(
        help="This candidate is the tokenizer from here on, whatever the rule says; `rule`: the rule again."
    ),
]


def _do(name: str, act: Act, arguments: Arguments, doing: Doing, pick: Pick = None) -> None:
    """As jobs.command has it, with another pick where one is given."""
    from kit.relay.stages import stages_of
    from kit.tokenizer import selection

    project = arguments.load()
    recipe = project.recipe
    if pick is None:
        selection.picked(recipe)  # one that is no candidate any more is told before the work
    changed = pick if pick is not None and selection.differs(recipe, pick) else None
    if changed is None or doing.dry_run:
        if changed is not None:
            say(f"tokenizer: would be made anew, for --pick {changed}")
        do_resolved(name, act, project, doing)
        return
    # First of all: an attempt that begins in between would find a tokenizer that is not its own.
    ensure_idle(project.run)
    refuse_unfinished(recipe, name)
    refuse_early(project, stages_of(recipe, name)[0])
    with selection.picking(recipe, changed):
        do_resolved(name, act, project, doing)


app = stage_app(
    "tokenizer",
    "A tokenizer from the shards: counted, trained, measured, chosen.",
    "Count the words, train and measure the candidates, and choose the tokenizer",
    do=_do,
)


@verb(app, "report", "demo")
def report_verb(arguments: OfRecipe, as_json: Json = False) -> None:
    """Show the candidates, what was measured of each, and which one is chosen."""
    from kit.tokenizer import selection

    recipe = arguments.load(refuse=False)
    text = selection.report(recipe)
    if as_json:
        name, reason = selection.chosen(recipe)
        names = [vocabulary.name for vocabulary in recipe.tokenizer.specs()]
        found = {name: selection.figures(recipe, name) for name in names}
        print_json({"candidates": found, "chosen": name, "reason": reason})
    else:
        say(text)


if __name__ == "__main__":
    main(app)
