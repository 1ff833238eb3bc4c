"""Verdicts of an acceptance, from what its parts have found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kit.errors import ClusterError, Interrupted
from kit.relay.acceptance import states, verdicts
from kit.relay.acceptance.accept import guarded
from kit.relay.acceptance.verdicts import NotTried, Verdict
from kit.relay.fitting import search
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLANNED = {
    name: {"value": value}
    for name, value in {
        "weights": 100, "gradients": 200, "optimizer": 300, "buckets": 40, "activations": 500,
        "around them": 50, "backward pass": 30, "logits": 30, "fragmentation": 7, "context": 9,
    }.items()
}  # fmt: skip

SETTINGS = {
    "nodes": 1, "ranks_per_node": 2, "device": "cpu", "precision": "fp32", "micro_batch": 4,
    "global_batch": 16, "deepspeed": {},
}  # fmt: skip


def test_the_search_steps_down_from_what_does_not_fit_and_up_from_what_does() -> None:
    sizes = [1, 2, 4, 8, 16]
    assert search(sizes, 3, lambda n: n <= 2) == {8: False, 4: False, 2: True}
    assert search(sizes, 1, lambda n: n <= 8) == {2: True, 4: True, 8: True, 16: False}
    assert search(sizes, 4, lambda _: True) == {16: True}
    assert search(sizes, 0, lambda _: False) == {1: False}
    assert search(sizes, 3, lambda n: n <= 2, up=False) == {8: False, 4: False, 2: True}
    assert search(sizes, 1, lambda n: n <= 8, up=False) == {2: True}


def test_the_memory_of_each_part_is_beside_the_plan_of_what_is_counted_with_it() -> None:
    sizes = (100, 210, 270, 550, 200, 8)
    names = ("weights", "gradients", "optimizer", "activations", "buffers", "other")
    found = {"memory": dict(zip(names, sizes, strict=True))}
    verdict = states.memory_by_part(found, {"memory": {"parts": PLANNED}})
    off = {name: one["off"] for name, one in verdict.facts["parts"].items()}
    assert off == pytest.approx(
        {"weights": 0, "gradients": 0.05, "optimizer": -0.1, "activations": 0, "buffers": 1.0}
    )
    assert "optimizer 270 B (plan 300 B, -10.0%)" in verdict.words
    assert "torch counts" not in verdict.words


def test_a_part_that_fails_is_bad_one_that_lacks_something_is_not_tried_and_a_signal_ends_all() -> (
    None
):
    def failing(error: Exception) -> Iterator[Verdict]:
        yield Verdict("first", "ok", "fine")
        raise error

    def states_of(error: Exception) -> list[tuple[str, str, str]]:
        return [(v.part, v.state, v.words) for v in guarded("all", lambda: failing(error))]

    assert states_of(ClusterError("no"))[1:] == [("all", "bad", "no")]
    assert states_of(NotTried("why"))[1:] == [("all", "not tried", "why")]
    with pytest.raises(Interrupted, match="without a report"):
        states_of(Interrupted("saved"))


def test_neither_the_page_nor_the_json_names_a_home_directory(tmp_path: Path) -> None:
    report: dict[str, Any] = {
        "recipe": "r", "cluster": "c", "ekiden": "1", "settings": SETTINGS, "time": 0.0, "seconds": 1.0,
        "machine": {}, "passed": False,
        "verdicts": [
            {
                "part": "a", "state": "bad", "words": "/home/taro/x\n two\nlines",
                "facts": {"f": "/home/taro/y"},
            }
        ],
    }  # fmt: skip
    verdicts.write(tmp_path, report)
    page = (tmp_path / verdicts.PAGE).read_text()
    assert page.startswith("# Acceptance of r on c: failed\n")
    assert "- **a**: bad. ~/x two lines\n" in page
    assert "taro" not in page + str(read_json(tmp_path / verdicts.REPORT))
