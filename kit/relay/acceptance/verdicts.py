"""The verdicts of an acceptance, one for each part, as lines, as JSON and as a page for an issue."""

from __future__ import annotations

import json
import platform
import socket
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from kit.store.files import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

State = Literal["ok", "bad", "not shown"]
REPORT, PAGE = "report.json", "report.md"


@dataclass(frozen=True)
class Verdict:
    """What one part has shown."""

    part: str
    state: State
    words: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """A line for the terminal."""
        return f"{self.state:<9} {self.part:<20} {self.words}"


def report(name: str, cluster: str, verdicts: Sequence[Verdict], seconds: float) -> dict[str, Any]:
    """All verdicts as plain values, with the machine that gave them."""
    return {
        "recipe": name,
        "cluster": cluster,
        "time": time.time(),
        "seconds": seconds,
        "machine": machine(),
        "passed": all(verdict.state != "bad" for verdict in verdicts),
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }


def machine() -> dict[str, Any]:
    """Versions and hardware that decide what a run computes."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "node": socket.gethostname(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "deepspeed": version("deepspeed"),
        "gpus": gpus,
    }


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write `report.json` and `report.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / REPORT, report)
    write_text(folder / PAGE, page(report))


def page(report: dict[str, Any]) -> str:
    """The report as Markdown, to attach to an issue."""
    machine = report["machine"]
    gpus = ", ".join(sorted({*machine["gpus"]})) or "none"
    verdict = "passed" if report["passed"] else "failed"
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(report["time"]))
    lines = [
        f"# Acceptance of {report['recipe']} on {report['cluster']}: {verdict}",
        "",
        f"{when}, in {report['seconds']:.0f} s. GPUs: {len(machine['gpus'])} ({gpus}). Python "
        f"{machine['python']}, torch {machine['torch']}, CUDA {machine['cuda'] or 'none'}, DeepSpeed "
        f"{machine['deepspeed']}.",
        "",
        "| part | verdict | what was found |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {row['part']} | {row['state']} | {row['words'].replace('|', '/')} |"
        for row in report["verdicts"]
    ]
    facts = {row["part"]: row["facts"] for row in report["verdicts"] if row["facts"]}
    figures = json.dumps(facts, indent=1, ensure_ascii=False, default=str)
    return "\n".join([*lines, "", "```json", figures, "```", ""])
