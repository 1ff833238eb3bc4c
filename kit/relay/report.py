"""The report of a run: stages, loss, interruptions survived, samples, and how to watch it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config import presets
from kit.output import quantities
from kit.relay import queue_answer, status, survived
from kit.tracking import inexact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.table import Table

    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.store.paths import Run
    from kit.tracking.rows import StepRow

_INHERITED = (
    "queued",
    "cancelled",
    "stale",
    "unknown",
)  # states that follow from an earlier stage's

_SILENT = (
    "what is queued and what is running is not known; everything else is from the files of the run"
)


def facts(project: Project, words: Sequence[str], *, verify: bool = False) -> dict[str, Any]:
    """Everything that `show` prints, as plain values; `words` as in `status.facts`."""
    from kit.cluster.snapshot import snapshot
    from kit.relay import job_status
    from kit.release import checkpoint_jobs
    from kit.release.evaluate import SCORES
    from kit.release.generate import SAMPLES
    from kit.store.files import read_json

    run, seen = project.run, snapshot(project.run)
    validations = seen.validations
    queue = queue_answer.ask(seen)
    stages = status.facts(project, words, verify=verify, seen=seen, queue=queue)
    alive = [f"{s['job']} {s['state']}" for s in stages.values() if s["state"] in job_status.ALIVE]
    scores, samples = run.evaluation / SCORES, run.samples / SAMPLES
    return {
        "run": str(run.root),
        "stages": stages,
        "first": _first_step(run),
        "last": seen.recent[-1] if seen.recent else None,
        "validation": validations[-1] if validations else None,
        "queue": queue.facts(),
        "requeues": survived.survived(seen),
        "alive": ", ".join(dict.fromkeys(alive)) or None,
        "scores": read_json(scores) if scores.is_file() else None,
        "samples": read_json(samples) if samples.is_file() else [],
        "export": str(run.export) if run.export.is_dir() else None,
        "beside": checkpoint_jobs.results(run),
        "beside_alive": _running_checkpoint_jobs(run, queue.silent),
        "report": str(run.report_page) if run.report_page.is_file() else None,
        **_tensorboard(run),
        **_mlflow(run, project.recipe),
    }


def _first_step(run: Run) -> StepRow | None:
    from kit.tracking import ledger

    rows = (row for attempt in ledger.attempts(run) for row in ledger.rows(attempt))
    return next((row for row in rows if row["kind"] == "step"), None)


def _tensorboard(run: Run) -> dict[str, str | None]:
    """The folder of event files, and the command that shows them; None if there is none."""
    from kit.tracking import event_files

    if not run.tensorboard.is_dir():
        return {"tensorboard": None, "tensorboard_command": None}
    command = shlex.join(event_files.command(run))
    return {"tensorboard": str(run.tensorboard), "tensorboard_command": command}


def _mlflow(run: Run, recipe: Recipe) -> dict[str, str | None]:
    """MLflow's address and the run's page there; None if nothing was published yet."""
    from kit.tracking.mlflow.address import tracking_uri
    from kit.tracking.mlflow.cursor import page

    if not recipe.tracking.mlflow or not run.attempts.is_dir():
        return {"mlflow": None, "mlflow_page": None}
    return {"mlflow": tracking_uri(recipe), "mlflow_page": page(run, recipe)}


def show(facts: dict[str, Any], seconds: Mapping[str, float] | None = None) -> None:
    """Print the report; `seconds` are the durations of the stages that have just been run."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(_stages(facts, seconds or {}))
    if facts["queue"] and (silent := facts["queue"]["silent"]):
        console.print(f"Slurm does not answer: {_SILENT} ({silent})", markup=False)
    for name, stage in facts["stages"].items():
        if _has_details(name, facts["stages"]):
            text = "\n".join([f"{name}: {stage['state']}", *status.details(stage, commands=False)])
            console.print(text, markup=False)
    if commands := [stage["next"] for stage in facts["stages"].values() if stage["next"]]:
        console.print(f"next            {commands[0]}", markup=False)
    for line in (*_training(facts), *_checkpoints(facts)):
        console.print(line, markup=False)
    console.print()
    if facts["export"]:
        console.print(f"the model:      {facts['export']}", markup=False)
    if facts["report"]:
        console.print(f"the report:     {facts['report']}", markup=False)
    if facts["tensorboard"]:
        console.print(f"TensorBoard:    {facts['tensorboard_command']}", markup=False)
    if facts["mlflow"]:
        for line in _mlflow_commands(facts["mlflow"], facts["mlflow_page"] or ""):
            console.print(f"MLflow:         {line}", markup=False)


