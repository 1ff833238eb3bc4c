"""The parts of an acceptance: each runs what it needs, and gives a verdict."""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING, Any

from kit.cluster import decisions
from kit.cluster.supervisor import Drill
from kit.errors import ClusterError
from kit.output.quantities import duration, size
from kit.plan import report as plan
from kit.plan.report import Known
from kit.relay import rehearsal
from kit.relay.acceptance.comparison import compare
from kit.relay.acceptance.verdicts import Verdict
from kit.store import records
from kit.tracking import ledger
from kit.training.attempt import DOES_NOT_FIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.relay.acceptance.trials import Trials
    from kit.store.paths import Run

PROFILED = 10  # the step before the profile
_TOLERANCE = 0.1  # of the plan's memory
_TRIES = 5  # micro-batches
_SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGKILL)
_FEWEST, _SECONDS = 12, 3.0  # of a run with signals: they must come in mid-run


def micro_batch(trials: Trials) -> Verdict:
    """Find the largest micro-batch that fits: from the plan's up, or down from an out-of-memory error."""
    sizes = _divisors(trials)
    predicted = _predicted(trials)
    begin = max((i for i, n in enumerate(sizes) if n <= (predicted or 0)), default=0)
    if predicted is None:
        begin = sizes.index(trials.recipe.training.micro_batch)
    fits = search(sizes, begin, lambda number: _fits(trials, number))
    largest = max((n for n, fit in fits.items() if fit), default=None)
    facts = {
        "tried": {str(n): fit for n, fit in fits.items()},
        "largest": largest,
        "plan": predicted,
    }
    wanted = trials.recipe.training.micro_batch
    said = "unknown" if predicted is None else str(predicted)
    if largest is None or largest < wanted:
        words = f"{largest or 'none'} fits, but training.micro_batch={wanted}; plan: {said}"
        return Verdict("micro-batch", "bad", words, facts)
    bound = "" if largest < sizes[-1] else ", all that a rank has in a step"
    return Verdict("micro-batch", "ok", f"{largest} fits{bound}; plan: {said}", facts)


def search(sizes: Sequence[int], begin: int, fits: Callable[[int], bool]) -> dict[int, bool]:
    """Try `sizes[begin]`, then larger ones until one does not fit, or smaller ones until one does."""
    tried: dict[int, bool] = {}
    at = begin
    while 0 <= at < len(sizes) and sizes[at] not in tried and len(tried) < _TRIES:
        tried[sizes[at]] = fits(sizes[at])
        at += 1 if tried[sizes[at]] else -1
    return tried


def _predicted(trials: Trials) -> int | None:
    """The plan's largest micro-batch; None if the memory of the device is unknown."""
    by_choice = _planned(trials)["memory"]["largest_micro_batch"]["value"]
    choice = "checkpointing" if trials.recipe.model.activation_checkpointing else "plain"
    largest: int | None = by_choice[choice]
    return largest


def _divisors(trials: Trials) -> list[int]:
    """The micro-batches that divide a rank's part of a step."""
    part = trials.recipe.training.global_batch // trials.cluster.training.ranks
    return [n for n in range(1, part + 1) if part % n == 0]


def _fits(trials: Trials, number: int) -> bool:
    try:
        trials.run(f"micro-batch-{number}", {"micro_batch": number, "steps": 2, "warmup_steps": 1})
    except ClusterError as error:
        if DOES_NOT_FIT not in str(error):
            raise
        return False
    return True


def settings(steps: int) -> dict[str, Any]:
    """The training of a trial: validated at its end, saved twice."""
    return {
        "steps": steps,
        "warmup_steps": 2,
        "validate_every": steps,
        "checkpoint_every": steps // 2,
    }


def of_steps(trials: Trials, run: Run) -> Iterator[Verdict]:
    """Rate, memory, profile and save of the run with `settings`."""
    measured = rehearsal.measure(run, trials.recipe, trials.cluster)
    planned = _planned(trials)
    yield _rate(measured, planned)
    yield _memory(run, planned, gpu=trials.cluster.device == "cuda")
    yield _profile(run)
    save, blocked = (measured[f"save_{key}seconds"] for key in ("", "blocked_"))
    held = (
        f"{size(measured['checkpoint_bytes'])} in {duration(save)}, blocked for {duration(blocked)}"
    )
    facts = {"seconds": save, "blocked": blocked, "bytes": measured["checkpoint_bytes"]}
    yield Verdict("save", "ok", held, facts)


