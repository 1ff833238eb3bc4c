"""A simulation as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.output.quantities import count, duration
from kit.plan.buckets import BUCKETS
from kit.plan.report import FAILURES
from kit.plan.simulation.conditions import DAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Facts = Mapping[str, Any]

_NAME, _VALUE, _COLUMN, _BAR = 22, 16, 20, 40  # widths
_ROWS = 10  # of the histogram
_INPUTS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "failures": ("failures", "{:g}".format),
    "preemptions": ("preemptions", "{:.3g}".format),
    "queue_seconds": ("queue", duration),
    "limit_seconds": ("time limit", duration),
    "warning_seconds": ("warned before it", duration),
    "grace_seconds": ("grace time", duration),
    "interval_seconds": ("a checkpoint every", duration),
    "save_blocked_seconds": ("a save blocks for", duration),
    "save_writing_seconds": ("is written in", duration),
    "startup_import_seconds": ("a start: imports", duration),
    "startup_ranks_seconds": ("  waiting for ranks", duration),
    "startup_load_seconds": ("  loading", duration),
    "startup_first_step_seconds": ("  first step, beyond", duration),
    "leaving_seconds": ("leaving", duration),
    "crash_seconds": ("a crash", duration),
    "validation_seconds": ("a validation", duration),
}
_SETTINGS = {
    "interval": "checkpoint interval",
    "limit": "time limit",
    "grace": "grace time",
}
_CAUTIOUS = f"{FAILURES['cautious']:g} per 1,000 node-days"


def lines(simulation: Facts) -> Iterator[str]:
    """The lines of `outlook.facts`."""
    yield f"simulation of {count(simulation['runs'], 'run')}, seed {simulation['seed']:,}"
    for key, (name, shown) in _INPUTS.items():
        one = simulation["inputs"][key]
        yield _row(name, shown(one["value"]), one["source"])
    yield ""
    yield "arrival"
    yield from _arrival(simulation["arrival"])
    yield ""
    yield "where the time goes, mean of the runs"
    yield from _spent(simulation)
    yield ""
    yield "arrival with another setting: mean change, its standard error"
    yield from _what_if(simulation["what_if"])


def _row(name: str, value: str, words: str) -> str:
    return f"  {name:{_NAME}}{value:>{_VALUE}}  {words}".rstrip()


def _days(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds / DAY:.2f} days"


def _arrival(arrival: Facts) -> Iterator[str]:
    yield _row("median", _days(arrival["median"]), "after the submission")
    yield _row("90% from", _days(arrival["earliest"]), "5% of the runs arrive earlier")
    yield _row("to", _days(arrival["latest"]), "5% arrive later")
    if arrival["arrived"] < 1:
        missing = "in 20 times the undisturbed time: they lose what they do"
        yield _row("do not arrive", f"{1 - arrival['arrived']:.1%}", missing)
    yield from _histogram(arrival["histogram"])


def _histogram(histogram: Facts | None) -> Iterator[str]:
    """Bars of a few bins each, the longest as wide as there is room for."""
    if histogram is None:
        return
    edges, runs = histogram["edges"], histogram["runs"]
    each = len(runs) // _ROWS
    sums = [sum(runs[first : first + each]) for first in range(0, len(runs), each)]
    for number, some in enumerate(sums):
        low, high = edges[number * each] / DAY, edges[(number + 1) * each] / DAY
        bar = "█" * round(_BAR * some / max(sums))
        yield _row(f"  {low:.2f} to {high:.2f}", f"{some / sum(sums):.1%}", bar)


def _spent(simulation: Facts) -> Iterator[str]:
    width = max(map(len, BUCKETS.values()))
    for name, spent in simulation["buckets"].items():
        if spent["seconds"] > 0:
            time = duration(spent["seconds"])
            yield f"  {BUCKETS[name]:{width}}{time:>{_VALUE}}  {spent['share']:.2%}"
    yield _row("goodput", f"{simulation['goodput']:.2%}", "kept steps over the time of held nodes")
    met = {
        name.replace("_", " "): f"{mean:.3g}" for name, mean in simulation["interruptions"].items()
    }
    words = ", ".join(f"{mean} {name}" for name, mean in met.items())
    yield f"  A run meets {words} on average."


def _what_if(changes: Sequence[Facts]) -> Iterator[str]:
    found = {(one["setting"], one["change"]): _change(one) for one in changes}
    yield f"  {'':{_NAME}}{'half':>{_COLUMN}}{'double':>{_COLUMN}}"
    for setting, name in _SETTINGS.items():
        half, double = (found[setting, change] for change in ("half", "double"))
        yield f"  {name:{_NAME}}{half:>{_COLUMN}}{double:>{_COLUMN}}"
    if cautious := found.get(("failures", "cautious")):
        yield _row("cautious failures", cautious, _CAUTIOUS)


def _change(one: Facts) -> str:
    if one["seconds"] is None:
        return f"{one['arrived']:.1%} arrive" if one["arrived"] else "no run arrives"
    hours, error = one["seconds"] / 3600, one["error"] / 3600
    return f"{hours:+.3g} h ± {error:.1g}"
