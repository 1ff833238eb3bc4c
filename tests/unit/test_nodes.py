"""Which nodes are left out after failures, and that none is that is needed."""

from __future__ import annotations

import pytest

from kit.cluster import nodes
from kit.cluster.nodes import Node, choose
from kit.errors import ClusterError

A100, H100 = ("16", "gpu:a100:8", "(null)"), ("16", "gpu:h100:8", "(null)")


def partition(*usable: bool, kind: tuple[str, ...] = A100) -> list[Node]:
    """Nodes mdx1, mdx2, ... of one kind."""
    return [Node(f"mdx{n}", free, kind) for n, free in enumerate(usable, 1)]


def test_a_node_with_two_failures_is_excluded() -> None:
    assert choose({"mdx1": 2}, [], partition(True, True), 1) == ["mdx1"]


def test_a_node_with_one_failure_is_not() -> None:
    assert choose({"mdx1": 1, "mdx2": 1}, [], partition(True, True), 1) == []


@pytest.mark.parametrize("others", [(), (False,)])
def test_the_last_usable_node_is_never_excluded(others: tuple[bool, ...]) -> None:
    assert choose({"mdx1": 5}, [], partition(True, *others), 1) == []


def test_a_second_node_is_kept_where_the_first_is_excluded_already() -> None:
    assert choose({"mdx1": 2, "mdx2": 2}, ["mdx1"], partition(True, True), 1) == []


def test_of_two_the_one_that_failed_more_often_goes() -> None:
    assert choose({"mdx1": 2, "mdx2": 3}, [], partition(True, True), 1) == ["mdx2"]


def test_as_many_nodes_as_the_job_needs_remain() -> None:
    failures = {"mdx1": 2, "mdx2": 2}
    assert choose(failures, [], partition(True, True, True), 2) == ["mdx1"]
    assert choose(failures, [], partition(True, True, True), 3) == []
    assert choose(failures, [], partition(True, True, True, True), 2) == ["mdx1", "mdx2"]


def test_a_node_of_another_kind_stands_in_for_nobody() -> None:
    both = [Node("mdx1", True, A100), Node("mdx2", True, H100)]
    assert choose({"mdx1": 2}, [], both, 1) == []


def test_a_node_that_left_the_partition_is_no_concern() -> None:
    assert choose({"mdx9": 2}, [], partition(True, True), 1) == []


def test_a_node_that_is_excluded_or_gone_already_does_not_spare_the_next() -> None:
    failures = {"mdx9": 4, "mdx1": 3, "mdx2": 2}
    assert choose(failures, ["mdx1"], partition(True, True, True), 1) == ["mdx2"]


def slurm(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str], refusals: int = 0) -> list[str]:
    """Stands where Slurm's programs are called; returns the commands, of which the updates are refused."""
    asked: list[str] = []

    def answer(*command: str) -> str:
        asked.append(" ".join(command))
        if command[:2] == ("scontrol", "update") and len(updates(asked)) <= refusals:
            raise ClusterError("Requested operation is presently disabled")
        return answers.get(command[0], "")

    monkeypatch.setattr(nodes.state, "slurm", answer)
    monkeypatch.setattr(nodes, "_PAUSE", 0.001)
    return asked


def updates(asked: list[str]) -> list[str]:
    return [command for command in asked if command.startswith("scontrol update ")]


NODES = {"sinfo": "".join(f"mdx{n}|idle|16|gpu:a100:8(S:0-1)|(null)\n" for n in (1, 2, 3))}
PENDING = {"Partition": "gpu", "ReqNodeList": "(null)", "ExcNodeList": "(null)"}


def test_what_is_excluded_is_tried_again_while_the_requeue_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nodes.state, "fields", lambda job: PENDING)
    asked = slurm(monkeypatch, NODES, refusals=6)
    assert nodes.exclude("17", {"mdx2": 2}, 1) == ["mdx2"]
    assert updates(asked) == ["scontrol update jobid=17 ExcNodeList=mdx2"] * 7
    slurm(monkeypatch, NODES, refusals=7)
    with pytest.raises(ClusterError, match="presently disabled"):
        nodes.exclude("17", {"mdx2": 2}, 1)


def test_nodes_that_are_excluded_stay_so_and_a_users_list_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = slurm(monkeypatch, NODES | {"scontrol": "mdx3\n"})
    monkeypatch.setattr(nodes.state, "fields", lambda job: PENDING | {"ExcNodeList": "mdx3"})
    assert nodes.exclude("17", {"mdx2": 2}, 1) == ["mdx2"]
    assert updates(asked) == ["scontrol update jobid=17 ExcNodeList=mdx3,mdx2"]
    asked.clear()
    monkeypatch.setattr(nodes.state, "fields", lambda job: PENDING | {"ReqNodeList": "mdx2"})
    assert nodes.exclude("17", {"mdx2": 2}, 1) == []
    assert nodes.exclude("17", {"mdx2": 1}, 1) == []
    assert asked == []


@pytest.mark.parametrize(
    ("state", "usable"),
    [("idle", True), ("mixed", True), ("idle~", True), ("allocated#", True), ("completing-", True),
     ("down*", False), ("drained", False), ("idle$", False), ("idle*", False)],
)  # fmt: skip
def test_a_node_that_does_not_work_stands_in_for_nobody(
    monkeypatch: pytest.MonkeyPatch, state: str, usable: bool
) -> None:
    rows = f"mdx1|mixed|16|gpu:a100:8(S:0)|(null)\nmdx2|{state}|16|gpu:a100:8(S:0-1)|(null)\n"
    slurm(monkeypatch, {"sinfo": rows})
    monkeypatch.setattr(nodes.state, "fields", lambda job: PENDING)
    assert nodes.exclude("17", {"mdx1": 2}, 1) == (["mdx1"] if usable else [])
