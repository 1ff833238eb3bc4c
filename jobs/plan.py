"""What a run will need, computed before it begins.

python -m jobs.plan gpt2-xl-ja --cluster mdx
python -m jobs.plan gpt2-xl-ja-article training.steps=277000 --cluster mdx --mfu 0.1
"""

from typing import Annotated

import typer

from jobs.command import Arguments, Json, main, new_app, print_json, verb

app = new_app("Compute what a run will need: memory, time, disk, interruptions.")


@verb(app, "plan", "gpt2-xl-ja --cluster mdx")
def plan_verb(
    arguments: Arguments,
    mfu: Annotated[
        float | None,
        typer.Option(
            "--mfu",
            min=0.001,
            max=1.0,
            help="Share of the GPUs' peak, for the time. Default: as rehearsed, else 0.35.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute parameters, memory of a rank, time, disk and interruptions, each figure with its source.

    Nothing is started. If the run was rehearsed on the cluster, measured figures are used and shown.
    """
    from kit.plan import page
    from kit.relay import planning

    facts = planning.facts(arguments.load(refuse=False), mfu)
    if as_json:
        print_json(facts)
    else:
        print("\n".join(page.lines(facts)))


if __name__ == "__main__":
    main(app)
