"""The verdicts of an acceptance, one for each part, as lines, as JSON and as a page for an issue."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from kit import __version__
from kit.output.quantities import count, duration
from kit.output.redaction import redact
from kit.store.files import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kit.config.run import Project

State = Literal["ok", "bad", "not tried"]
REPORT, PAGE = "report.json", "report.md"


class NotTried(Exception):  # noqa: N818  no error
    """Raised by a part that lacks the result of an earlier one, with the reason."""


@dataclass(frozen=True)
class Verdict:
    """The result of one part."""

    part: str
    state: State
    words: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """A line for the terminal."""
        return f"{self.state:<9} {self.part:<25} {self.words}"


def report(
    project: Project, machine: dict[str, Any], verdicts: Sequence[Verdict], seconds: float
) -> dict[str, Any]:
    """All verdicts as plain values, with the machine that gave them."""
    recipe, cluster = project.recipe, project.cluster
    return {
        "recipe": recipe.name,
        "cluster": cluster.name,
        "ekiden": __version__,
        "settings": {
            "device": cluster.device,
            "nodes": cluster.training.nodes,
            "ranks_per_node": cluster.training.ranks_per_node,
            "accelerator": cluster.training.accelerator,
            "precision": recipe.training.precision,
            "micro_batch": recipe.training.micro_batch,
            "global_batch": recipe.training.global_batch,
            "deepspeed": recipe.training.deepspeed,
        },
        "time": time.time(),
        "seconds": seconds,
        "machine": machine,
        "passed": all(verdict.state != "bad" for verdict in verdicts),
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write `report.json` and `report.md`, without user names, home directories and secrets."""
    shown = redact(report)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / REPORT, shown)
    write_text(folder / PAGE, page(shown))


def page(report: dict[str, Any]) -> str:
    """The report as Markdown, to attach to an issue."""
    return "\n".join([*_head(report), "", *_parts(report), "", *_figures(report), ""])


def _head(report: dict[str, Any]) -> Iterator[str]:
    verdict = "passed" if report["passed"] else "failed"
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(report["time"]))
    yield f"# Acceptance of {report['recipe']} on {report['cluster']}: {verdict}"
    yield ""
    code = report["machine"].get("commit")
    by = f"ekiden {report['ekiden']}" + (f", commit {code}" if code else "")
    yield f"{when}, in {duration(report['seconds'])}, by {by}. {_settings(report['settings'])}."
    if machine := report["machine"]:
        yield f"{_hardware(machine)}. {_versions(machine)}."


def _settings(settings: dict[str, Any]) -> str:
    nodes, ranks = count(settings["nodes"], "node"), count(settings["ranks_per_node"], "rank")
    batch = f"micro-batch {settings['micro_batch']} of {settings['global_batch']}"
    return f"{nodes} x {ranks} on {settings['device']}, {settings['precision']}, {batch}"


def _hardware(machine: dict[str, Any]) -> str:
    gpus = machine["gpus"]
    names = ", ".join(sorted({*gpus}))
    devices = f"{len(gpus)} x {names}" if gpus else "none"
    return f"GPUs: {devices}; CPU: {machine['cpu']}; memory: {machine['memory']}"


def _versions(machine: dict[str, Any]) -> str:
    names = {
        "Python": "python",
        "torch": "torch",
        "CUDA": "cuda",
        "NCCL": "nccl",
        "driver": "driver",
        "DeepSpeed": "deepspeed",
    }
    return ", ".join(f"{name} {machine[key]}" for name, key in names.items() if machine[key])


def _parts(report: dict[str, Any]) -> Iterator[str]:
    """A list, which a phone wraps; it would cut off a table."""
    for row in report["verdicts"]:
        yield f"- **{row['part']}**: {row['state']}. {' '.join(row['words'].split())}"


def _figures(report: dict[str, Any]) -> Iterator[str]:
    """All figures, folded away."""
    facts = {row["part"]: row["facts"] for row in report["verdicts"] if row["facts"]}
    figures = json.dumps(
        {"settings": report["settings"], **facts}, indent=1, ensure_ascii=False, default=str
    )
    yield from (
        "<details><summary>All figures</summary>",
        "",
        "```json",
        figures,
        "```",
        "</details>",
    )
