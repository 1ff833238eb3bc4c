"""The report of a rehearsal as lines for a terminal."""

from __future__ import annotations

from typing import Any

from kit.output.quantities import count, duration, size


def show(report: dict[str, Any]) -> None:
    """Print a report."""
    lines = _measured(report) | (_whole(report) if report["whole"] else _no_whole(report))
    lines |= _profile(report["profile"]) if report["profile"] else {}
    lines |= _micro_batch(report["micro_batch"]) if report.get("micro_batch") else {}
    for name, text in lines.items():
        print(f"{name:<15} {text}")


def _measured(report: dict[str, Any]) -> dict[str, str]:
    """The lines about the measurements."""
    measured = report["measured"]
    mfu, memory, validation = (
        measured[key] for key in ("mfu", "memory_bytes", "validation_seconds")
    )
    rate = f"{measured['tokens_per_second']:,.0f} tokens/s"
    save, blocked = (duration(measured[f"save_{key}seconds"]) for key in ("", "blocked_"))
    steps, ranks = count(measured["steps"], "step"), count(measured["ranks"], "rank")
    return {
        "rehearsal": report["rehearsal"],
        **({"tokens": _synthetic(measured["vocabulary"])} if report["synthetic"] else {}),
        "measured over": f"{steps} on {ranks}, without the first",
        "a step": f"{measured['seconds_a_step']:.3f} s, {rate}",
        "MFU": f"{mfu:.1%}" if mfu else "unknown: cluster.training.accelerator names no device",
        "memory": f"{size(memory)} per rank at its peak" if memory else "unknown",
        "a save": f"{save}, blocking training for {blocked}; {size(measured['checkpoint_bytes'])}",
        "a validation": "unknown: it would be on the whole held-out part, which does not exist yet; "
        "training.validation_blocks limits it"
        if validation is None
        else duration(validation),
        "a start": duration(measured["start_seconds"]),
    }


def _synthetic(entries: int) -> str:
    return f"synthetic, drawn at random from {entries:,} entries"


def _micro_batch(found: dict[str, Any]) -> dict[str, str]:
    """The lines about the micro-batch that was found."""
    return {"micro-batch": f"{found['taken']}: {found['reason']}", "to use it": found["use"]}


def _profile(profile: dict[str, Any]) -> dict[str, str]:
    """The lines about a profile."""
    step, *parts = profile["parts"]
    rest = step["seconds"] - sum(one["seconds"] for one in parts)
    on_device = any(one["device_seconds"] for one in parts)

    def line(one: dict[str, Any]) -> str:
        device = f", GPU {1000 * one['device_seconds']:.1f} ms" if on_device else ""
        share = one["seconds"] / step["seconds"]
        return f"{1000 * one['seconds']:.1f} ms ({share:.1%}), {one['calls']} a step{device}"

    return {
        "profile": f"{profile['trace']} (open it in https://ui.perfetto.dev)",
        "a step of it": f"{1000 * step['seconds']:.1f} ms, of rank 0",
        **{f"  {one['name']}": line(one) for one in parts},
        "  the rest": f"{1000 * rest:.1f} ms ({rest / step['seconds']:.1%})",
    }


def _no_whole(report: dict[str, Any]) -> dict[str, str]:
    """The line in place of the estimate if the number of steps is unknown."""
    billion = 1e9 / report["measured"]["tokens_per_second"]
    return {
        "the whole run": "unknown: the recipe gives epochs, and there are no tokens to count yet; "
        f"a billion tokens take {duration(billion)}; give training.steps=N for an estimate"
    }


def _whole(report: dict[str, Any]) -> dict[str, str]:
    """The lines about the whole run."""
    total = report["whole"]
    attempts = total["attempts"]
    minutes = count(total["time_limit_minutes"], "minute")
    checkpoints = count(total["checkpoints_kept"], "checkpoint")
    spent = {
        "steps": total["step_hours"],
        "saves": total["save_hours"],
        "validation": total["validation_hours"],
        "starts": total["start_hours"],
    }
    excluded = "time in the queue"
    if "validation" in report["unknown"]:
        del spent["validation"]
        excluded += " and validations"
    intervals = (total["checkpoint_interval_seconds"], total["computed_interval_seconds"])
    return {
        "the whole run": f"{total['steps']:,} steps, {total['tokens']:,} tokens",
        "takes": f"{duration(total['days'] * 86_400)}, excluding {excluded}",
        "of which": ", ".join(f"{name} {duration(hours * 3600)}" for name, hours in spent.items()),
        "attempts": f"{attempts}, of {minutes} each"
        if attempts
        else f"none can finish its start and a save within {minutes}",
        "checkpoints": "one every {}; by Young and Daly every {}".format(*map(duration, intervals)),
        "disk": f"{size(total['disk_bytes'])} for {checkpoints} and one being "
        f"written; {size(total['disk_free_bytes'])} free",
    }
