"""What a run will need, computed before it begins, and when it will arrive, simulated.

python -m jobs.plan gpt2-xl-ja --cluster mdx
python -m jobs.plan gpt2-xl-ja --gpus 8xa100,8xh100,4xv100-32gb
python -m jobs.plan gpt2-xl-ja-article training.steps=277000 --cluster mdx --mfu 0.1 --simulate
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command import Arguments, Json, main, new_app, print_json, verb
from kit.errors import ConfigError

if TYPE_CHECKING:
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
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,KIND...",
            help="Compare nodes with these GPUs in a table, in place of a cluster: 8xa100,4xv100-32gb.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute parameters, memory of a rank, time, disk and interruptions, each figure with its source.

    Nothing is started. If the run was rehearsed on the cluster, measured figures are used and shown.
    With --simulate, also when the run arrives, and the effect of other settings.
    """
    from kit.plan import comparison_page, page
    from kit.relay import comparing, planning

    request = simulating.request()
    if gpus is not None:
        _refuse_a_cluster(arguments, simulating)
        facts = comparing.facts(arguments.load(refuse=False), gpus.split(","), mfu)
    else:
        facts = planning.facts(arguments.load(refuse=False), mfu, request)
    if simulating.plot is not None:
        planning.draw(facts, simulating.plot)
    if as_json:
        print_json(facts)
    else:
        print("\n".join((page if gpus is None else comparison_page).lines(facts)))


def _refuse_a_cluster(arguments: Arguments, simulating: Simulating) -> None:
    """Raise ConfigError for what has no effect with --gpus, which describes the nodes."""
    given = [word for word in arguments.overrides or () if word.startswith("cluster.")]
    given += ["--cluster"] if arguments.cluster_name else []
    given += ["--simulate"] if simulating.simulate else []
    if given:
        raise ConfigError(f"{', '.join(given)}: no effect with --gpus; leave out one of them")


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else 60.0 * minutes


if __name__ == "__main__":
    main(app)
