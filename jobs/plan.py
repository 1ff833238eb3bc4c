"""What a run will need, computed before it begins, and when it will arrive, simulated.

python -m jobs.plan gpt2-xl-ja --cluster mdx
python -m jobs.plan gpt2-xl-ja --gpus 8xa100,8xh100,4xv100-32gb
python -m jobs.plan gpt2-xl-ja-article --beside gpt2-xl-ja,llama-1b-ja --cluster mdx --tokens 150b
python -m jobs.plan gpt2-xl-ja-article training.steps=277000 --cluster mdx --mfu 0.1 --simulate
"""

from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command import (
    Arguments,
    Json,
    main,
    new_app,
    print_json,
    recipe_path,
    tell_kept_micro_batch,
    verb,
)
from kit.errors import ConfigError

if TYPE_CHECKING:
    from kit.config.run import Project
    from kit.relay.planning import Simulation

app = new_app("Compute what a run will need: memory, time, disk, interruptions.")


@dataclass(frozen=True)
class Simulating:
    """Options of a simulation."""

    simulate: Annotated[
        bool, typer.Option("--simulate", help="Play the run many times, with interruptions.")
    ] = False
    failures: Annotated[
        float | None,
        typer.Option(
            min=0, help="Failures per 1,000 node-days. Default: 6.5; 23.7 is the cautious figure."
        ),
    ] = None
    preemptions: Annotated[
        float | None,
        typer.Option(min=0, help="Preemptions a day. Default: as in the run so far, else 1."),
    ] = None
    queue: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Minutes in the queue before each attempt, on average, exponential. "
            "Default: as in the run so far, else 30.",
        ),
    ] = None
    queue_deviation: Annotated[
        float | None,
        typer.Option(
            min=0, help="Their standard deviation; then they are lognormal. Needs --queue."
        ),
    ] = None
    runs: Annotated[
        int | None, typer.Option(min=2, max=1_000_000, help="Number of runs. Default: 10,000.")
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="Seed: the same one gives the same runs. Default: 0.")
    ] = None
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the simulation: a .png or .svg file.")
    ] = None

    def request(self) -> "Simulation | None":
        """The request for a simulation, or None. Raises ConfigError for an option without effect."""
        from kit.plan.simulation.given import Chances
        from kit.relay.planning import Simulation

        self._refuse_idle()
        if not self.simulate:
            return None
        chances = Chances(
            self.failures, self.preemptions, _seconds(self.queue), _seconds(self.queue_deviation)
        )
        return Simulation(chances, self.runs or Simulation.runs, self.seed or Simulation.seed)

    def _refuse_idle(self) -> None:
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        idle = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
        if not self.simulate and len(idle) > 1:
            raise ConfigError(f"{', '.join(idle[1:])}: no effect without --simulate; add it")
        if self.queue_deviation is not None and not self.queue:
            raise ConfigError(
                f"--queue-deviation {self.queue_deviation:g}: of an unknown mean; add --queue"
            )
        if self.plot is not None and self.plot.suffix not in (".png", ".svg"):
            raise ConfigError(f"--plot {self.plot}: name a .png or an .svg file")


@verb(app, "plan", "gpt2-xl-ja --cluster mdx")
def plan_verb(
    arguments: Arguments,
    simulating: Simulating,
    mfu: Annotated[
        float | None,
        typer.Option(
            "--mfu",
            min=0.001,
            max=1.0,
            help="Share of the GPUs' peak, for the time. Default: as rehearsed, else 0.35.",
        ),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens",
            metavar="NUMBER",
            help="Tokens to train on, as 150b: in place of training.steps or epochs.",
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,KIND...",
            help="Compare nodes with these GPUs in a table, in place of a cluster: 8xa100,4xv100-32gb. "
            "With --beside, a table of the recipes on each.",
        ),
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE,RECIPE...",
            help="Compare with these recipes in a table. Overrides are for all of them.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute parameters, memory of a rank, time, disk and interruptions, each figure with its source.

    Nothing is started. If the run was rehearsed on the cluster, measured figures are used and shown.
    With --simulate, also when the run arrives, and the effect of other settings.
    """
    from kit.plan import beside_page, comparison_page, page
    from kit.plan.known import Budget
    from kit.relay import comparing, planning

    request = simulating.request()
    _refuse_contradictions(arguments, simulating, gpus, beside, tokens)
    number, kinds = _number(tokens), gpus.split(",") if gpus is not None else []
    # On other nodes than the run's, `auto` is another number.
    load = partial(_loaded, keep_micro_batch=not kinds)
    if beside is not None:
        projects = [*map(load, _all(arguments, beside))]
        facts, shown = comparing.beside(projects, mfu, number, kinds), beside_page.lines
    elif kinds:
        facts = comparing.facts(load(arguments), kinds, mfu, number)
        shown = comparison_page.lines
    else:
        budget = None if number is None else Budget(number, given=True)
        facts = planning.facts(load(arguments), mfu, request, budget)
        shown = page.lines
    if simulating.plot is not None:
        planning.draw(facts, simulating.plot)
    if as_json:
        print_json(facts)
    else:
        print("\n".join(shown(facts)))


def _loaded(arguments: Arguments, *, keep_micro_batch: bool) -> "Project":
    project = arguments.load(refuse=False, keep_micro_batch=keep_micro_batch)
    if keep_micro_batch:
        tell_kept_micro_batch(arguments, project)
    return project


def _all(arguments: Arguments, beside: str) -> list[Arguments]:
    """The arguments of each recipe that is compared."""
    names = beside.split(",")
    if not all(names):
        raise ConfigError(
            f"--beside {beside}: write names or files, such as gpt2-xl-ja,llama-1b-ja"
        )
    return [arguments, *(replace(arguments, recipe_file=recipe_path(name)) for name in names)]


def _number(tokens: str | None) -> float | None:
    from kit.plan import starter

    return None if tokens is None else starter.number(tokens, "--tokens")


def _refuse_contradictions(
    arguments: Arguments,
    simulating: Simulating,
    gpus: str | None,
    beside: str | None,
    tokens: str | None,
) -> None:
    """Raise ConfigError for what has no effect beside another option."""
    overrides = arguments.overrides or ()
    if gpus is not None:  # it describes the nodes
        given = [word for word in overrides if word.startswith("cluster.")]
        given += ["--cluster"] if arguments.cluster_name else []
        given += ["--simulate"] if simulating.simulate else []
        _refuse(given, "--gpus")
    if beside is not None and simulating.simulate:
        _refuse(["--simulate"], "--beside")
    if tokens is not None:
        lengths = ("training.steps=", "training.epochs=")
        _refuse([word for word in overrides if word.startswith(lengths)], "--tokens")


def _refuse(given: list[str], option: str) -> None:
    if given:
        raise ConfigError(f"{', '.join(given)}: no effect with {option}; leave out one of them")


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else 60.0 * minutes


if __name__ == "__main__":
    main(app)
