"""The memory of a node: by part, against the lowest of the limits, and what a mount loses in a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster.preflight import durability, host_memory
from kit.cluster.preflight.finding import NotChecked, Site
from kit.plan import host, shape
from kit.relay.resolve import load
from kit.store.mounts import Mount, mount_of
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run

XL = ROOT / "configs" / "gpt2-xl-ja-article.yaml"
N = 1_557_200_000  # parameters


def site(run: Run, *overrides: str) -> Site:
    project = load(XL, ["training.steps=9", *overrides], "mdx")
    return Site(run, project.recipe, project.cluster, "login")


def sizes(run: Run, *overrides: str) -> dict[str, float]:
    given = site(run, *overrides)
    setup = shape.setup(given.recipe, given.cluster)
    found = host.parts(setup, given.cluster.training.ranks_per_node)
    return {part.name: part.bytes for part in found} | {"total": host.total(found)}


def test_the_article_needs_146_gigabytes_of_host_memory_on_eight_gpus(run: Run) -> None:
    found = sizes(run)
    assert found["copy for a save"] == 14 * N  # 21.8 GB, and not the 30.5 of powers of two
    assert found["offloaded optimizer"] == 16 * N
    assert found["a checkpoint being read"] == 8 * 2 * N + 12 * N  # the weights by each rank
    assert found["model being built"] == 8 * 4 * N
    # The start is the peak: the copy is not there yet.
    parts = ("offloaded optimizer", "a checkpoint being read", "model being built")
    assert found["total"] == 8 * host.GPU_PROCESS + sum(found[name] for name in parts)


def test_of_two_nodes_the_first_has_its_share_and_the_weights(run: Run) -> None:
    two = ("cluster.training.nodes=2", "training.global_batch=576")
    assert sizes(run, *two)["copy for a save"] == 2 * N + 12 * N / 2


def test_the_login_node_knows_what_is_asked_of_slurm(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert host_memory.host_memory(site(run)).result == "ok"
    found = host_memory.host_memory(site(run, "cluster.training.memory_gb=100"))
    assert (found.result, "146 GB needed (computed) of 107 GB" in found.found) == ("bad", True)
    with pytest.raises(NotChecked):
        host_memory.host_memory(site(run, "cluster.training.memory_gb=null"))
    by_cpu = ("cluster.training.sbatch.mem-per-cpu=4G", "cluster.training.memory_gb=null")
    with pytest.raises(NotChecked):
        host_memory.host_memory(site(run, *by_cpu))


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/job_7/step_0/task_0\n", {"job_7/memory.max": "90000000000"}, 90e9),
        ("0::/job_7/step_0\n", {"job_7/step_0/memory.max": "max"}, 128 * 2.0**30),
        (
            "5:cpu:/x\n4:memory:/slurm/job_7\n",
            {"memory/slurm/job_7/memory.limit_in_bytes": "80000000000"},
            80e9,
        ),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 128 * 2.0**30),
        ("", {}, 128 * 2.0**30),
    ],
)
def test_on_a_node_the_lowest_limit_counts(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cgroup: str,
    limits: dict[str, str],
    expected: float,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(cgroup)
    (tmp_path / "meminfo").write_text(f"MemTotal: {128 << 20} kB\nHugePages_Total: 0\n")
    for name, text in limits.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\n")

    def lowest() -> Any:
        cluster = site(run, "cluster.training.memory_gb=400").cluster
        return host_memory.lowest(cluster, tmp_path, tmp_path / "cgroup")

    assert lowest().bytes == expected
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "50000")
    assert lowest() == (50_000 * 2.0**20, "the job's, by SLURM_MEM_PER_NODE")


def test_a_node_whose_memory_somebody_else_uses_is_a_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    limit = host_memory.Limit(200e9, "cluster.training.memory_gb")
    monkeypatch.setattr(host_memory, "lowest", lambda _: limit)
    for free, result in ((150e9, "ok"), (100e9, "warning")):
        monkeypatch.setattr(host_memory, "available", lambda free=free: free)
        assert host_memory.host_memory(site(run)).result == result


@pytest.mark.parametrize(
    ("kind", "options", "super_options", "text"),
    [
        ("ext4", "rw,relatime", "rw,errors=remount-ro", None),
        ("lustre", "rw,flock", "rw,flock,lazystatfs", None),
        ("nfs4", "rw", "rw,vers=4.2,hard,timeo=600", None),
        ("nfs4", "rw", "rw,vers=4.2,soft,timeo=50", "mounted soft"),
        ("nfs", "rw", "rw,softerr", "mounted softerr"),
        ("ext4", "rw", "rw,nobarrier", "a power cut can lose"),
        ("f2fs", "rw", "rw,fsync_mode=nobarrier", "a power cut can lose"),
        ("overlay", "rw", "rw,lowerdir=/a,volatile", "syncs nothing"),
        ("tmpfs", "rw", "rw,size=1g", "lost with a reboot"),
    ],
)
def test_mounts_that_lose_what_was_synced_are_told(
    kind: str, options: str, super_options: str, text: str | None
) -> None:
    found = durability.lost(Mount("/work", kind, options, "x", super_options))
    assert (found is None) if text is None else (found is not None and text in found[0])


def test_the_options_of_a_file_system_are_read_beside_those_of_its_mount(tmp_path: Path) -> None:
    line = f"36 35 98:0 / {tmp_path} rw,noatime shared:1 - nfs4 nas:/home rw,vers=4.2,soft\n"
    mount = mount_of(tmp_path / "runs", line)
    assert (mount.options, mount.super_options) == ("rw,noatime", "rw,vers=4.2,soft")
