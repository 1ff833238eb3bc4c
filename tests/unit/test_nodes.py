"""Which nodes are left out after failures, and that none is that is needed."""

from __future__ import annotations

import pytest

from kit.cluster.nodes import Node, choose

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
    nodes = [Node("mdx1", True, A100), Node("mdx2", True, H100)]
    assert choose({"mdx1": 2}, [], nodes, 1) == []


def test_a_node_that_left_the_partition_is_no_concern() -> None:
    assert choose({"mdx9": 2}, [], partition(True, True), 1) == []
