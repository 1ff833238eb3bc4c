"""What `training.precision: auto` becomes, and that the record says why: through the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kit.store.files import read_json, write_json

from .test_command import done, refused

if TYPE_CHECKING:
    from tests.conftest import Workdir

AUTO = "training.precision=auto"


def shown(workdir: Workdir, *arguments: str) -> tuple[str, str | None]:
    """The precision and its reason in the resolved recipe that `show` prints."""
    training: dict[str, Any] = json.loads(done(workdir, "jobs.pipeline", "show", AUTO, *arguments))[
        "recipe"
    ]["training"]
    return training["precision"], training["precision_reason"]


def cluster(workdir: Workdir, kind: str, **training: Any) -> tuple[str, str]:
    """The option that names a cluster of GPUs."""
    sections = {"training": {"ranks_per_node": 1, **training}}
    path = workdir.write("gpus.yaml", {"name": "gpus", "kind": kind, "device": "cuda", **sections})
    return "--cluster", str(path)


def test_a_cpu_trains_in_fp32(workdir: Workdir) -> None:
    assert shown(workdir) == ("fp32", "the device is a CPU")


@pytest.mark.parametrize(
    ("accelerator", "precision", "why"),
    [
        ("a100", "bf16", "accelerator=a100: compute capability 8.0"),
        ("v100", "fp16", "accelerator=v100: compute capability 7.0, but bf16 needs 8.0"),
        ("t4", "fp16", "accelerator=t4: compute capability 7.5, but bf16 needs 8.0"),
        (None, "bf16", "a GPU of compute capability 8.0 or higher is assumed"),
    ],
)
def test_the_accelerator_of_the_cluster_file_decides_where_jobs_are_submitted_from_afar(
    workdir: Workdir, accelerator: str | None, precision: str, why: str
) -> None:
    found, reason = shown(workdir, *cluster(workdir, "slurm", accelerator=accelerator))
    assert found == precision
    assert reason is not None
    assert why in reason


@pytest.mark.parametrize(
    ("answer", "precision"), [("8.0\n8.0", "bf16"), ("8.6\n7.5", "fp16"), ("[N/A]", "bf16")]
)
def test_the_least_of_this_machines_gpus_decides_where_it_trains_itself(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch, answer: str, precision: str
) -> None:
    program = workdir.folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '{answer}\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    found, reason = shown(workdir, *cluster(workdir, "local"))
    assert found == precision
    assert reason is not None
    assert ("is assumed" in reason) == (answer == "[N/A]")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_is_slow_on_this_cpu_is_allowed_with_a_line_that_names_the_cost(
    workdir: Workdir, precision: str
) -> None:
    found = workdir.run(
        "jobs.train",
        "run",
        str(workdir.recipe_file),
        f"training.precision={precision}",
        "--dry-run",
    )
    assert found.returncode == 0, found.stderr
    if getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported")():
        assert not found.stderr
        return
    (line,) = found.stderr.splitlines()
    assert line.startswith(f"warning: training.precision={precision}: this CPU has no native")
    assert "times as long as in fp32 here" in line


def test_fp32_costs_nothing_and_says_nothing(workdir: Workdir) -> None:
    found = workdir.run("jobs.train", "run", str(workdir.recipe_file), "--dry-run")
    assert (found.returncode, found.stderr) == (0, "")


def test_a_run_that_has_begun_keeps_its_precision(workdir: Workdir) -> None:
    done(workdir, "jobs.download", "run", AUTO)
    run = workdir.workspace.run("small")
    recipe = read_json(run.recipe)
    assert recipe["training"]["precision"] == "fp32"
    # As it would be after it had begun on a GPU, or under a version whose default was bf16.
    recipe["training"] |= {"precision": "bf16", "precision_reason": "a reason of its own"}
    write_json(run.recipe, recipe)
    write_json(run.attempt(1).start, {"from_step": 0})
    assert shown(workdir) == ("bf16", "a reason of its own")
    assert shown(workdir, "training.precision=bf16") == ("bf16", "a reason of its own")
    assert shown(workdir, "training.precision=fp32") == ("fp32", None)


def test_the_reason_is_the_kits_to_give(workdir: Workdir) -> None:
    line = refused(workdir, "jobs.pipeline", "show", "training.precision_reason=mine")
    assert "set training.precision" in line