def _rate(measured: dict[str, Any], planned: dict[str, Any]) -> Verdict:
    rate, mfu = measured["tokens_per_second"], measured["mfu"]
    expected = planned["time"]["tokens_per_second"]["value"]
    words = f"{rate:,.0f} tokens/s, {measured['seconds_a_step']:.3f} s a step"
    words += f", MFU {mfu:.1%}" if mfu else ", MFU unknown (cluster.training.accelerator)"
    words += f"; plan: {expected:,.0f}, off by {rate / expected - 1:+.0%}" if expected else ""
    facts = {**measured, "planned_tokens_per_second": expected}
    return Verdict("rate", "ok", words, facts)


def _memory(run: Run, planned: dict[str, Any], *, gpu: bool) -> Verdict:
    """The peak of a rank: on a GPU of tensors, on a CPU of the process; before the profile adds to it."""
    rows = (row for row in ledger.canonical(run) if row["kind"] == "step")
    peak = max(row["memory_bytes"] for row in rows if row["step"] <= PROFILED)
    expected = planned["memory"]["tensors" if gpu else "total"]["value"]
    parts = {name: one["value"] for name, one in planned["memory"]["parts"].items()}
    off = peak / expected - 1
    words = f"{size(peak)} a rank; plan: {size(expected)}, off by {off:+.1%}"
    facts = {"bytes": peak, "plan": expected, "parts": parts}
    return Verdict("memory", "ok" if abs(off) <= _TOLERANCE else "bad", words, facts)


def _profile(run: Run) -> Verdict:
    profile = rehearsal.profile_of(run)
    if profile is None:
        return Verdict("profile", "not shown", "too few steps")
    step, *rest = profile["parts"]
    shares = (f"{one['name']} {one['seconds'] / step['seconds']:.0%}" for one in rest)
    return Verdict("profile", "ok", f"{', '.join(shares)}; {profile['trace']}", profile)


def signals(trials: Trials, measured: Sequence[Run], *, deterministic: bool) -> Iterator[Verdict]:
    """Interrupt a run by each signal, and hold it against one that was not; and the time to load.

    `measured` has the run of `of_steps`, if it ended.
    """
    if not measured:
        yield Verdict("resume", "not shown", "without the time of a step")
        return
    seconds = rehearsal.measure(measured[0], trials.recipe, trials.cluster)["seconds_a_step"]
    number = 4 * math.ceil(max(_FEWEST, _SECONDS / seconds) / 4)
    own = settings(number) | {"checkpoint_every": number // 4, "deterministic": deterministic}
    label = "deterministic" if deterministic else "free"
    whole = trials.run(f"{label}-whole", own)
    drills = [Drill(number * i // 4, one) for i, one in enumerate(_SIGNALS, 1)]
    broken = trials.run(f"{label}-interrupted", own, drills)
    yield _resumed(whole, broken, deterministic=deterministic)
    if deterministic:
        yield _load(broken)


def _resumed(whole: Run, broken: Run, *, deterministic: bool) -> Verdict:
    """Whether the interrupted run survived each signal, and ended as the other one did."""
    name = f"resume, {'deterministic' if deterministic else 'not deterministic'}"
    reasons = [row["reason"] for row in decisions.read(broken) if row["requeued"]]
    found = compare(whole, broken)
    facts = {"interruptions": reasons, **found}
    if len(reasons) < len(_SIGNALS):
        words = f"only {len(reasons)} of {len(_SIGNALS)} signals were survived"
        return Verdict(name, "bad", words, facts)
    if found["equal"]:
        return Verdict(name, "ok", f"bit-equal after {', '.join(reasons)}", facts)
    words = (
        f"not bit-equal: weights by up to {found['weights']:.3g}, losses by {found['losses']:.3g}"
    )
    words += f" from step {found['first']:,} on" if found["first"] else ""
    return Verdict(name, "bad" if deterministic else "ok", words, facts)


def _load(run: Run) -> Verdict:
    """The slowest resume: verifying the checkpoint, building the model, loading."""
    slowest = 0.0
    for attempt in ledger.attempts(run)[1:]:
        first = next((row for row in ledger.rows(attempt) if row["kind"] == "attempt"), None)
        if first is not None:
            began = records.start(attempt).get("times", {}).get("imported")
            slowest = max(slowest, first["time"] - began) if began else slowest
    words = f"{duration(slowest)} to verify the checkpoint, build the model and load"
    return Verdict("load", "ok", words, {"seconds": slowest})


def nodes(wanted: int) -> Verdict:
    """More than one node is not tried here: a job of the recipe shows it."""
    if wanted == 1:
        return Verdict("nodes", "ok", "the recipe trains on one")
    words = f"{wanted} in the cluster file, one tried: rehearse the recipe for the others"
    return Verdict("nodes", "not shown", words)


def _planned(trials: Trials) -> dict[str, Any]:
    return plan.facts(trials.recipe, trials.cluster, Known())
