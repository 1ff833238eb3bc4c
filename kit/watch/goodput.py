"""Where the time of a run went: every second since its first submission lies in one named bucket.

    spent = goodput(seen, history(seen, alive=True), now, alive=True)
    spent.whole.share, spent.whole.losses(), spent.day.facts()

Goodput is the time of steps that were kept over the time for which nodes were held, each attempt weighted
with its ranks; `of_wall_clock` is the same time over all time since the first submission. The buckets
follow ml-goodput-measurement (Google). They are counted from files alone: start.json, ledger, hang.json
and end.json of each attempt, and the decisions of requeues.jsonl.

A moment that no file holds leaves its time with a neighbour. So in a run of an earlier version, whose
start.json does not say when its job started, imports on Slurm count as `queue`, and waiting for ranks as
`startup_load`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.cluster import decisions
from kit.plan.buckets import BUCKETS, KEPT, UNKNOWN
from kit.watch.history import ended_by_user
from kit.watch.partition import SECOND, Layer, nanoseconds, partition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from kit.cluster.decisions import RequeueRecord
    from kit.cluster.snapshot import Snapshot
    from kit.watch.history import AttemptTimes, History
    from kit.watch.partition import Partition

HOUR, DAY = 3600, 86_400

_BETWEEN_ROWS = "between two rows of the ledger"
_SILENT = "no row since the last step: a step in progress, or a hang that is not detected yet"
_CRASHED = "after the last row of an attempt that crashed, until its job ended"
_NO_DECISION = "an attempt ended, and no decision about its job was recorded"
_GONE = "a job was to start, and is neither queued nor running"
_NO_RECORD = "no record"
# Within an attempt, the lowest first.
_OVER_ONE_ANOTHER = (
    "startup_load", "startup_ranks", "startup_import", _BETWEEN_ROWS, "ending", _SILENT, _CRASHED, KEPT,
    "redone_steps", "hang",
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """A span of time by bucket, in integers of nanoseconds that add up to it exactly."""

    nanoseconds: int
    buckets: Mapping[str, int]  # all of BUCKETS, in their order
    reasons: Mapping[str, int]  # of `unknown`
    kept: int  # nanoseconds of kept steps times ranks
    held: int  # nanoseconds for which nodes were held, times ranks

    @property
    def share(self) -> float | None:
        """Goodput: kept steps over held node time; None if none was held."""
        return self.kept / self.held if self.held else None

    @property
    def of_wall_clock(self) -> float | None:
        """Kept steps over all time; None for an empty span."""
        return self.buckets[KEPT] / self.nanoseconds if self.nanoseconds else None

    def losses(self, number: int = 3) -> list[tuple[str, int]]:
        """The largest buckets besides the kept steps, with their nanoseconds."""
        others = [(name, ns) for name, ns in self.buckets.items() if name != KEPT and ns]
        return sorted(others, key=lambda one: -one[1])[:number]

    def facts(self) -> dict[str, Any]:
        """As JSON; the shares of the buckets add up to 1 if there is any time."""
        whole = self.nanoseconds
        return {
            "seconds": whole / SECOND,
            "goodput": self.share,
            "of_wall_clock": self.of_wall_clock,
            "buckets": {
                name: {"seconds": ns / SECOND, "share": ns / whole if whole else 0.0}
                for name, ns in self.buckets.items()
            },
            "unknown": {reason: ns / SECOND for reason, ns in self.reasons.items()},
        }


@dataclass(frozen=True)
class Goodput:
    """All time since the first submission, and the last hour and day of it."""

    whole: Split
    hour: Split
    day: Split


def goodput(
    seen: Snapshot,
    past: History,
    now: float,
    *,
    alive: bool,
    tokens_made: float | None = None,
) -> Goodput:
    """Split the time of a run up to `now`, or up to the end of its last step.

    `alive`: the training job is queued or running; `tokens_made`: Unix time at which the stages before the
    training were done.
    """
    spans = _spans(past, now, alive=alive)
    begin, until = _limits(seen, past, spans, now, alive=alive)
    held = _held(past, spans)
    outside = _outside(seen, past, spans, (begin, until), tokens_made, alive=alive)
    inside = [
        layer
        for one, span in zip(past.attempts, spans, strict=True)
        for layer in _inside(one, span, past.seconds or 0.0)
    ]
    inside.sort(key=lambda layer: _OVER_ONE_ANOTHER.index(layer.name))
    layers = [*_by_name(outside), *_by_name(inside), *_activities(past)]
    first, last = int(nanoseconds(begin)), int(nanoseconds(until))
    # The nodes that are held paint nothing, but their boundaries are those of segments.
    marks = [Layer(_NO_RECORD, layer.begin, layer.end) for layer in held.values()]
    whole = partition(first, last, [*marks, *layers], _NO_RECORD)
    weight = np.zeros(len(whole.label), np.int64)
    for ranks, layer in held.items():
        weight += ranks * whole.count(layer)
    if "startup_import" in whole.names:  # of a job that has started, before any file says so
        importing = (whole.label == whole.names.index("startup_import")) & (weight == 0)
        weight[importing] = max(held, default=1)
    return Goodput(
        *(_split(whole.within(max(first, last - span * SECOND), last), weight)
          for span in (last - first, HOUR, DAY))
    )  # fmt: skip


def _split(part: Partition, weight: NDArray[np.int64]) -> Split:
    sums, weighted = part.sums(), part.sums(weight)
    reasons = {name: ns for name, ns in sums.items() if name not in BUCKETS and ns}
    buckets = {name: sums.get(name, 0) for name in BUCKETS}
    buckets[UNKNOWN] += sum(reasons.values())
    whole = int(part.bounds[-1] - part.bounds[0])
    return Split(whole, buckets, reasons, weighted.get(KEPT, 0), sum(weighted.values()))


def _by_name(layers: Sequence[Layer]) -> list[Layer]:
    """One layer a name, in the order in which the names come first."""
    names = dict.fromkeys(layer.name for layer in layers)
    return [
        Layer(
            name,
            np.concatenate([one.begin for one in layers if one.name == name]),
            np.concatenate([one.end for one in layers if one.name == name]),
        )
        for name in names
    ]


def _layer(name: str, *spans: tuple[float, float]) -> Layer:
    edges = nanoseconds([edge for span in spans for edge in span]).reshape(-1, 2)
    return Layer(name, edges[:, 0], edges[:, 1])


def _spans(past: History, now: float, *, alive: bool) -> list[tuple[float, float]]:
    """From when to when each attempt held its nodes, as far as it is known."""
    spans = []
    for one in past.attempts:
        end = one.last
        if one.decision is not None:
            end = max(end, one.decision["time"])
        elif one is past.attempts[-1] and alive and one.left is None:
            end = max(end, now)
        spans.append((one.start, end))
    return spans


def _limits(
    seen: Snapshot,
    past: History,
    spans: Sequence[tuple[float, float]],
    now: float,
    *,
    alive: bool,
) -> tuple[float, float]:
    """The first submission, and `now` or the end of a run that has made its last step."""
    known = [seen.made, seen.submitted.time or None]
    known += [span[0] for span in spans[:1]] + [row["time"] for row in seen.decisions[:1]]
    begin = min([one for one in known if one is not None], default=now)
    last = past.attempts[-1] if past.attempts else None
    done = last is not None and last.decision is not None and last.decision["reason"] == "done"
    return begin, spans[-1][1] if done and not alive else max(begin, now)


def _held(past: History, spans: Sequence[tuple[float, float]]) -> dict[int, Layer]:
    """For how long nodes were held, by the number of ranks."""
    by_ranks: dict[int, list[tuple[float, float]]] = {}
    for one, span in zip(past.attempts, spans, strict=True):
        by_ranks.setdefault(one.ranks, []).append(span)
    return {ranks: _layer(_NO_RECORD, *held) for ranks, held in by_ranks.items()}


def _outside(
    seen: Snapshot,
    past: History,
    spans: Sequence[tuple[float, float]],
    limits: tuple[float, float],
    tokens_made: float | None,
    *,
    alive: bool,
) -> list[Layer]:
    """Layers of the time between attempts, before the first and after the last.

    It bears the name of the last decision before it; from a new submission on it is time in the queue.
    """
    begin, until = limits
    here = bool(seen.submitted.here)  # a job of this machine starts at once
    waiting = "startup_import" if here else "queue"
    changes = [(begin, waiting)]
    changes += [
        (span[1], "ending" if alive and one is past.attempts[-1] else _NO_DECISION)
        for one, span in zip(past.attempts, spans, strict=True)
        if one.decision is None
    ]
    rows = (row for row in seen.decisions if row["name"] == "train")
    changes += [(row["time"], _after(row, waiting)) for row in rows]
    submitted = seen.submitted.since("train")
    if submitted and "train" in {*seen.submitted.slurm, *seen.submitted.here}:
        begun = seen.submitted.here.get("train")
        changes.append((submitted, "earlier_stages" if here else "queue"))
        if begun is not None:
            changes.append((begun, waiting))
    changes.sort(key=lambda change: change[0])  # stable: of one moment the later change stands
    if not alive and changes[-1][1] == waiting:
        changes[-1] = (changes[-1][0], _GONE)
    ends = [*(change[0] for change in changes[1:]), until]
    layers = [_layer(name, (since, end)) for (since, name), end in zip(changes, ends, strict=True)]
    first = spans[0][0] if spans else until
    before = first if tokens_made is None and not spans else min(tokens_made or begin, first)
    return [*layers, _layer("earlier_stages", (begin, before))]


def _after(row: RequeueRecord, waiting: str) -> str:
    """The name of the time after a decision, until a job starts or is submitted."""
    if row["requeued"] or not decisions.is_of_last_start(row):
        return waiting
    if row["reason"] == "done":
        return "finished"
    return "stopped" if ended_by_user(row) else "failed"


def _inside(one: AttemptTimes, span: tuple[float, float], usual: float) -> list[Layer]:
    """Layers that fill an attempt, under its activities."""
    end = span[1]
    first, last = one.first_activity, one.last_activity
    loading = one.loaded if one.loaded is not None else end
    if first is None or last is None:
        begin_of_end = loading if one.left is not None else end
        return [
            *_start(one, begin_of_end),
            _layer("ending", (begin_of_end, end)),
            *_hang(one, end),
        ]
    layers = [
        *_start(one, first),
        _layer(_BETWEEN_ROWS, (first, last)),
    ]
    if one.left is not None or (one.decision is not None and not _crashed(one.decision)):
        layers.append(_layer("ending", (last, end)))
    elif one.decision is None:
        # It may be running: the step in progress counts as a step for as long as one usually takes.
        layers += [_layer(_SILENT, (last, end)), _layer(KEPT, (last, min(last + usual, end)))]
    else:
        in_progress = usual if one.hang is None else 0.0
        layers += [
            _layer(_CRASHED, (last, end)),
            _layer("redone_steps", (last, min(last + in_progress, end))),
        ]
    return [*layers, *_hang(one, end)]


def _start(one: AttemptTimes, end: float) -> list[Layer]:
    """Layers from the start of the job to the end of loading; verifying a checkpoint is a part of it."""
    layers = [_layer("startup_load", (one.start, end))]
    if one.met is not None:
        layers.append(_layer("startup_ranks", (one.claimed, min(one.met, end))))
    if one.imported is not None:
        layers.append(_layer("startup_import", (one.start, min(one.imported, end))))
    return layers


def _hang(one: AttemptTimes, end: float) -> list[Layer]:
    if one.hang is None:
        return []
    return [_layer("hang", (one.hang.time - one.hang.seconds, end))]


def _crashed(row: RequeueRecord) -> bool:
    return row["reason"].startswith((decisions.CRASH, decisions.HANG))


def _activities(past: History) -> list[Layer]:
    """Layers of the rows of ledgers, kept steps on top."""
    if not past.attempts:
        return []
    usual = past.seconds or 0.0
    kept, redone, warm_up = [], [], []
    for one in past.attempts:
        begin = one.ended - one.seconds
        if len(begin):
            steady = max(begin[0], one.ended[0] - usual)
            warm_up.append((begin[0], steady))
            begin[0] = steady
        spans = np.stack([begin, one.ended], axis=1)
        kept.append(spans[one.kept])
        redone.append(spans[~one.kept])
    saves = np.concatenate([one.saves for one in past.attempts])
    began = saves[:, 0] - saves[:, 1]
    validations = np.concatenate([one.validations for one in past.attempts])
    return [
        _spans_layer("redone_steps", np.concatenate(redone)),
        _layer("startup_first_step", *warm_up),
        _spans_layer("saves", np.stack([began, began + saves[:, 2]], axis=1)),
        _spans_layer(
            "validation",
            np.stack([validations[:, 0] - validations[:, 1], validations[:, 0]], axis=1),
        ),
        _spans_layer(KEPT, np.concatenate(kept)),
    ]


def _spans_layer(name: str, spans: NDArray[np.float64]) -> Layer:
    return Layer(name, nanoseconds(spans[:, 0]), nanoseconds(spans[:, 1]))
