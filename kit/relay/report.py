"""The report of a run: its stages, its curve, what it survived, what it writes, how to look on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config import presets
from kit.output import quantities
from kit.relay import status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.table import Table

    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.store.paths import Run

_PROGRAM = ".venv/bin/tensorboard"  # as the Makefile installs it
_AFTER_ANOTHER = ("queued", "cancelled", "stale", "unknown")  # as a stage before it has it


def facts(project: Project, words: Sequence[str], *, verify: bool = False) -> dict[str, Any]:
    """All that `show` prints, as plain values; `words` as in `status.facts`."""
    from kit.relay import job_status
    from kit.relay.snapshot import snapshot
    from kit.release import checkpoint_jobs
    from kit.release.evaluate import SCORES
    from kit.release.generate import SAMPLES
    from kit.store.files import read_json

    run, seen = project.run, snapshot(project.run)
    steps = seen.steps
    validations = [row for row in seen.curve if row["kind"] == "validation"]
    stages = status.facts(project, words, verify=verify, seen=seen)
    alive = [f"{s['job']} {s['state']}" for s in stages.values() if s["state"] in job_status.ALIVE]
    scores, samples = run.evaluation / SCORES, run.samples / SAMPLES
    return {
        "run": str(run.root),
        "stages": stages,
        "first": steps[0] if steps else None,
        "last": steps[-1] if steps else None,
        "validation": validations[-1] if validations else None,
        "requeues": [row for row in seen.decisions if row["requeued"]],
        "alive": ", ".join(dict.fromkeys(alive)) or None,
        "scores": read_json(scores) if scores.is_file() else None,
        "samples": read_json(samples) if samples.is_file() else [],
        "export": str(run.export) if run.export.is_dir() else None,
        "beside": checkpoint_jobs.results(run),
        "beside_alive": _at_work_beside(run),
        "tensorboard": str(run.tensorboard) if run.tensorboard.is_dir() else None,
        **_mlflow(run, project.recipe),
    }


def _mlflow(run: Run, recipe: Recipe) -> dict[str, str | None]:
    """Where MLflow has the run, and its page there; None where it has nothing of it yet."""
    from kit.tracking import mlflow

    if not recipe.tracking.mlflow or not run.attempts.is_dir():
        return {"mlflow": None, "mlflow_page": None}
    return {"mlflow": mlflow.tracking_uri(recipe), "mlflow_page": mlflow.page(run, recipe)}


def show(found: dict[str, Any], seconds: Mapping[str, float] | None = None) -> None:
    """Print the report; `seconds` are what the stages took that were run just now."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(_stages(found, seconds or {}))
    for name, stage in found["stages"].items():
        if _is_told(name, found["stages"]):
            text = "\n".join([f"{name}: {stage['state']}", *status.details(stage, commands=False)])
            console.print(text, markup=False)
    if commands := [stage["next"] for stage in found["stages"].values() if stage["next"]]:
        console.print(f"next            {commands[0]}", markup=False)
    for line in (*_trained(found), *_written(found)):
        console.print(line, markup=False)
    console.print()
    if found["export"]:
        console.print(f"the model:      {found['export']}", markup=False)
    if found["tensorboard"]:
        command = shlex.join([_tensorboard(), "--logdir", found["tensorboard"]])
        console.print(f"TensorBoard:    {command}", markup=False)
    if found["mlflow"]:
        for line in _ways_to_mlflow(found["mlflow"], found["mlflow_page"] or ""):
            console.print(f"MLflow:         {line}", markup=False)


def _trained(found: dict[str, Any]) -> Iterator[str]:
    """What came of the training: losses, what it survived, scores."""
    first, last = found["first"], found["last"]
    if first and last:
        yield (
            f"training loss   {quantities.loss(first['loss'])} at step {first['step']}, "
            f"{quantities.loss(last['loss'])} at step {last['step']}"
        )
    if validation := found["validation"]:
        loss = quantities.loss(validation["validation_loss"])
        yield f"validation loss {loss} at step {validation['step']}"
    for row in found["requeues"]:
        yield f"survived        {row['reason']} of {row['name']} (job {row['job']}), requeued"
    if scores := found["scores"]:
        yield (
            f"held-out part   perplexity {scores['perplexity']:.1f} a token "
            f"(a unigram model: {scores['unigram_perplexity']:.1f}), "
            f"{scores['bits_per_byte']:.3f} bits a byte"
        )


def _tensorboard() -> str:
    """The program: of the checkout's environment, or of the one that the kit is installed in."""
    return str(Path(sys.executable).with_name("tensorboard")) if presets.INSTALLED else _PROGRAM


def _ways_to_mlflow(uri: str, page: str) -> list[str]:
    """What opens MLflow on the run: an address, or for a sqlite file a command and an address."""
    if uri.startswith("sqlite"):
        server = ["mlflow", "server", "--backend-store-uri", uri]  # of the extra `mlflow`
        command = server if presets.INSTALLED else ["make", "mlflow", f"STORE={uri}"]
        return [shlex.join(command), f"http://127.0.0.1:5000{page}"]
    return [f"{uri.rstrip('/')}{page}" if uri.startswith("http") else uri]


def _is_told(name: str, stages: Mapping[str, Any]) -> bool:
    """Whether a stage has lines of its own below the table: where the chain stands, and what went wrong."""
    stage = stages[name]
    if stage["state"] in ("done", "waiting", "not begun"):
        return False
    first = next(one for one in stages if stages[one]["state"] != "done")
    return bool(name == first or stage["faults"] or stage["state"] not in _AFTER_ANOTHER)


def _at_work_beside(run: Run) -> dict[str, str]:
    """The jobs at work beside the training, by what they make."""
    from kit.release import checkpoint_jobs

    jobs = {
        f"{n} of step {at.step}": job
        for at in run.made_at()
        for n, job in checkpoint_jobs.unmade(at)
    }
    return {what: alive for what, job in jobs.items() if (alive := checkpoint_jobs.at_work(job))}


def _written(found: dict[str, Any]) -> Iterator[str]:
    """What the model writes, and what was made of single checkpoints, a line each."""
    for sample in found["samples"]:
        yield f"it writes       {sample['text']!r}"
    for made in found["beside"]:
        place = f"at step {made['step']:,}"
        if scores := made.get("scores"):
            yield (
                f"{place:<15} perplexity {scores['perplexity']:.1f} a token, "
                f"{scores['bits_per_byte']:.3f} bits a byte"
            )
        for sample in made.get("samples", ()):
            yield f"{place:<15} it writes {sample['text']!r}"
        if "export" in made:
            yield f"{place:<15} exported to {made['export']}"
        for name, why in made.get("failed", {}).items():
            yield f"{place:<15} {name} failed: {why}; run or submit it again"
    for what, alive in found["beside_alive"].items():
        yield f"at work         {what}: {alive}"


def _stages(found: dict[str, Any], seconds: Mapping[str, float]) -> Table:
    """The stages and their units; what was run just now, and all of it, with its seconds."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(found["run"]), title_justify="left")
    table.add_column("stage")
    table.add_column("units")
    table.add_column("state")
    if seconds:
        table.add_column("seconds", justify="right")
    for name, stage in found["stages"].items():
        took = f"{seconds[name]:.1f}" if name in seconds else ""
        state = stage["state"]
        if state in _AFTER_ANOTHER and not _is_told(name, found["stages"]):
            state = f"{state}: {stage['reason']}"
        table.add_row(name, status.progress(stage), state, *([took] if seconds else ()))
    if seconds:
        table.add_row("all of them", "", "", f"{sum(seconds.values()):.1f}")
    return table
