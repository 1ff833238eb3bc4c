"""Options of sbatch in a cluster file, for all jobs and for some; what may not come into a script."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import launch
from kit.cluster.jobs import Job
from kit.config.load import load_cluster, load_recipe
from kit.errors import ConfigError
from kit.relay.stages import DOWNLOAD, STAGES, TRAIN
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.store.paths import Run
    from tests.conftest import Workdir

FAR = {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2}}


def far(workdir: Workdir, *overrides: str, **more: Any) -> Cluster:
    """A Slurm cluster from a file with these sections."""
    path = workdir.write("far.yaml", FAR | more)
    return load_cluster(str(path), workdir.recipe_file, list(overrides))


def flags(run: Run, cluster: Cluster, job: Job) -> set[str]:
    """The options in the script of a job."""
    lines = launch.script(run, cluster, job, []).splitlines()
    return {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH ")}


def test_the_options_of_a_section_go_before_the_general_ones(run: Run, workdir: Workdir) -> None:
    cluster = far(
        workdir,
        sbatch={"account": "012", "exclusive": True, "qos": "long", "mail_user": "all"},
        arrays={"sbatch": {"exclusive": False, "nice": 5, "mail-user": "me"}},
        training={"ranks_per_node": 2, "sbatch": {"gres": "gpu:a100:8", "mem": 0, "qos": "gpu"}},
    )
    recipe = workdir.recipe()
    shared, training = (
        flags(run, cluster, DOWNLOAD.job(recipe)),
        flags(run, cluster, TRAIN.job(recipe)),
    )
    assert {"account=012", "nice=5", "mail-user=me", "qos=long"} <= shared
    assert {"account=012", "exclusive", "gres=gpu:a100:8", "mem=0", "qos=gpu"} <= training
    assert "mail-user=all" in training
    assert not {"mail-user=all", "gres=gpu:a100:8", "mem=0"} & shared
    assert not [option for option in shared if option.startswith("exclusive")]
    assert "exclusive" in flags(run, cluster, Job("export", DOWNLOAD.job(recipe).work))


def test_options_of_srun_come_behind_those_of_the_kit(run: Run, workdir: Workdir) -> None:
    cluster = far(
        workdir,
        srun={"container-image": "/my images/a.sqsh", "overlap": True, "mpi": "none"},
        training={"ranks_per_node": 2, "srun": {"overlap": False, "cpu-bind": "cores"}},
    )
    training = launch.script(run, cluster, TRAIN.job(workdir.recipe()), [])
    shared = launch.script(run, cluster, DOWNLOAD.job(workdir.recipe()), [])
    image = "'--container-image=/my images/a.sqsh'"
    placed = "--distribution=block:block"
    assert f" --cpus-per-task=1 {placed} {image} --mpi=none --cpu-bind=cores " in training
    assert f" --cpus-per-task=1 {image} --mpi=none --overlap " in shared


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({}, "--distribution=block:block"),
        ({"srun": {"distribution": "plane=2"}}, "--distribution=plane=2"),
        ({"srun": {"distribution": False}}, None),  # Slurm's own
        ({"sbatch": {"distribution": "cyclic"}}, None),
        ({"training": {"ranks_per_node": 2, "sbatch": {"distribution": "cyclic"}}}, None),
        ({"environment": {"SLURM_DISTRIBUTION": "cyclic"}}, None),
    ],
)
def test_neighbouring_ranks_share_a_socket_unless_the_cluster_file_places_them(
    run: Run, workdir: Workdir, more: dict[str, Any], option: str | None
) -> None:
    script = launch.script(run, far(workdir, **more), TRAIN.job(workdir.recipe()), [])
    (command,) = [line for line in script.splitlines() if line.startswith("srun --")]
    words = [word for word in command.split() if word.startswith("--distribution")]
    assert words == ([option] if option else [])


def test_a_wckey_is_sent_only_if_it_is_given(run: Run, workdir: Workdir) -> None:
    assert "--wckey" not in launch.script(run, far(workdir), TRAIN.job(workdir.recipe()), [])
    given = far(workdir, sbatch={"wckey": "lab"})
    assert "#SBATCH --wckey=lab\n" in launch.script(run, given, TRAIN.job(workdir.recipe()), [])


def test_tasks_get_the_environment_of_their_script_at_sites_that_export_none(
    run: Run, workdir: Workdir
) -> None:
    script = launch.script(run, far(workdir), TRAIN.job(workdir.recipe()), [])
    assert script.index("export SLURM_EXPORT_ENV=ALL\n") < script.index("\nsrun --")


def test_an_option_on_the_command_line_may_be_a_flag(run: Run, workdir: Workdir) -> None:
    cluster = far(workdir, "cluster.training.sbatch.exclusive=true", "cluster.sbatch.mem=0")
    assert {"exclusive", "mem=0"} <= flags(run, cluster, TRAIN.job(workdir.recipe()))


# What sites ask for; each is rendered as written, for the section that has it.
OF_SITES = {
    "account": "proj-12", "qos": "long", "constraint": "[rack1|rack2]&ib", "reservation": "maint",
    "exclude": "n[1-3],n9", "mail-user": "a@b.c", "mail-type": "END,FAIL", "gres": "gpu:a100:2,tmpdisk:10",
    "exclusive": "user", "mem": 0, "licenses": "matlab:2,lustre", "comment": "a 'b' $(c)", "nice": -5,
    "clusters": "a,b", "switches": "1@10:00", "core-spec": 2, "use-min-nodes": True,
}  # fmt: skip


@pytest.mark.parametrize("section", ["network", "arrays", "single", "training"])
def test_every_option_of_a_section_reaches_the_jobs_of_that_section_alone(
    run: Run, workdir: Workdir, section: str
) -> None:
    sizes = {"training": {"ranks_per_node": 2}, "network": {}, "arrays": {}, "single": {}}
    sizes[section]["sbatch"] = OF_SITES
    cluster = far(workdir, **sizes)
    expected = {
        f"{name}={shlex.quote(str(value))}" if value is not True else name
        for name, value in OF_SITES.items()
    }
    for stage in STAGES:
        given = flags(run, cluster, stage.job(workdir.recipe()))
        if stage.resources == section:
            assert expected <= given
        else:
            assert not expected & given


@pytest.mark.parametrize(
    ("key", "option", "kept"),
    [
        ("memory_gb", {"mem-per-cpu": "2G"}, {"mem-per-cpu=2G"}),
        ("memory_gb", {"mem": 0}, {"mem=0"}),
        ("gpus_per_node", {"gres": "gpu:a100:2"}, {"gres=gpu:a100:2"}),
        ("gpus_per_node", {"gpus_per_node": "a100:2"}, {"gpus-per-node=a100:2"}),
        ("partition", {"partition": "b"}, {"partition=b"}),
        ("minutes", {"time": "1-0"}, {"time=1-0"}),
    ],
)
def test_an_option_replaces_the_key_for_the_same_which_slurm_would_refuse_beside_it(
    run: Run, workdir: Workdir, key: str, option: dict[str, Any], kept: set[str]
) -> None:
    sizes = {
        "ranks_per_node": 2,
        "memory_gb": 8,
        "gpus_per_node": 2,
        "partition": "a",
        "minutes": 9,
    }
    (name, value), *_ = option.items()
    cluster = far(workdir, f"cluster.training.sbatch.{name}={value}", training=sizes)
    given = flags(run, cluster, TRAIN.job(workdir.recipe()))
    names = {"memory_gb": "mem", "gpus_per_node": "gpus-per-node", "minutes": "time"}
    assert {one for one in given if one.split("=")[0] == names.get(key, key)} <= kept
    assert kept <= given
    # In one file with the key, the key is refused.
    with pytest.raises(ConfigError) as refused:
        far(workdir, training={**sizes, "sbatch": option})
    replaced = (
        f"training.{key}={sizes[key]!r} has no effect beside sbatch.{name}, which replaces it"
    )
    assert replaced in str(refused.value)


def test_a_gres_that_is_no_gpu_stays_beside_the_gpus(run: Run, workdir: Workdir) -> None:
    sizes = {"ranks_per_node": 2, "gpus_per_node": 2, "sbatch": {"gres": "tmpdisk:10"}}
    given = flags(run, far(workdir, training=sizes), TRAIN.job(workdir.recipe()))
    assert {"gres=tmpdisk:10", "gpus-per-node=2"} <= given


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"sbatch": {"nodes": 2}}, "sbatch.nodes: ekiden sets this option itself; set training.nodes"),
        ({"arrays": {"sbatch": {"cpus_per_task": 2}}}, "sbatch.cpus_per_task: ekiden sets this option"),
        ({"single": {"sbatch": {"output": "a"}}}, "logs are in the run directory"),
        ({"sbatch": {"gres": ["a"]}}, r"sbatch: gres=\['a'\]: write text, a number, or true or false"),
        ({"arrays": {"sbatch": {"qos": None}}}, "arrays.sbatch: qos=None: write text, a number, or"),
        ({"sbatch": {"qos": "a\nid"}}, r"sbatch: qos='a\\nid': write it on one line"),
        ({"sbatch": {"a b": "1"}}, "sbatch: 'a b' cannot be an option; write its long name without --"),
        ({"sbatch": {"--qos": "a"}}, "sbatch: '--qos' cannot be an option"),
        ({"environment": {"A; id": "1"}}, "environment: 'A; id' cannot be the name of a variable"),
        ({"arrays": {"partition": "a\nid"}}, r"arrays.partition='a\\nid': string should match pattern"),
    ],
)  # fmt: skip
def test_what_cannot_be_quoted_is_refused_in_one_line(
    workdir: Workdir, more: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigError, match=line) as refused:
        far(workdir, **more)
    assert "\n" not in str(refused.value)


def test_a_workspace_with_a_line_break_is_refused(workdir: Workdir) -> None:
    with pytest.raises(ConfigError, match="a path with a line break cannot be in a job's script"):
        load_recipe(workdir.recipe_file, ["workspace=/a\nb"])


def test_a_workspace_with_a_pattern_of_slurms_is_refused(workdir: Workdir) -> None:
    run = Workspace(Path("/a/50%x")).run("small")
    with pytest.raises(ConfigError, match="Slurm takes % in the path of a log for a pattern"):
        launch.script(run, far(workdir), DOWNLOAD.job(workdir.recipe()), [])


def test_folders_of_a_cluster_come_behind_the_code_of_the_run(run: Run, workdir: Workdir) -> None:
    cluster = far(workdir, environment={"PYTHONPATH": "/site/my packages"})
    assert launch.job_environment(run, cluster)["PYTHONPATH"] == f"{run.code}:/site/my packages"
    script = launch.script(run, cluster, TRAIN.job(workdir.recipe()), [])
    assert [line for line in script.splitlines() if "PYTHONPATH=" in line] == [
        f"export PYTHONPATH=\"$(readlink -f {run.code})\"':/site/my packages'"
    ]
