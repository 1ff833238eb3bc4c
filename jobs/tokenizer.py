"""Train a tokenizer on the shards: count words, train and measure candidates, choose one.

python -m jobs.tokenizer run demo
python -m jobs.tokenizer report demo
python -m jobs.tokenizer run demo --pick bpe-3000-1500-lossless
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from jobs.command import Arguments, Json, OfRecipe, main, print_json, verb
from jobs.stage import Act, Doing, do_resolved, stage_app

Pick = Annotated[
    str | None,
    typer.Option(
        help="Use this candidate from now on, overriding the rule; `rule` returns to the rule."
    ),
]


def _do(name: str, act: Act, arguments: Arguments, doing: Doing, pick: Pick = None) -> None:
    """Run or submit the stage, after changing the pick if one is given."""
    from kit.relay.stages import stages_of
    from kit.relay.submit import ensure_idle, refuse_early, refuse_unfinished
    from kit.tokenizer import selection

    project = arguments.load()
    recipe = project.recipe
    if pick is None:
        selection.manual_pick(recipe)  # raises early if it is no longer a candidate
    changed = pick if pick is not None and selection.is_new_pick(recipe, pick) else None
    if changed is None or doing.dry_run:
        if changed is not None:
            line = f"tokenizer: would be rebuilt, for --pick {changed}"
            print(line, file=sys.stderr if doing.as_json else sys.stdout, flush=True)
        do_resolved(name, act, project, doing)
        return
    # Before the change: an attempt that starts in between would find another tokenizer than its own.
    ensure_idle(project.run)
    refuse_unfinished(recipe, name)
    refuse_early(project, stages_of(recipe, name)[0])
    with selection.pick(recipe, changed):
        do_resolved(name, act, project, doing)


app = stage_app(
    "tokenizer",
    "Train and measure candidate tokenizers on the shards, and choose one.",
    "Count the words, train and measure the candidates, and choose the tokenizer",
    do=_do,
)


@verb(app, "report", "demo")
def report_verb(arguments: OfRecipe, as_json: Json = False) -> None:
    """Show the candidates with their measurements, and which one is chosen."""
    from kit.relay.submit import say
    from kit.tokenizer import selection

    recipe = arguments.load(refuse=False)
    text = selection.report(recipe)
    if as_json:
        name, reason = selection.select(recipe)
        names = [spec.name for spec in recipe.tokenizer.specs()]
        figures = {name: selection.figures(recipe, name) for name in names}
        print_json({"candidates": figures, "chosen": name, "reason": reason})

    else:
        say(text)


if __name__ == "__main__":
    main(app)
