"""Detectors of trouble in a run: each is a pure function of one view, and yields alerts or nothing.

    alerts = found(view)

An alert has the observation, with figures, and a command to type. No detector looks at anything but the
view, which kit/watch/look.py fills from the ledger, the decisions, the queue, the disk and the clock.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from kit.cluster import decisions
from kit.output import program
from kit.output.quantities import count, duration, size
from kit.watch.observed import RECENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.tracking.rows import StepRow
    from kit.watch.observed import View

Severity = Literal["critical", "warning", "info"]  # info: only that the run is done

_LAST = 10  # steps whose median is one of them
_SPIKE = 0.5  # nats above the median of the others, and ten times their usual distance from it
_DEVIATIONS = 10.0
_DIVERGED = 0.3  # nats above the best level of the run
_SLOW = 0.7  # of the run's median of tokens per second
_SLOW_NODE = 1.2  # times the step time on other nodes
_MOST = 0.7  # of the steps
_WAITED = 0.1  # of a step
_MANY_STEPS, _LEARNED = 1000, 0.5  # nats: less than from equal to true frequencies of the tokens
_STALL = 600.0  # seconds, or ten times the median step
_SKEW = 120.0  # seconds
_PENDING = 86_400.0  # seconds
_BEHIND = 3600.0  # seconds


@dataclass(frozen=True)
class Alert:
    """Something that needs a person."""

    detector: str
    severity: Severity
    text: str  # what was seen
    command: str  # to type
    about: str = ""  # of several alike: which
    repeats: bool = True  # whether it is reported again while it holds

    @property
    def key(self) -> str:
        """The same for as long as it is the same thing."""
        return f"{self.detector} {self.about}".strip()

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def found(view: View) -> list[Alert]:
    """The alerts of all detectors, the critical first."""
    alerts = [alert for detector in DETECTORS for alert in detector(view)]
    return sorted(alerts, key=lambda alert: alert.severity != "critical")


def loss_not_finite(view: View) -> Iterator[Alert]:
    """A loss of the last steps is not a number, and the loss scale is not the reason."""
    bad = [
        row["step"]
        for row in view.steps[-view.new :]
        if row["loss"] is None and not row.get("overflow")
    ]
    if bad:
        yield Alert(
            "loss_not_finite",
            "critical",
            f"the loss of step {bad[-1]:,} is not finite",
            _stop(view),
        )


def loss_spike(view: View) -> Iterator[Alert]:
    """A loss of the last steps is far above those before."""
    before, last = _losses(view.steps[: -view.new]), view.steps[-view.new :]
    if len(before) < _LAST:
        return
    usual = statistics.median(before)
    far = _DEVIATIONS * statistics.median(abs(loss - usual) for loss in before)
    for row in last:
        loss = row["loss"]
        if loss is not None and loss > usual + max(_SPIKE, far):
            text = (
                f"the loss of step {row['step']:,} is {loss:.3f}, the median before it {usual:.3f}"
            )
            yield Alert("loss_spike", "warning", text, _status(view))
            return


def divergence(view: View) -> Iterator[Alert]:
    """The level of the loss has risen above the best of the run."""
    losses = _losses(view.steps[-RECENT:])
    if view.best_loss is None or len(losses) < RECENT // 2:
        return
    level = statistics.median(losses)
    spread = statistics.median(abs(loss - level) for loss in losses)
    if level > view.best_loss + max(_DIVERGED, spread):
        text = (
            f"the median loss of the last {count(len(losses), 'step')} is {level:.3f}, the best was "
            f"{view.best_loss:.3f}"
        )
        yield Alert("divergence", "critical", text, _stop(view))


def slow(view: View) -> Iterator[Alert]:
    """Throughput is below the run's own median."""
    rates = [rate for row in view.steps[-2 * _LAST :] if (rate := row.get("tokens_per_second"))]
    if view.usual_rate is None or len(rates) < _LAST:
        return
    rate = statistics.median(rates)
    if rate < _SLOW * view.usual_rate:
        text = (
            f"{rate:,.0f} tokens/s over the last {count(len(rates), 'step')}, the run's median is "
            f"{view.usual_rate:,.0f}"
        )
        yield Alert("slow", "warning", text, _status(view))


def slow_node(view: View) -> Iterator[Alert]:
    """Attempts that rank 0 ran on one node are slower than those on others."""
    by_node: dict[str, list[float]] = {}
    for one in view.attempts:
        if one.step_seconds is not None:
            by_node.setdefault(one.node, []).append(one.step_seconds)
    for node, seconds in by_node.items():
        others = [each for name, some in by_node.items() if name != node for each in some]
        if len(seconds) < 2 or len(others) < 2:
            continue
        here, there = statistics.median(seconds), statistics.median(others)
        if here > _SLOW_NODE * there:
            text = f"a step takes {duration(here)} with {node}, {duration(there)} on other nodes"
            job = view.job.id
            command = f"scontrol update jobid={job} ExcNodeList={node}" if job else _status(view)
            yield Alert("slow_node", "warning", text, command, node)


