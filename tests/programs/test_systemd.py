"""A unit of systemd for a run of this machine: systemd accepts it, and its command continues the run."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.cluster import systemd
from kit.config.cluster import Cluster
from kit.errors import ConfigError, RunError
from kit.relay import resolve
from kit.run import directory
from kit.store.files import write_text
from kit.store.paths import Run

from .test_command import done, refused

if TYPE_CHECKING:
    from tests.conftest import Workdir

GPUS = Cluster(name="vm", kind="local", device="cuda", training={"ranks_per_node": 8})


def values(unit: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and line[0] != "#")


def words(value: str) -> list[str]:
    """A command as systemd takes it apart."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(value)]


@pytest.fixture
def nasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run in a folder whose name systemd would act on."""
    run = Run(tmp_path / '100% of $HOME and "more"' / "runs" / "xl")
    write_text(run.recipe, "{}")
    monkeypatch.chdir(run.root)
    return run


def test_systemd_accepts_the_unit(nasty: Run, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    path = tmp_path / systemd.name(nasty)
    cluster = GPUS.model_copy(update={"environment": {"HF_TOKEN": None}})
    path.write_text(systemd.unit(nasty, cluster), encoding="utf-8")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stderr) == (0, "")


def test_a_path_stays_the_same_whatever_systemd_would_make_of_its_signs(nasty: Run) -> None:
    found = values(systemd.unit(nasty, GPUS))
    assert words(found["ExecStart"])[-2:] == ["run", str(nasty.root)]
    assert words(found["RequiresMountsFor"]) == [str(nasty.root)]
    assert found["WorkingDirectory"].replace("%%", "%") == str(nasty.root)


def test_the_unit_waits_for_the_gpus_and_a_stop_leaves_time_to_save(nasty: Run) -> None:
    found = values(systemd.unit(nasty, GPUS))
    assert "nvidia-fabricmanager.service" in found["After"]
    assert (found["KillMode"], int(found["TimeoutStopSec"])) == ("mixed", 90)
    assert "nvidia" not in systemd.unit(nasty, GPUS.model_copy(update={"device": "cpu"}))


def test_a_secret_is_in_a_file_of_its_user_and_not_in_the_unit(
    nasty: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    unit = systemd.unit(nasty, GPUS.model_copy(update={"environment": {"HF_TOKEN": None}}))
    assert "hf_secret" not in unit
    assert values(unit)["EnvironmentFile"] == str(Path.home() / ".config/ekiden/xl.env")


def test_the_command_of_the_unit_continues_the_run_in_an_environment_of_its_own(
    workdir: Workdir,
) -> None:
    directory.prepare(resolve.load(workdir.recipe_file, [], "local"))
    (run,) = workdir.workspace.runs()
    found = values(
        done(
            workdir,
            "jobs.pipeline",
            "systemd",
        )
    )
    name, _, value = shlex.split(found["Environment"])[0].partition("=")
    shown = subprocess.run(
        [*words(found["ExecStart"]), "--dry-run"],
        cwd=found["WorkingDirectory"], env={name: value}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert str(run.root) in " ".join(words(found["ExecStart"]))
    assert "train" in shown.stdout
    assert not any(run.attempts.glob("*"))


def test_a_cluster_with_a_scheduler_needs_no_unit_and_a_run_that_never_began_has_none(
    workdir: Workdir, tmp_path: Path
) -> None:
    said = refused(workdir, "jobs.pipeline", "systemd")
    assert "not begun; type: " in said
    assert "jobs.pipeline run RECIPE" in said
    with pytest.raises(ConfigError, match="starts jobs again by itself"):
        systemd.unit(Run(tmp_path), GPUS.model_copy(update={"kind": "slurm"}))
    with pytest.raises(RunError):
        systemd.unit(Run(tmp_path), GPUS)
