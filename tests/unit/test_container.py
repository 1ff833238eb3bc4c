"""The section `container` of a cluster file: what becomes part of a job's script, and what is refused."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import launch
from kit.config.load import load_cluster
from kit.errors import ClusterError, ConfigError
from kit.relay.stages import DOWNLOAD, TRAIN
from kit.run import environment

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.store.paths import Run
    from tests.conftest import Workdir

FAR = {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2}}
NASTY = "/a b/$(touch hole);'x'.sif"


def far(workdir: Workdir, *overrides: str, **more: Any) -> Cluster:
    path = workdir.write("far.yaml", FAR | more)
    return load_cluster(str(path), workdir.recipe_file, list(overrides))


def words_of_srun(script: str) -> list[str]:
    """The words of the line that starts the ranks."""
    (line,) = [line for line in script.splitlines() if line.startswith("srun ")]
    return shlex.split(line)


def test_pyxis_gets_options_of_srun_and_python_is_that_of_the_image(
    run: Run, workdir: Workdir
) -> None:
    container = {"image": NASTY, "mounts": ["/lustre:/lustre", "/texts:/texts:ro"]}
    cluster = far(workdir, container=container, srun={"no-container-mount-home": True})
    words = words_of_srun(launch.script(run, cluster, DOWNLOAD.job(workdir.recipe()), []))
    assert f"--container-image={NASTY}" in words
    assert "--container-mounts=/lustre:/lustre,/texts:/texts:ro" in words
    assert "--no-container-mount-home" in words
    at = words.index("python3")
    assert words[at - 1].startswith("--")
    assert words[at : at + 4] == ["python3", "-u", "-m", "kit.cluster.task"]


def test_a_command_is_put_before_python_in_every_job(run: Run, workdir: Workdir) -> None:
    command = ["apptainer", "exec", "--nv", "--bind", "/lustre", NASTY]
    cluster = far(workdir, container={"command": command, "python": "/opt/venv/bin/python"})
    for stage in (DOWNLOAD, TRAIN):
        script = launch.script(run, cluster, stage.job(workdir.recipe()), [])
        words = words_of_srun(script)
        at = words.index("apptainer")
        assert words[at : at + 8] == [*command, "/opt/venv/bin/python", "-u"]
        assert not any(word.startswith("--container") for word in words)


def test_the_trap_stays_outside_with_a_python_of_its_own(run: Run, workdir: Workdir) -> None:
    cluster = far(
        workdir, "cluster.python=/site/my python", container={"image": "a.sqsh", "python": "inner"}
    )
    script = launch.script(run, cluster, TRAIN.job(workdir.recipe()), [])
    (trap,) = [line for line in script.splitlines() if line.endswith(" EXIT")]
    assert "'/site/my python' -m kit.cluster.requeue" in shlex.split(trap)[1]
    assert "inner" not in trap
    assert words_of_srun(script).count("inner") == 1


def test_without_a_container_the_named_python_runs_the_tasks_as_well(
    run: Run, workdir: Workdir
) -> None:
    cluster = far(workdir, python="/site/python")
    words = words_of_srun(launch.script(run, cluster, DOWNLOAD.job(workdir.recipe()), []))
    assert words[words.index("-u") - 1] == "/site/python"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"container": {}}, "container: give either image, for pyxis, or command, for apptainer"),
        ({"container": {"image": "a", "command": ["b"]}}, "container: give either image, for pyxis"),
        ({"container": {"command": ["a"], "mounts": ["/b"]}}, "mounts has no effect with command"),
        ({"container": {"image": "a", "mounts": ["/a:/a,/b:/b"]}}, "container.mounts"),
        ({"container": {"image": "a\nb"}}, "container.image"),
        (
            {"container": {"image": "a"}, "arrays": {"srun": {"container_image": "b"}}},
            "srun has container_image='b', and there is a section container; give one of them",
        ),
    ],
)  # fmt: skip
def test_a_container_that_is_none_or_two_is_refused(
    workdir: Workdir, more: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigError, match=line):
        far(workdir, **more)


def test_on_this_machine_a_container_has_no_effect(workdir: Workdir) -> None:
    path = workdir.write("here.yaml", FAR | {"kind": "local", "container": {"image": "a"}})
    with pytest.raises(ConfigError, match=r"container.image='a' has no effect with kind: local"):
        load_cluster(str(path), workdir.recipe_file, [])


def test_the_first_task_in_a_container_records_its_packages_and_others_must_have_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.environment.write_text("of the login node==1\n")
    environment.record_packages(run, in_container=True)
    assert not run.environment.exists()
    environment.check_environment(run)
    assert run.environment.read_text().splitlines() == environment.installed_packages()
    assert [*run.root.glob(".environment*")] == []
    monkeypatch.setattr(environment, "installed_packages", lambda: ["other==2"])
    with pytest.raises(ClusterError, match="this node's packages differ"):
        environment.check_environment(run)
