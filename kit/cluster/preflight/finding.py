"""The result of a check: ok, a warning or bad, with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.cluster.jobs import Job
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import Run

Result = Literal["ok", "warning", "bad"]
_WORST: tuple[Result, ...] = ("bad", "warning", "ok")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str  # of the check, as in cluster.checks.skip
    result: Result
    found: str
    remedy: str = ""  # what to do, unless it is ok
    node: str = ""  # the machine that was looked at
    of_node: bool = False  # a fault of this machine: the work may succeed on another

    def facts(self) -> dict[str, Any]:
        """The finding as JSON, with the override that skips its check."""
        facts = asdict(self)
        del facts["of_node"]
        return facts | {"skip": f"cluster.checks.skip=[{self.name}]"}

    def __str__(self) -> str:
        """`gpu_ecc: GPU 3: 2 uncorrectable errors; reset the GPU`."""
        return f"{self.name}: {self.found}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Site:
    """Everything that a check may look at."""

    run: Run
    recipe: Recipe
    cluster: Cluster
    node: str  # the name of this machine
    jobs: Sequence[Job] = ()  # that would be submitted; empty on a node
    scripts: Callable[[Job], Iterable[str]] = lambda _: ()  # of a job, as sbatch would get them


Check = Callable[[Site], Finding]  # raises NotChecked


class NotChecked(Exception):  # noqa: N818  no error
    """Raised by a check that has nothing to look at here, with the reason."""


def warning(name: str, found: str, remedy: str) -> Finding:
    """A finding that is a warning."""
    return Finding(name, "warning", found, remedy)


def verdict(findings: Iterable[Finding]) -> Result:
    """The worst result; ok if there is none."""
    results = {finding.result for finding in findings}
    return next((result for result in _WORST if result in results), "ok")