def slow_rank(view: View) -> Iterator[Alert]:
    """One rank is the slowest in most steps, and the others wait for it."""
    rows = [
        (rank, behind, row["seconds"])
        for row in view.steps[-RECENT:]
        if (rank := row.get("slowest_rank")) is not None
        and (behind := row.get("slowest_behind")) is not None
    ]
    if len(rows) < RECENT // 2:
        return
    ((slowest, times),) = Counter(rank for rank, _, _ in rows).most_common(1)
    behind = statistics.median(one for rank, one, _ in rows if rank == slowest)
    step = statistics.median(seconds for _, _, seconds in rows)
    if times > _MOST * len(rows) and behind > _WAITED * step:
        text = (
            f"rank {slowest} was the slowest in {times} of the last {count(len(rows), 'step')}, by "
            f"{duration(behind)} of {duration(step)}: the other ranks wait for it"
        )
        yield Alert("slow_rank", "warning", text, _status(view), f"rank {slowest}")


def no_learning(view: View) -> Iterator[Alert]:
    """After many steps the loss is near that of the untrained model, which knows no word's frequency."""
    if view.first_loss is None or view.best_loss is None or not view.steps:
        return
    step = view.steps[-1]["step"]
    if step >= _MANY_STEPS and view.best_loss > view.first_loss - _LEARNED:
        text = (
            f"the best median loss over {RECENT} of {step:,} steps is {view.best_loss:.3f}, the first "
            f"steps had {view.first_loss:.3f}: the model learns nothing"
        )
        yield Alert("no_learning", "critical", text, _stop(view))


def stall(view: View) -> Iterator[Alert]:
    """The job runs, and no step comes."""
    if view.job.state != "running" or not view.attempts:
        return
    last = view.attempts[-1]
    if view.steps and last.first_step is not None:
        since = max(view.steps[-1]["time"], last.start)
        allowed = max(_STALL, 10 * (view.usual_seconds or 0.0), 3 * view.longest)
    else:
        since = max(last.start, view.job.since or 0.0)
        allowed = view.start_seconds
    silent = view.now - since
    if silent > allowed:
        text = f"attempt {last.number} runs, and no step has ended for {duration(silent)}"
        yield Alert("stall", "critical", text, _status(view))


def no_progress(view: View) -> Iterator[Alert]:
    """Attempts come and go, and the checkpoint does not move."""
    starts = [one.from_step for one in view.attempts[-4:]]
    saved = view.saved[-1][1] if view.saved else 0
    if len(starts) == 4 and len(set(starts)) == 1 and saved <= starts[0]:
        text = (
            f"the last 4 attempts all started from step {starts[0]:,}: none has made a checkpoint"
        )
        yield Alert("no_progress", "critical", text, _status(view))


def checkpoint_late(view: View) -> Iterator[Alert]:
    """Steps are done, and no checkpoint comes for three intervals."""
    if view.job.state != "running" or not view.interval or not view.attempts:
        return
    first = view.attempts[-1].first_step
    if first is None:
        return
    since = view.now - max(first, view.saved[-1][0] if view.saved else 0.0)
    if since > 3 * max(view.interval, 2 * view.longest, 60.0):
        text = f"no checkpoint for {duration(since)}; they are due every {duration(view.interval)}"
        yield Alert("checkpoint_late", "critical", text, f"touch {view.run}/SAVE")


def churn(view: View) -> Iterator[Alert]:
    """Requeues come faster than a start takes."""
    last = [row for row in view.decisions if row["requeued"]][-4:]
    fruitless = [one for one in view.attempts[-3:] if one.first_step is None]
    if len(last) < 4 or len(fruitless) < 3 or last[-1] is not view.decisions[-1]:
        return
    span = last[-1]["time"] - last[0]["time"]
    text = (
        f"3 requeues in {duration(span)}, and no attempt between them came to a step; the last: "
        f"{last[-1]['reason']}"
    )
    yield Alert("churn", "critical", text, _status(view))


def pending(view: View) -> Iterator[Alert]:
    """The job waits in the queue for a long time, and not for another job."""
    if view.job.state != "queued" or view.job.since is None:
        return
    waited = view.now - view.job.since
    if waited > _PENDING and "Slurm: Dependency" not in (view.job.reason or ""):
        reason = f" ({view.job.reason})" if view.job.reason else ""
        text = f"queued for {duration(waited)}{reason}"
        yield Alert("pending", "warning", text, "squeue --start --me")