def _training(facts: dict[str, Any]) -> Iterator[str]:
    """Losses, interruptions survived, bit-equality, scores."""
    first, last = facts["first"], facts["last"]
    if first and last:
        yield (
            f"training loss   {quantities.loss(first['loss'])} at step {first['step']}, "
            f"{quantities.loss(last['loss'])} at step {last['step']}"
        )
    if validation := facts["validation"]:
        loss = quantities.loss(validation["validation_loss"])
        yield f"validation loss {loss} at step {validation['step']}"
    for line in survived.lines(facts["requeues"]):
        yield f"survived        {line}"
    if found := facts["stages"].get("train", {}).get("inexact"):
        yield f"bit-equality    {inexact.words(found)}"
    if scores := facts["scores"]:
        older = f" at step {scores['step']}" if last and scores["step"] != last["step"] else ""
        yield (
            f"held-out part   perplexity {scores['perplexity']:.1f} per token "
            f"(a unigram model: {scores['unigram_perplexity']:.1f}), "
            f"{scores['bits_per_byte']:.3f} bits per byte{older}"
        )


def _mlflow_commands(uri: str, page: str) -> list[str]:
    """The address of the run's page; for a sqlite file, first the command that serves it."""
    if uri.startswith("sqlite"):
        server = ["mlflow", "server", "--backend-store-uri", uri]  # of the extra `mlflow`
        there = [] if Path.cwd() == presets.OWN else ["-C", str(presets.OWN)]
        command = server if presets.INSTALLED else ["make", *there, "mlflow", f"STORE={uri}"]
        return [shlex.join(command), f"http://127.0.0.1:5000{page}"]
    return [f"{uri.rstrip('/')}{page}" if uri.startswith("http") else uri]


def _has_details(name: str, stages: Mapping[str, Any]) -> bool:
    """Whether a stage has lines of its own below the table: the first unfinished one, and failures."""
    stage = stages[name]
    if stage["state"] in ("done", "waiting", "not begun"):
        return False
    first = next(other for other in stages if stages[other]["state"] != "done")
    return bool(name == first or stage["faults"] or stage["state"] not in _INHERITED)


def _running_checkpoint_jobs(run: Run, silent: str | None) -> dict[str, str]:
    """The jobs running for single checkpoints, by their results; a silent Slurm is not asked again."""
    from kit.release import checkpoint_jobs

    jobs = {
        f"{n} of step {at.step}": job
        for at in run.made_at()
        for n, job in checkpoint_jobs.unmade(at)
    }
    if silent:
        return dict.fromkeys(jobs, silent)
    return {name: alive for name, job in jobs.items() if (alive := checkpoint_jobs.at_work(job))}


def _checkpoints(facts: dict[str, Any]) -> Iterator[str]:
    """Samples of the model, and the results of single checkpoints, a line each."""
    for sample in facts["samples"]:
        yield f"sample          {sample['text']!r}"
    for result in facts["beside"]:
        label = f"at step {result['step']:,}"
        if scores := result.get("scores"):
            yield (
                f"{label:<15} perplexity {scores['perplexity']:.1f} per token, "
                f"{scores['bits_per_byte']:.3f} bits per byte"
            )
        for sample in result.get("samples", ()):
            yield f"{label:<15} sample {sample['text']!r}"
        if "export" in result:
            yield f"{label:<15} exported to {result['export']}"
        for name, why in result.get("failed", {}).items():
            yield f"{label:<15} {name} failed: {why}; run or submit it again"
    for name, alive in facts["beside_alive"].items():
        yield f"running         {name}: {alive}"


def _stages(facts: dict[str, Any], seconds: Mapping[str, float]) -> Table:
    """The table of stages, with the seconds of those that have just been run."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(facts["run"]), title_justify="left")
    table.add_column("stage")
    table.add_column("units")
    table.add_column("state")
    if seconds:
        table.add_column("seconds", justify="right")
    silent = bool(facts["queue"] and facts["queue"]["silent"])
    for name, stage in facts["stages"].items():
        duration = f"{seconds[name]:.1f}" if name in seconds else ""
        state = stage["state"]
        known = state != "unknown" or not silent  # else the line below says it of all
        if state in _INHERITED and known and not _has_details(name, facts["stages"]):
            state = f"{state}: {stage['reason']}"
        table.add_row(name, status.progress(stage), state, *([duration] if seconds else ()))
    if seconds:
        table.add_row("total", "", "", f"{sum(seconds.values()):.1f}")

    return table
