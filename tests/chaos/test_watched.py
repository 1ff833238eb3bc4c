"""TensorBoard and MLflow show a run that is interrupted in every way as if it had not been."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.store.files import read_json
from kit.store.paths import Workspace
from kit.tracking import ledger
from tests.mlflow_server import Proxy, serving
from tests.relay import ROOT, command, copy_of

from .places import NAME

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mlflow_server import MlflowServer, Mode

pytestmark = [pytest.mark.chaos, pytest.mark.long, pytest.mark.timeout(3600)]

INTERRUPTIONS = 12
MODES: tuple[Mode, ...] = ("slow", "broken", "open", "hanging", "away", "open")


def trouble(server: MlflowServer, proxy: Proxy, over: threading.Event) -> None:
    """Everything that a server may do to its clients, again and again; once a round it is killed."""
    while True:
        for mode in MODES:
            proxy.become(mode)
            if over.wait(4):
                return
        server.kill()
        server.start()


def test_their_interfaces_have_each_step_once_and_in_order(tokens: Path, tmp_path: Path) -> None:
    workspace = copy_of(tokens, tmp_path / "workspace")
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        proxy, over = Proxy(server.port), threading.Event()
        troubling = threading.Thread(target=trouble, args=[server, proxy, over])
        troubling.start()
        try:
            program = [sys.executable, "-m", "tests.chaos", f"--workspace={workspace}"]
            options = [f"--interruptions={INTERRUPTIONS}", "--seed=11", f"--mlflow={proxy.url}"]
            done = subprocess.run(
                [*program, *options], stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT
            )
        finally:
            over.set()
            troubling.join()
        report = json.loads(done.stdout)
        assert done.returncode == 0, report
        run = Workspace(workspace).run(NAME)
        command("watch", "sync", str(run.root), "--to", server.url)
        check_mlflow(server, run)
    check_tensorboard(run)
    found = json.loads(command("watch", str(run.root), "--json"))
    assert len(found["attempts"]) > INTERRUPTIONS / 2
    assert sum(one["share"] for one in found["goodput"]["buckets"].values()) == pytest.approx(1)
    command("watch", "report", str(run.root))
    assert run.report_page.stat().st_size < 1_000_000


def check_mlflow(server: MlflowServer, run: Any) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=server.url)
    experiment = client.get_experiment_by_name("ekiden")
    identity = read_json(run.identity)["id"]
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`ekiden.run` = '{identity}'")
    assert found.info.status == "FINISHED"
    for kind, key in (("step", "loss"), ("validation", "validation_loss")):
        history = client.get_metric_history(found.info.run_id, f"train/{key}")
        rows: list[Any] = [row for row in ledger.canonical(run) if row["kind"] == kind]
        assert [(one.step, one.value) for one in history] == [
            (row["step"], row[key]) for row in rows
        ]


def check_tensorboard(run: Any) -> None:
    events = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0}).Reload()
    for kind, key in (("step", "loss"), ("validation", "validation_loss")):
        shown = [(event.step, event.value) for event in events.Scalars(f"train/{key}")]
        rows: list[Any] = [row for row in ledger.canonical(run) if row["kind"] == kind]
        assert shown == [(row["step"], pytest.approx(row[key])) for row in rows]
