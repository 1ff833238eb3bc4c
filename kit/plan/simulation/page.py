"""A simulation as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kit.output.quantities import count, duration
from kit.plan.buckets import BUCKETS
from kit.plan.report import FAILURES
from kit.plan.simulation.conditions import DAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Facts = Mapping[str, Any]


class _Unit(NamedTuple):
    """Units of an arrival, and of its change."""

    name: str
    seconds: float
    name_of_change: str
    of_change: float  # seconds


_NAME, _VALUE, _COLUMN, _BAR = 22, 16, 24, 40  # widths
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
_UNITS = (
    _Unit("days", DAY, "h", 3600.0),
    _Unit("h", 3600.0, "min", 60.0),
    _Unit("min", 60.0, "s", 1.0),
)
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
    yield from _what_if(simulation["what_if"], _unit(simulation["arrival"]))


def _row(name: str, value: str, words: str) -> str:
    return f"  {name:{_NAME}}{value:>{_VALUE}}  {words}".rstrip()


def _unit(arrival: Facts) -> _Unit:
    """The unit for a run of that length."""
    typical = arrival["median"] or arrival["earliest"] or DAY
    return next(unit for unit in _UNITS if typical >= 2 * unit.seconds or unit is _UNITS[-1])


def _time(seconds: float | None, unit: _Unit) -> str:
    return "never" if seconds is None else f"{seconds / unit.seconds:.2f} {unit.name}"


def _arrival(arrival: Facts) -> Iterator[str]:
    unit = _unit(arrival)
    yield _row("median", _time(arrival["median"], unit), "after the submission")
    yield _row("90% from", _time(arrival["earliest"], unit), "5% of the runs arrive earlier")
    yield _row("to", _time(arrival["latest"], unit), "5% arrive later")
    if arrival["arrived"] < 1:
        missing = "in 20 times the undisturbed time: they lose what they do"
        yield _row("do not arrive", f"{1 - arrival['arrived']:.1%}", missing)
    yield from _histogram(arrival["histogram"], unit)


def _histogram(histogram: Facts | None, unit: _Unit) -> Iterator[str]:
    """Bars of a few bins each, the longest as wide as there is room for."""
    if histogram is None:
        return
    edges, runs = histogram["edges"], histogram["runs"]
    each = len(runs) // _ROWS
    sums = [sum(runs[first : first + each]) for first in range(0, len(runs), each)]
    for number, some in enumerate(sums):
        low, high = (edges[place * each] / unit.seconds for place in (number, number + 1))
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


def _what_if(changes: Sequence[Facts], unit: _Unit) -> Iterator[str]:
    found = {(one["setting"], one["change"]): _change(one, unit) for one in changes}
    yield f"  {'':{_NAME}}{'half':>{_COLUMN}}{'double':>{_COLUMN}}"
    for setting, name in _SETTINGS.items():
        half, double = (found[setting, change] for change in ("half", "double"))
        yield f"  {name:{_NAME}}{half:>{_COLUMN}}{double:>{_COLUMN}}"
    if cautious := found.get(("failures", "cautious")):
        yield _row("cautious failures", cautious, _CAUTIOUS)


def _change(one: Facts, unit: _Unit) -> str:
    if one["seconds"] is None:
        return f"{one['arrived']:.1%} arrive" if one["arrived"] else "no run arrives"
    change, error = (one[key] / unit.of_change for key in ("seconds", "error"))
    return f"{change:+.3g} {unit.name_of_change} ± {error:.1g}"
