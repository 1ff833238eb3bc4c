"""Which nodes the exit trap leaves out: those of two failures, and those that a check has named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from kit.cluster import decisions, requeue
from kit.cluster.decisions import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from kit.store.paths import Run


def test_a_node_that_a_check_names_counts_as_two_failures_and_its_neighbours_do_not(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Mapping[str, int]] = []
    queue = SimpleNamespace(
        exclude=lambda job, failures, needed: asked.append(dict(failures)) or ["mdx2"]
    )
    decisions.record(run, "17.0", "train", Decision(True, "crash (exit code 1)"), ["mdx1", "mdx3"])
    named = Decision(True, "preflight (mdx2: gpu_ecc: GPU 3: 1 error)", ("mdx2",))
    decisions.record(run, "17.1", "train", named, ["mdx1", "mdx2"])
    requeue._exclude(run, queue, "17", 2)  # type: ignore[arg-type]
    assert asked == [{"mdx1": 1, "mdx3": 1, "mdx2": 2}]
    assert "train: mdx2 excluded, unfit by a check" in capsys.readouterr().err
