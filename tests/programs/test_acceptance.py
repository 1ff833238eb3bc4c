"""`train acceptance --dry-run`: a job with the options of the training, which starts the ranks itself."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from jobs import train
from kit.errors import ConfigError
from tests.relay import DEMO

if TYPE_CHECKING:
    from pathlib import Path


def accept(workspace: Path, *arguments: str) -> str:
    """Run the command in this process; returns what it printed. Raises its error."""
    given = ["acceptance", str(DEMO), f"workspace={workspace}", *arguments]
    return CliRunner().invoke(train.app, given, catch_exceptions=False).output


def test_the_job_has_the_options_of_the_training_and_starts_the_ranks_itself(
    tmp_path: Path,
) -> None:
    wanted = (
        "--cluster", "mdx", "cluster.training.nodes=3", "cluster.training.sbatch.qos=quick",
        "cluster.sbatch.account=mine", "cluster.setup=[module load gcc]", "cluster.python=/opt/python",
        "cluster.container={command: [apptainer, exec, image.sif]}", "training.micro_batch=2",
    )  # fmt: skip
    script = accept(tmp_path / "new", *wanted, "--dry-run")
    options = {line for line in script.splitlines() if line.startswith("#SBATCH")}
    assert options >= {
        "#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=8", "#SBATCH --gpus-per-node=8",
        "#SBATCH --partition=gpu", "#SBATCH --time=60", "#SBATCH --qos=quick", "#SBATCH --account=mine",
        "#SBATCH --mem=204800M", "#SBATCH --job-name=demo-acceptance",
    }  # fmt: skip
    assert "module load gcc" in script
    # Python in place of the shell, outside the container, and no trap that would requeue it.
    (command,) = [line for line in script.splitlines() if "kit.cluster.task" in line]
    folder = str(tmp_path / "new" / "acceptance" / "demo")
    work = [folder, "acceptance", "kit.relay.acceptance.job:work", "1", "0"]
    assert shlex.split(command) == ["exec", "/opt/python", "-u", "-m", "kit.cluster.task", *work]
    assert "srun" not in script
    assert "trap" not in script
    assert json.loads(accept(tmp_path / "new", *wanted, "--dry-run", "--json"))["script"] in script
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("option", ["--here", "--dry-run"])
def test_an_option_without_effect_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        accept(tmp_path, "--cluster", "local", option)
    if option == "--dry-run":
        with pytest.raises(ConfigError, match=option):
            accept(tmp_path, "--cluster", "mdx", "--here", option)


def test_a_batch_that_the_ranks_of_a_node_cannot_share_is_refused_before_submission(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match="not a multiple of micro_batch x ranks = 4 x 8"):
        accept(tmp_path, "--cluster", "mdx", "--dry-run")
