"""Secrets: a cluster file names them, and nothing that is written has their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import launch
from kit.config.load import changed_cluster, load_cluster
from kit.errors import ConfigError
from kit.output.secret_names import is_secret
from kit.relay.stages import DOWNLOAD
from kit.relay.submit_checks import _of_environment

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.store.paths import Run
    from tests.conftest import Workdir

VALUE = "hunter2-hunter2"


def cluster(workdir: Workdir, *overrides: str, **more: Any) -> Cluster:
    far = {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2}}
    path = workdir.write("far.yaml", far | more)
    return load_cluster(str(path), workdir.recipe_file, list(overrides))


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "PGPASSWORD",
        "MLFLOW_TRACKING_PASSWORD", "github_token", "DB_PASSWD", "CLIENT_SECRET", "OPENAI_APIKEY",
    ],
)  # fmt: skip
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZERS_PARALLELISM", "NCCL_IB_PKEY", "HF_TOKEN_PATH", "SSH_KEY_FILE", "KEYBOARD",
        "MLFLOW_TRACKING_USERNAME", "PATH", "NCCL_DEBUG", "MONKEY",
    ],
)  # fmt: skip
def test_other_names_are_not_taken_for_secrets(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"environment": {"HF_TOKEN": VALUE}}, "environment.HF_TOKEN"),
        ({"setup": ["module load gcc", f"export HF_TOKEN={VALUE}"]}, "setup"),
        ({"sbatch": {"export": f"ALL,HF_TOKEN={VALUE}"}}, "sbatch"),
        ({"arrays": {"srun": {"container-env": f"HF_TOKEN={VALUE}"}}}, "arrays.srun"),
    ],
)
def test_a_secret_is_refused_wherever_it_is_without_its_value(
    workdir: Workdir, more: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError) as mistake:
        cluster(workdir, **more)
    (line,) = mistake.value.args
    assert line.endswith(
        f"far.yaml: {key}: HF_TOKEN looks like a secret, and run directories and job scripts would hold "
        "it; write environment: {HF_TOKEN: null}, which takes it from your environment when you submit"
    )
    assert VALUE not in line


def test_a_secret_in_an_override_is_refused_without_its_value(workdir: Workdir) -> None:
    with pytest.raises(ConfigError) as mistake:
        cluster(workdir, f"cluster.environment.HF_TOKEN={VALUE}")
    (line,) = mistake.value.args
    assert line.startswith("override 'cluster.environment.HF_TOKEN': HF_TOKEN looks like a secret")
    assert VALUE not in line


def test_what_a_shell_looks_up_itself_is_no_value(workdir: Workdir) -> None:
    lines = ['export HF_TOKEN="$(cat ~/.token)"', "export HF_TOKEN=$MINE", "export HF_TOKEN"]
    assert cluster(workdir, setup=lines).setup == lines


def test_a_run_that_has_one_already_can_still_be_read(workdir: Workdir) -> None:
    known = cluster(workdir).model_copy(update={"environment": {"HF_TOKEN": VALUE}})
    assert changed_cluster(known, ["cluster.training.minutes=7"]).training.minutes == 7


def test_a_variable_that_is_null_comes_from_the_submitter_and_is_written_nowhere(
    run: Run, workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = cluster(workdir, environment={"HF_TOKEN": None, "NCCL_DEBUG": "WARN"})
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (problem,) = _of_environment(far)
    assert problem.startswith(
        "cluster.environment.HF_TOKEN=null takes it from your environment, where"
    )
    monkeypatch.setenv("HF_TOKEN", VALUE)
    assert not list(_of_environment(far))
    script = launch.script(run, far, DOWNLOAD.job(workdir.recipe()), [])
    assert "#SBATCH --export=ALL\n" in script
    assert "export NCCL_DEBUG=WARN\n" in script
    assert "HF_TOKEN" not in script
    assert VALUE not in script + far.model_dump_json()
    assert "HF_TOKEN" not in launch.job_environment(run, far)
    own = cluster(workdir, environment={"HF_TOKEN": None}, sbatch={"export": "HF_TOKEN,PATH"})
    assert "#SBATCH --export=HF_TOKEN,PATH\n" in launch.script(
        run, own, DOWNLOAD.job(workdir.recipe()), []
    )


def test_pythonpath_is_not_taken_from_the_submitter(workdir: Workdir) -> None:
    with pytest.raises(ConfigError, match="null is not for PYTHONPATH: jobs run the code of"):
        cluster(workdir, environment={"PYTHONPATH": None})
