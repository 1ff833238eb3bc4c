"""The templates of a Slurm: filled in for one machine, and for the bare machines of mdx."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from kit.config.cluster import Cluster
from tests.relay import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SLURM, MDX = ROOT / "sbatch" / "slurm", ROOT / "sbatch" / "mdx"
TEMPLATES = [path.name for path in sorted((SLURM / "templates").glob("*.conf"))]
# Keys that not all of Slurm 21.08 (Ubuntu 22.04), 22.05 (Debian 12) and 23.11 (Ubuntu 24.04) know.
NOT_EVERYWHERE = {
    "CgroupAutomount",
    "CgroupPlugin",
    "CgroupReleaseAgentDir",
    "ConstrainKmemSpace",
    "TaskAffinity",
    "EnableControllers",
    "SignalChildrenProcesses",
    "AccountingStoreJobComment",
}
# What up.sh sets for one machine.
OF_UP = """
CLUSTER=ekiden HOST=host HOST_ADDRESS=127.0.0.1 ONE_MACHINE=yes CONFINED= FIRST_JOB=100
PORT=1 DBD_PORT=2 DB_PORT=3 ACCOUNTING=slurmdbd TRES=gres/gpu PROCTRACK=cgroup CTLD_PARAMS=,a
SLURMD_TIMEOUT=20 PREEMPT=partition_prio GRACE=30 KILLWAIT=30 CRED_EXPIRE=35 NODE_NAMES='mdx[1-2]'
NODE_LINES='NodeName=mdx[1-2]' GPU_TYPE=a100 GPU_FILES='/dev/nvidia[0-7]' ROOT='/tmp/a & b|c'
TASKS=none CONSTRAIN_MEMORY=no
"""


def shell(script: str, code: int = 0) -> str:
    """What a script of bash prints."""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def rendered(setting: str) -> dict[str, str]:
    """All templates, by name."""
    each = "".join(f"echo '==> {name}'; render {name}; " for name in TEMPLATES)
    parts = shell(f"set -euo pipefail; {setting}\n{each}").split("==> ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


@pytest.fixture(scope="module")
def of_site() -> dict[str, str]:
    return rendered(f"source {MDX}/common.sh; read_site {MDX}/site.conf")


@pytest.fixture(scope="module")
def of_one_machine() -> dict[str, str]:
    return rendered(f"source {SLURM}/render.sh; {OF_UP}")


def keys(text: str) -> set[str]:
    """The keys that begin a line."""
    return {line.partition("=")[0] for line in text.splitlines() if line and line[0] not in "# "}


def fields(text: str, key: str) -> dict[str, dict[str, str]]:
    """The lines that begin with a key, by its value."""
    lines = [line for line in text.splitlines() if line.startswith(f"{key}=")]
    rows = [dict(word.split("=", 1) for word in line.split()) for line in lines]
    return {row[key]: row for row in rows}


def test_both_are_filled_in_and_have_a_value_for_each_key(
    of_site: dict[str, str], of_one_machine: dict[str, str]
) -> None:
    for files in (of_site, of_one_machine):
        assert [*files] == ["cgroup.conf", "gres.conf", "slurm.conf", "slurmdbd.conf"]
        for text in files.values():
            assert not re.search(r"@[A-Z_]+@|^#(if|else|end)\b", text, re.MULTILINE)
            assert all("=" in line for line in text.splitlines() if line and line[0] != "#")
    assert "/tmp/a & b|c/log/slurmctld.log" in of_one_machine["slurm.conf"]


def test_the_slurm_of_bare_machines_has_what_that_of_one_machine_tries(
    of_site: dict[str, str], of_one_machine: dict[str, str]
) -> None:
    site, one = of_site["slurm.conf"], of_one_machine["slurm.conf"]
    for key in (
        "PreemptType",
        "PreemptMode",
        "JobRequeue",
        "SelectType",
        "AccountingStorageType",
        "ProctrackType",
    ):
        found = [re.findall(rf"^{key}=(.*)$", text, re.MULTILINE) for text in (site, one)]
        assert found[0] == found[1] != [], key
    for name in ("gpu", "cpu"):
        assert fields(site, "PartitionName")[name]["PreemptMode"] == "REQUEUE"
    ranks = {name: int(row["PriorityTier"]) for name, row in fields(site, "PartitionName").items()}
    assert ranks["urgent"] > ranks["gpu"] == ranks["cpu"]


def test_no_key_is_unknown_to_a_slurm_that_it_is_for(of_site: dict[str, str]) -> None:
    for text in of_site.values():
        assert not keys(text) & NOT_EVERYWHERE
    assert {"ConstrainDevices", "ConstrainCores", "ConstrainRAMSpace"} == keys(
        of_site["cgroup.conf"]
    )


def test_the_cluster_file_fits_the_slurm_of_bare_machines(of_site: dict[str, str]) -> None:
    text = (ROOT / "configs" / "cluster" / "mdx.yaml").read_text(encoding="utf-8")
    cluster = Cluster.model_validate(yaml.safe_load(text))
    partitions, nodes = (
        fields(of_site["slurm.conf"], f"{key}Name") for key in ("Partition", "Node")
    )
    node = next(iter(nodes.values()))
    training = cluster.training
    for section in (training, cluster.arrays, cluster.single, cluster.network):
        assert section is not None
        assert section.partition in partitions
        days = int(partitions[section.partition]["MaxTime"].partition("-")[0])
        assert section.minutes <= days * 1440
    partition = partitions[str(training.partition)]
    assert training.grace_seconds == int(partition["GraceTime"])
    assert training.gpus_per_node == int(node["Gres"].rpartition(":")[2])
    # A training and the arrays beside it.
    cpus = training.ranks_per_node * training.cpus_per_rank
    assert cpus + int(partitions["cpu"]["MaxCPUsPerNode"]) <= int(node["CPUs"])
    assert training.memory_gb is not None
    assert 1024 * training.memory_gb < int(node["RealMemory"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("GRACE=2m", "GRACE=2m: write a whole number"),
        ("NODES=mdx1", "mdx1: write NAME=ADDRESS, such as mdx1=10.0.0.11"),
        ("CPU_CPUS=999", "CPU_CPUS=999: a node has CPUS=144"),
        ("GPU_TYPE=", "GPU_TYPE is missing"),
    ],
)
def test_a_mistake_in_the_site_is_one_line(tmp_path: Path, change: str, said: str) -> None:
    site = tmp_path / "site.conf"
    site.write_text(f"{(MDX / 'site.conf').read_text()}\n{change}\n")
    error = shell(f"source {MDX}/common.sh; read_site {site}", code=2)
    assert error == f"bash: {site}: {said}\n"


def test_a_variable_that_is_not_set_is_an_error() -> None:
    script = f"source {SLURM}/render.sh; {OF_UP}\nunset GRACE; render slurm.conf > /dev/null"
    assert shell(script, code=2) == "render: GRACE is not set\n"


def test_every_script_of_the_shell_can_be_parsed() -> None:
    scripts = [
        path for ending in ("sh", "sbatch") for path in (ROOT / "sbatch").rglob(f"*.{ending}")
    ]
    assert len(scripts) > 20
    for path in [*scripts, ROOT / "tests" / "slurm" / "machines.sh"]:
        shell(f"bash -n '{path}'")