def dependency(view: View) -> Iterator[Alert]:
    """The job waits for one that has failed."""
    if view.job.state == "queued" and "DependencyNeverSatisfied" in (view.job.reason or ""):
        text = "queued after a job that did not succeed: it will never start"
        yield Alert("dependency", "critical", text, view.resume)


def budget(view: View) -> Iterator[Alert]:
    """One more failure without a checkpoint ends the run."""
    if view.failures_allowed is None or not view.decisions:
        return
    last = view.decisions[-1]
    spent = 0
    for row in reversed(view.decisions):
        if row["progress"] < last["progress"]:
            break
        spent += row["reason"].startswith((decisions.CRASH, decisions.HANG))
    newer = view.saved and view.saved[-1][0] > last["time"]
    if last["requeued"] and spent and spent >= view.failures_allowed and not newer:
        text = (
            f"{count(spent, 'failure')} without a new checkpoint ({last['reason']}): one more ends "
            "the run"
        )
        yield Alert("budget", "critical", text, _status(view))


def disk(view: View) -> Iterator[Alert]:
    """Space or inodes end before the run does."""
    if view.disk is None:
        return
    if view.disk.free < view.disk.needed:
        text = f"{size(view.disk.free)} are free, the run will still need {size(view.disk.needed)}"
        yield Alert("disk", "critical", text, f"du -sh {view.run}/checkpoints/*", "space")
    if view.disk.files is not None and view.disk.files < view.disk.files_needed:
        text = (
            f"{count(view.disk.files, 'file')} can still be made, the run will need "
            f"{view.disk.files_needed:,}"
        )
        yield Alert("disk", "critical", text, f"df -i {view.run}", "inodes")


def save_failed(view: View) -> Iterator[Alert]:
    """The last save failed: a full disk, a quota, or a file system that is away."""
    if view.save_failed is None:
        return
    at, reason = view.save_failed
    if not view.saved or view.saved[-1][0] < at:
        text = f"the last save failed {duration(view.now - at)} ago: {reason}"
        yield Alert("save_failed", "critical", text, f"df -h {view.run}; quota -s")


def clock_skew(view: View) -> Iterator[Alert]:
    """The clock of a node differs from the file system's or this machine's."""
    newest = max((row["time"] for row in view.steps[-1:]), default=view.now)
    skew = view.skew if view.skew is not None else max(0.0, newest - view.now)
    if abs(skew) > _SKEW:
        node = view.attempts[-1].node if view.attempts else "the node"
        text = f"the clock of {node} is {duration(abs(skew))} {'ahead' if skew > 0 else 'behind'}"
        yield Alert("clock_skew", "warning", text, f"ssh {node} chronyc tracking", node)


def mlflow_behind(view: View) -> Iterator[Alert]:
    """MLflow lacks the rows of more than an hour."""
    if view.mlflow_behind is not None and view.mlflow_behind > _BEHIND:
        text = f"MLflow lacks the last {duration(view.mlflow_behind)} of the ledger"
        yield Alert("mlflow_behind", "warning", text, _told("watch", "sync", view))


def stage_failed(view: View) -> Iterator[Alert]:
    """A stage before or after the training failed for good."""
    for stage, reason in view.failed:
        command = _told("pipeline", "status", view)
        yield Alert("stage_failed", "critical", f"{stage} failed: {reason}", command, stage)


def ended(view: View) -> Iterator[Alert]:
    """The training ended before its last step, and nothing will start it again."""
    if view.ended is None or view.job.state != "gone":
        return
    last = view.decisions[-1]["reason"] if view.decisions else ""
    by_user = last == decisions.CANCELLED or last.startswith(decisions.STOPPED)
    yield Alert(
        "ended",
        "warning" if by_user else "critical",
        f"training ended: {view.ended}",
        view.resume,
        repeats=not by_user,
    )


DETECTORS: Sequence[Callable[[View], Iterator[Alert]]] = (
    loss_not_finite, loss_spike, divergence, no_learning, slow, slow_node, slow_rank, stall, no_progress,
    checkpoint_late, churn, pending, dependency, budget, disk, save_failed, clock_skew, mlflow_behind,
    stage_failed, ended,
)  # fmt: skip


def _losses(steps: Sequence[StepRow]) -> list[float]:
    return [loss for row in steps if (loss := row["loss"]) is not None]


def _status(view: View) -> str:
    return _told("train", "status", view)


def _told(job: str, verb: str, view: View) -> str:
    return f"{program.command(job, verb)} {view.run}"  # quoted already


def _stop(view: View) -> str:
    return f"touch {view.run}/STOP"
