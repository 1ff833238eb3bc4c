"""A real TensorBoard, started by the command that `watch` prints, shows the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from kit.relay import resolve
from kit.tracking import curve_events, event_files, ledger
from tests.drawn import Attempt
from tests.relay import DEMO, NOWHERE
from tests.speed import patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.store.paths import Run

RELEASE = "runs"  # as in an exported folder


@pytest.fixture
def drawn(run: Run) -> Run:
    """Two attempts that were killed, the second going back, one that came to the end, and their release."""
    recipe = resolve.load(DEMO, [NOWHERE], "local").recipe
    Attempt(run, recipe, 1, 0).steps(range(1, 13), validations=(5, 8, 10)).killed()
    Attempt(run, recipe, 2, 5).steps(range(6, 8)).killed()
    Attempt(run, recipe, 3, 5).steps(range(6, 16), validations=(8, 10, 15)).left(15, "done", "")
    curve_events.write(run, recipe, None, run.tensorboard / RELEASE)
    return run


@pytest.fixture
def get(drawn: Run) -> Iterator[Callable[..., Any]]:
    """Asks the server, once it has read everything."""
    _, *options = event_files.command(drawn)
    port = options[options.index("--port") + 1]
    command = [sys.executable, "-m", "tensorboard.main", *options]

    def ask(path: str, body: Any = None, **query: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/data/plugin/{path}?{urlencode(query)}",
            data,
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + patience(120)
            while True:
                assert time.monotonic() < end, "TensorBoard does not answer"
                try:
                    runs = (".", RELEASE)
                    if all(
                        ask("scalars/scalars", run=r, tag="train/loss")[-1][1] == 15 for r in runs
                    ):
                        break
                except OSError:  # not yet there, or without the tag
                    pass
                time.sleep(0.2)
            yield ask
        finally:
            server.terminate()


def test_the_pages_have_the_ledger(drawn: Run, get: Callable[..., Any]) -> None:
    rows: list[Any] = ledger.canonical(drawn)
    for kind, key in (("step", "loss"), ("step", "tokens"), ("validation", "bits_per_byte")):
        shown = [tuple(point[1:]) for point in get("scalars/scalars", run=".", tag=f"train/{key}")]
        told = [(row["step"], pytest.approx(row[key])) for row in rows if row["kind"] == kind]
        assert shown == told, key
    for tag, steps in (
        ("recipe", [0]),
        ("attempts", [0, 5, 15]),
        ("samples/駅伝は", [5, 8, 10, 15]),
    ):
        assert [text["step"] for text in get("text/text", run=".", tag=tag)] == steps
    asked = {
        "startIndex": 0,
        "sliceSize": 9,
        "allowedStatuses": ["STATUS_SUCCESS"],
        "colParams": [{"metric": {"tag": "train/bits_per_byte"}}],
    }
    (found,) = get("hparams/session_groups", asked)["sessionGroups"]
    assert found["hparams"]["model.n_layer"] == 2
    values = {value["name"]["tag"]: value["value"] for value in found["metricValues"]}
    assert values["train/bits_per_byte"] == pytest.approx(rows[-1]["bits_per_byte"])
    # The one file of the release says the same.
    tags = get("scalars/tags")
    assert tags[RELEASE] == tags["."]
    for tag in tags["."]:
        live, released = (get("scalars/scalars", run=run, tag=tag) for run in (".", RELEASE))
        assert released == live, tag
    for tag in ("samples/駅伝は", "samples/今日は"):
        assert get("text/text", run=RELEASE, tag=tag) == get("text/text", run=".", tag=tag)
