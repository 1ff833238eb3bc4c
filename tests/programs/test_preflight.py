"""Checks of a site against real faults: full and read-only disks, no ports, servers that do not answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster.preflight import catalogue, disk, kernel_log, mlflow, network, quota, slurm
from kit.cluster.preflight.finding import NotChecked, Site
from kit.config.cluster import Cluster
from kit.relay.resolve import load
from kit.store.mounts import Mount
from tests.conftest import ROOT
from tests.disk import fill, small_disk
from tests.mlflow_server import free_port
from tests.relay import DEMO

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir
    from tests.server import Server


def site(workspace: Path, *overrides: str) -> Site:
    """A site for the demo in a workspace."""
    given = [
        f"workspace={workspace}",
        "training.precision=fp32",
        "tracking.mlflow=null",
        *overrides,
    ]
    project = load(DEMO, given, "local")
    return Site(project.run, project.recipe, project.cluster, "mdx1")


def put(folder: Path, name: str, lines: str) -> None:
    """A program on the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_and_one_that_is_read_only_are_bad(tmp_path: Path) -> None:
    with small_disk(tmp_path, "2m"):
        here = site(tmp_path)
        fill(tmp_path)
        found = {one.name: one for one in catalogue.run(here, ["space", "write_rate", "sync_time"])}
        assert {one.result for one in found.values()} == {"bad"}
        assert "not one fits" in found["space"].found
        assert "No space left on device" in found["write_rate"].found
        (tmp_path / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        names = ["create", "rename", "write_rate", "sync_time", "clock", "locks"]
        told = list(catalogue.run(here, names))
    assert {one.result for one in told} == {"bad"}
    assert all("Read-only file system" in one.found for one in told)
    assert not any(one.of_node for one in told)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_without_room_for_files_is_bad(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=100", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        found = disk.inodes(site(tmp_path))
        assert found.result == "bad", found
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


_NO_PORT = """
import socket, sys
from pathlib import Path
Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40003")
held = [socket.create_server(("127.0.0.1", 40000 + number)) for number in range(int(sys.argv[1]))]
from kit.cluster.preflight import network
print(network.port(None).result)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")
@pytest.mark.parametrize(("held", "result"), [(4, "bad"), (0, "ok")])
def test_when_every_port_is_taken_the_check_is_bad(held: int, result: str) -> None:
    up = f'ip link set lo up && exec "$0" -c "$1" {held}'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", up, sys.executable, _NO_PORT],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "Read-only" in done.stderr:
        pytest.skip(f"no network of its own here: {done.stderr[-200:]}")
    assert done.stdout.strip() == result, done.stderr


def test_a_server_of_mlflow_that_answers_is_ok(server: Server, tmp_path: Path) -> None:
    given = f"tracking.mlflow=http://ann:s3cret@127.0.0.1:{server.port}"
    found = mlflow.mlflow(site(tmp_path, given))
    assert (found.result, server.names) == ("ok", ["health"])
    assert "s3cret" not in found.found


@pytest.mark.parametrize(("status", "words"), [(500, "error (500)"), (403, "refuses this user")])
def test_a_server_that_answers_with_an_error_is_a_warning(
    server: Server, tmp_path: Path, status: int, words: str
) -> None:
    server.status = status
    found = mlflow.mlflow(site(tmp_path, f"tracking.mlflow=http://127.0.0.1:{server.port}"))
    assert (found.result, words in found.found) == ("warning", True)


def test_a_server_that_does_not_answer_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(mlflow, "_PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (silent.getsockname()[1], free_port()):
            at = site(tmp_path, f"tracking.mlflow=http://ann:s3cret@127.0.0.1:{port}")
            found = mlflow.mlflow(at)
            assert found.result == "warning"
            assert "no answer" in found.found
            assert "s3cret" not in str(found)


def test_the_users_quota_is_asked_of_the_program_of_the_file_system(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = site(tmp_path)
    put(programs, "quota", "exit 1")
    with pytest.raises(NotChecked):
        quota.quota(at)
    monkeypatch.setattr(quota, "mount_of", lambda _: Mount("/", "nfs4", "rw", "nas:/home"))
    put(programs, "quota", 'echo "$*" >&2; echo "nas:/home 950* 900 1000 6 12 0 0 0"; exit 1')
    found = quota.quota(at)
    assert (found.result, "922 kB" in found.found) == ("warning", True), found
    monkeypatch.setattr(quota, "mount_of", lambda _: Mount("/", "lustre", "rw"))
    row = '[ "$3" = "-u" ] && echo "/lustre 950 0 100000 - 12 0 0 -" || echo "/lustre 9 0 0 - 1 0 0 -"'
    put(programs, "lfs", row)
    found = quota.quota(at)
    assert found.result == "ok"
    assert found.found == "973 kB of 102 MB of you, 9.22 kB of no limit of your group"


def test_the_kernels_log_is_read_where_it_may_be(programs: Path, tmp_path: Path) -> None:
    at = site(tmp_path)
    line = "[ 1.0] NVRM: Xid (PCI:0000:86:00): 79, pid=1, GPU has fallen off the bus."
    for name in ("dmesg", "journalctl"):
        put(programs, name, "echo 'dmesg: read kernel buffer failed' >&2; exit 1")
    with pytest.raises(NotChecked):
        kernel_log.gpu_xid(at)
    put(programs, "journalctl", f"echo '{line}'")
    assert kernel_log.gpu_xid(at).result == "bad"
    put(programs, "dmesg", "true")
    assert kernel_log.gpu_xid(at).result == "ok"


def test_what_sbatch_says_to_a_script_is_told(programs: Path, tmp_path: Path) -> None:
    from kit.cluster.jobs import Job

    here = site(tmp_path)
    cluster = Cluster.model_validate(
        {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2}}
    )
    jobs = [Job("count", lambda *_: None, 4, "arrays"), Job("train", lambda *_: None, 1, "training"),
            Job("tokenize", lambda *_: None, 9, "arrays")]  # fmt: skip
    at = Site(here.run, here.recipe, cluster, "login", jobs, lambda job: [f"# {job.name}\n"])
    refuses = (
        "read line; case $line in *train) echo 'allocation failure: Invalid qos' >&2; exit 1;; esac"
    )
    put(programs, "sbatch", f'[ "$*" = --test-only ] || exit 9\n{refuses}')
    found = slurm.submission(at)
    assert (found.result, found.found) == ("bad", "train: Invalid qos")
    put(programs, "sbatch", "cat >> " + str(tmp_path / "asked"))
    assert slurm.submission(at).found == "sbatch would accept tokenize, train"
    assert (tmp_path / "asked").read_text() == "# tokenize\n# train\n"


def test_the_command_prints_a_table_and_exits_by_its_verdict(workdir: Workdir) -> None:
    def shown(*arguments: str) -> tuple[int, list[str]]:
        done = workdir.run("jobs.pipeline", "check", str(workdir.recipe_file), *arguments)
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    patient = ("cluster.checks.sync_seconds=60", "cluster.checks.write_mb_s=0.001")
    code, lines = shown(*patient, "cluster.checks.skip=[quota]")
    assert (code, lines[-1].split(":")[0]) == (0, "ok")
    assert any(line.split()[:1] == ["ok"] and line.split()[2] == "locks" for line in lines)
    assert "skipped: quota" in lines
    code, lines = shown(*patient, "--json", "cluster.checks.sync_seconds=0.0000001")
    facts: dict[str, Any] = json.loads("\n".join(lines))
    assert (code, facts["verdict"]) == (0, "warning")
    assert not workdir.workspace.root.exists()
    workdir.workspace.run("small").root.mkdir(parents=True)
    workdir.workspace.run("small").environment.write_text("torch==0.1\n")
    code, lines = shown(*patient)
    assert (code, lines[-1].split(":")[0]) == (1, "bad")
    (bad,) = [line for line in lines if line.startswith("bad ")]
    assert "packages" in bad


def test_a_free_port_is_ok(tmp_path: Path) -> None:
    assert network.port(site(tmp_path)).result == "ok"
