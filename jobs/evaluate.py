"""Scores: perplexity and bits per byte on the held-out documents, and tasks of lm-evaluation-harness.

python -m jobs.evaluate run demo
python -m jobs.evaluate run work/demo/runs/demo --step 80
python -m jobs.evaluate show work/demo/runs/demo
"""

from typing import Annotated

import typer

from jobs.command import Arguments, Json, main, print_json, verb
from jobs.release import release_app

app = release_app(
    "evaluate",
    "Measure perplexity, bits per byte, and scores on tasks.",
    "Measure perplexity and bits per byte, and score the tasks of the recipe",
)


@verb(app, "show", "demo")
def show_verb(
    arguments: Arguments,
    every: Annotated[
        bool, typer.Option("--every-metric", help="Not only the main metric of each task.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show all scores of a run by step: the learning curve of each task.

    --json prints every metric, with its data, versions, and date.
    """
    from kit.tracking import scores

    found = scores.current(arguments.load(refuse=False).run)
    if as_json:
        print_json(found)
        return
    print(*scores.lines(found if every else scores.main(found)), sep="\n")


if __name__ == "__main__":
    main(app)
