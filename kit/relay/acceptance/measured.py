"""Verdicts on the run of many steps: its rate and memory, and where its time went."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.output.quantities import duration, size
from kit.relay import rehearsal
from kit.relay.acceptance.verdicts import Verdict
from kit.tracking import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.relay.acceptance.trials import Trials
    from kit.store.paths import Run
    from kit.tracking.rows import StepRow

PROFILED = 10  # the step before the profile
_TOLERANCE = 0.1  # of the plan's memory
_OF_PROCESS = 0.1e9  # bytes: on a CPU, what libraries take differs by as much


def of_steps(trials: Trials, run: Run, planned: dict[str, Any]) -> Iterator[Verdict]:
    """Rate, memory, profile, data and ledger of the run."""
    measured = rehearsal.measure(run, trials.recipe, trials.cluster)
    yield _rate(measured, planned)
    yield _memory(run, planned, gpu=trials.cluster.device == "cuda")
    profile = rehearsal.profile_of(run)
    yield _profile(profile)
    yield _data(run)
    yield _ledger(profile)


def steps_of(run: Run) -> list[StepRow]:
    """The rows of the steps of a run, without the first of them."""
    rows = [row for row in ledger.canonical(run) if row["kind"] == "step"]
    return rows[rehearsal.WARM_UP :]


def seconds_a_step(run: Run) -> float:
    """The time of a step."""
    return statistics.median(row["seconds"] for row in steps_of(run))


def _rate(measured: dict[str, Any], planned: dict[str, Any]) -> Verdict:
    rate, mfu = measured["tokens_per_second"], measured["mfu"]
    expected = planned["time"]["tokens_per_second"]["value"]
    words = f"{rate:,.0f} tokens/s, {duration(measured['seconds_a_step'])} a step"
    words += f", MFU {mfu:.1%}" if mfu else ", MFU unknown (cluster.training.accelerator)"
    words += f"; plan: {expected:,.0f}, off by {rate / expected - 1:+.0%}" if expected else ""
    facts = {**measured, "planned_tokens_per_second": expected}
    return Verdict("rate", "ok", words, facts)


def _memory(run: Run, planned: dict[str, Any], *, gpu: bool) -> Verdict:
    """The peak of a rank: on a GPU of tensors, on a CPU of the process; before the profile adds to it."""
    rows = (row for row in ledger.canonical(run) if row["kind"] == "step")
    peak = max(row["memory_bytes"] for row in rows if row["step"] <= PROFILED)
    expected = planned["memory"]["tensors" if gpu else "total"]["value"]
    off = peak / expected - 1
    words = f"{size(peak)} a rank; plan: {size(expected)}, off by {off:+.1%}"
    facts = {"bytes": peak, "plan": expected, "off": off}
    allowed = max(_TOLERANCE * expected, 0 if gpu else _OF_PROCESS)
    return Verdict("memory", "ok" if abs(peak - expected) <= allowed else "bad", words, facts)


def _profile(profile: dict[str, Any] | None) -> Verdict:
    if profile is None:
        return Verdict("profile", "not tried", "too few steps")
    step, *rest = profile["parts"]
    shares = (f"{one['name']} {one['seconds'] / step['seconds']:.0%}" for one in rest)
    words = f"{', '.join(shares)}; {Path(profile['trace']).name}"
    return Verdict("profile", "ok", words, profile)


def _data(run: Run) -> Verdict:
    """The wait for data, on the rank that waited longest."""
    waits = [row["data_seconds"] for row in steps_of(run)]
    facts = _share(statistics.median(waits), seconds_a_step(run))
    facts["worst_seconds"] = max(waits)
    return Verdict("data", "ok", f"{_of_step(facts)}, at worst {_short(max(waits))}", facts)


def _ledger(profile: dict[str, Any] | None) -> Verdict:
    """Rank 0's time to write a row and its views."""
    parts = {one["name"]: one for one in (profile or {"parts": []})["parts"]}
    if "ledger" not in parts:
        return Verdict("ledger", "not tried", "without a profile")
    facts = _share(parts["ledger"]["seconds"], parts["step"]["seconds"])
    return Verdict("ledger", "ok", f"{_of_step(facts)}, on rank 0", facts)


def agreement(trials: Trials, run: Run, found: dict[str, Any]) -> Verdict:
    """The time of the agreements of a step, measured while no rank has other work."""
    training, ranks = trials.recipe.training, trials.cluster.training.ranks_per_node
    # Before each micro-batch; then the loss, the usage of the ranks, and the save in flight.
    number = training.global_batch // (training.micro_batch_size * ranks) + 3
    facts = _share(number * found["agreement"], seconds_a_step(run)) | {
        "number": number,
        "each": found["agreement"],
    }
    words = f"{_of_step(facts)}: {number} of {_short(found['agreement'])}"
    return Verdict("agreement", "ok", words, facts)


def _share(part: float, step: float) -> dict[str, float]:
    return {"seconds": part, "share": part / step}


def _of_step(facts: dict[str, float]) -> str:
    return f"{_short(facts['seconds'])} a step, {facts['share']:.1%} of it"


def _short(seconds: float) -> str:
    """A time that may be far below a second."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else duration(seconds)
