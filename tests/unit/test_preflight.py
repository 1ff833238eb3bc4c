"""The checks of a site: each finds its fault, and none of them finds one in a site that is well."""

from __future__ import annotations

import errno
import fcntl
import itertools
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kit.cluster.preflight import (
    bandwidth,
    catalogue,
    clock,
    deepspeed,
    disk,
    durability,
    gpus,
    host_memory,
    kernel_log,
    network,
    node,
    packages,
    quota,
    slurm,
    start,
)
from kit.cluster.preflight.finding import Finding, NotChecked, Site, verdict
from kit.config import checks
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.run import Project
from kit.errors import JobFailed
from kit.relay import check
from kit.relay.resolve import load
from kit.run import addresses
from kit.store import records
from kit.store.files import read_json, write_json, write_text
from kit.store.mounts import Mount
from tests.nvml import Nvml
from tests.relay import DEMO, NOWHERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.cluster.preflight.finding import Result
    from kit.store.paths import Run

    Make = Callable[..., Site]

# Whatever else this machine's disk has to do.
PATIENT = ("cluster.checks.sync_seconds=60", "cluster.checks.write_mb_s=0.001")
GPUS = ("cluster.device=cuda", "cluster.training.ranks_per_node=8", "training.global_batch=32")


@pytest.fixture(scope="module")
def demo() -> Project:
    """The demo, resolved once."""
    return load(DEMO, [NOWHERE, "training.precision=fp32", "tracking.mlflow=null"], "local")


@pytest.fixture
def site(demo: Project, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A site for the demo, with overrides."""
    monkeypatch.setattr(disk, "_LARGE", 1 << 20)
    limit = host_memory.Limit(1e12, "a node of these tests")
    monkeypatch.setattr(host_memory, "lowest", lambda _: limit)
    monkeypatch.setattr(host_memory, "available", lambda: 1e12)
    monkeypatch.setattr(durability, "mount_of", lambda _: Mount("/", "ext4", "rw"))

    def made(*overrides: str) -> Site:
        trees: dict[str, Any] = {
            "recipe": demo.recipe.model_dump(mode="json"),
            "cluster": demo.cluster.model_dump(mode="json"),
        }
        for override in (f"workspace={tmp_path}", *PATIENT, *overrides):
            key, _, value = override.partition("=")
            tree = trees["cluster" if key.startswith("cluster.") else "recipe"]
            *sections, last = key.removeprefix("cluster.").split(".")
            for section in sections:
                tree = tree[section]
            tree[last] = yaml.safe_load(value)
        recipe, cluster = (
            Recipe.model_validate(trees["recipe"]),
            Cluster.model_validate(trees["cluster"]),
        )
        return Site(run, recipe, cluster, "mdx1")

    return made


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    """A node with eight A100s that are well, all given to the job."""
    made = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    monkeypatch.setattr(gpus, "_PAUSE", 0.0)
    return made


def test_every_check_has_a_name_to_skip_it_by() -> None:
    assert [*catalogue.CHECKS] == [*checks.NAMES]


def test_a_check_that_is_skipped_is_not_made(site: Make) -> None:
    names = catalogue.on_login(site())
    assert {"clock", "space", "port", "mlflow"} <= {*names}
    assert not {*checks.OF_GPUS} & {*names}
    assert [name for name in names if name not in ("clock", "port")] == catalogue.on_login(
        site("cluster.checks.skip=[clock,port]")
    )
    assert {*checks.OF_GPUS} <= {*catalogue.on_login(site("cluster.device=cuda"))}
    assert "clock" not in catalogue.at_start(site("cluster.checks.skip=[clock]"))


def test_an_unknown_name_is_refused_with_the_one_that_was_meant(site: Make) -> None:
    for given, hint in (("clok", "did you mean clock"), ("nccl", "the checks are limits, ")):
        with pytest.raises(ValueError, match=f"there is no check '{given}'; {hint}"):
            site(f"cluster.checks.skip=[{given}]")


def test_a_site_that_is_well_has_nothing_but_ok(site: Make) -> None:
    well = site("tracking.mlflow=null")
    names = [name for name in catalogue.on_login(well) if name not in ("quota", "submission")]
    found = list(catalogue.run(well, names))
    assert {finding.result for finding in found} == {"ok"}, found
    assert {"space", "create", "locks", "clock", "port", "deepspeed"} <= {f.name for f in found}
    assert not [*Path(well.recipe.workspace).glob(".check-*")]


@pytest.mark.parametrize("results", [["ok"], ["ok", "warning"], ["warning", "bad", "ok"], []])
def test_the_worst_finding_is_the_verdict(results: list[Result]) -> None:
    worst = results[1] if len(results) > 1 else "ok"
    assert verdict(Finding("clock", result, "") for result in results) == worst


# the file system


class Counts:
    """A file system's figures: blocks of 4 kB and files that are free."""

    def __init__(self, free: int, files: int) -> None:
        self.f_bavail, self.f_frsize = free // 4096, 4096
        self.f_favail, self.f_files = files, files and 10**9


@pytest.mark.parametrize(
    ("free", "result"), [(10**6, "bad"), (2 * 10**7, "warning"), (10**10, "ok")]
)
def test_a_disk_without_room_for_the_checkpoints_is_told(
    site: Make, monkeypatch: pytest.MonkeyPatch, free: int, result: str
) -> None:
    monkeypatch.setattr("os.statvfs", lambda _: Counts(free, 10**6))
    assert disk.space(site()).result == result


@pytest.mark.parametrize(("files", "result"), [(500, "bad"), (10**6, "ok"), (0, "ok")])
def test_a_disk_without_room_for_more_files_is_told(
    site: Make, monkeypatch: pytest.MonkeyPatch, files: int, result: str
) -> None:
    monkeypatch.setattr("os.statvfs", lambda _: Counts(10**10, files))
    assert disk.inodes(site()).result == result


def test_checkpoints_that_are_there_need_no_more_room(
    site: Make, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.statvfs", lambda _: Counts(2 * 10**7, 10**6))
    assert disk.space(site()).result == "warning"
    for step in (10, 20):
        run.checkpoint(step, 1).mkdir()
    assert disk.space(site()).result == "ok"


@pytest.mark.parametrize("make", ["touch", "mkdir"])
def test_a_file_system_that_creates_a_file_twice_is_bad(
    site: Make, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    real = getattr(Path, make)
    monkeypatch.setattr(Path, make, lambda path, *_, **__: path.exists() or real(path))
    assert disk.create(site()).result == "bad"


def test_a_rename_that_leaves_the_old_file_is_bad(
    site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", lambda path, target: target)
    assert disk.rename(site()).result == "bad"


@pytest.mark.parametrize("check_of", [disk.rename, disk.sync_time, disk.write_rate])
def test_a_slow_disk_is_a_warning(
    site: Make, monkeypatch: pytest.MonkeyPatch, check_of: Callable[[Site], Finding]
) -> None:
    limits = ("cluster.checks.sync_seconds=1", "cluster.checks.write_mb_s=1")
    for step, result in ((0.5, "ok"), (4.0, "warning")):  # seconds that each operation takes
        ticks = itertools.count(0.0, step)
        monkeypatch.setattr(disk.time, "perf_counter", lambda ticks=ticks: next(ticks))
        found = check_of(site(*limits))
        assert found.result == result
        assert ("checks." in found.remedy) == (result == "warning")


def without_locks(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No locks below a folder, as on Lustre mounted without flock."""
    real = fcntl.lockf

    def lockf(file: Any, operation: int) -> None:
        if Path(file.name).is_relative_to(folder):
            raise OSError(errno.ENOSYS, "Function not implemented")
        real(file, operation)

    monkeypatch.setattr(fcntl, "lockf", lockf)


def test_locks_are_missed_where_something_needs_them(
    site: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/tmp")
    without_locks(monkeypatch, tmp_path)
    assert disk.locks(site("tracking.mlflow=null")).result == "ok"
    assert disk.locks(site("tracking.mlflow=workspace")).result == "warning"
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "tmp"))
    assert disk.locks(site("tracking.mlflow=null")).result == "bad"


def test_a_lock_that_excludes_nobody_is_no_lock(
    site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert "does not exclude" in disk.locks(site()).found


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_workspace_that_cannot_be_written_is_bad(
    site: Make, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, *_: Any) -> None:
        raise OSError(number, "refused", str(path))

    here = site()
    monkeypatch.setattr(Path, "mkdir", refuse)
    (found,) = catalogue.run(here, ["create"])
    assert (found.result, found.of_node) == ("bad", False)
    assert here.recipe.workspace in found.found


# the quota

LFS = (
    "     /lustre/work/a-very-long-name\n"
    "              {used}*   {soft} 1000 6d23h59m50s  {files}       0    5000       -\n"
)
QUOTA = """Disk quotas for user me (uid 1000):
      Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
       /dev/sda1     400       0       0       0      10       0       0       0
  nas:/export/me   {used}*   1000    2000 1795973285      10       0       0       0
"""


def test_quotas_are_read_as_the_programs_print_them() -> None:
    (row,) = quota.parse(LFS.format(used=950, soft=900, files=4000), "you")
    assert row == quota.Usage("you", 950, 900, 4000, 5000)
    (row,) = quota.parse(QUOTA.format(used=950), "you", "nas:/export/me")
    assert row == quota.Usage("you", 950, 1000, 10, 0)
    assert quota.parse(QUOTA.format(used=950), "you", "tmpfs") == []


@pytest.mark.parametrize(
    ("used", "files", "result"), [(850, 10, "ok"), (950, 10, "warning"), (10, 4900, "warning")]
)
def test_a_quota_that_is_nearly_used_up_is_a_warning(
    site: Make, monkeypatch: pytest.MonkeyPatch, used: int, files: int, result: str
) -> None:
    text = LFS.format(used=used, soft=0, files=files)
    monkeypatch.setattr(quota, "of_folder", lambda _: quota.parse(text, "you"))
    assert quota.quota(site()).result == result


# clocks


@pytest.mark.parametrize(
    ("ahead", "result"),
    [(0, "ok"), (3, "ok"), (30, "warning"), (-30, "warning"), (120, "bad"), (-120, "bad")],
)
def test_a_clock_that_differs_from_the_file_servers_is_told(
    site: Make, ahead: float, result: str
) -> None:
    import time

    found = clock.clock(site(), lambda: time.time() + ahead)
    assert found.result == result
    if abs(ahead) > 5:
        assert found.found.startswith(("30 s ", "2 min "))
        assert ("behind" in found.found) == (ahead < 0)


# packages, ports and names


def test_a_node_with_other_packages_is_bad_and_named(
    site: Make, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.run.environment.installed_packages", lambda: ["torch==2.13"])
    with pytest.raises(NotChecked):
        packages.packages(site())
    write_text(run.environment, "torch==2.13\n")
    assert packages.packages(site()).result == "ok"
    write_text(run.environment, "torch==2.12\n")
    found = packages.packages(site())
    assert (found.result, found.of_node) == ("bad", True)
    assert "torch==2.12, torch==2.13" in found.found


def test_without_a_free_port_the_check_is_bad(site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    assert network.port(site()).result == "ok"
    monkeypatch.setattr(socket, "create_server", refuse)
    assert network.port(site()).result == "bad"


TWO = ("cluster.training.nodes=2", "training.global_batch=16")


def test_a_node_of_several_has_an_address_whatever_its_name_leads_to(
    site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(addresses, "interfaces", lambda: {"lo": "127.0.0.1", "ib0": "192.168.7.5"})
    assert network.address(site(*TWO)) == Finding("address", "ok", "192.168.7.5")
    with pytest.raises(NotChecked, match="loopback"):
        network.address(site())


def test_a_node_without_an_address_or_the_interface_is_bad(
    site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "interfaces", lambda: {"lo": "127.0.0.1"})
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert network.address(site(*TWO)).found == "none but loopback"
    found = network.address(site(*TWO, "cluster.training.interface=ib0"))
    assert (found.result, "has no such network interface" in found.found) == ("bad", True)


def of_two_nodes(
    site: Make, monkeypatch: pytest.MonkeyPatch, ahead: float = 0.0
) -> dict[str, list[Finding]]:
    """What two nodes find of each other, the clock of the second being so far ahead."""
    import time

    monkeypatch.setenv("EKIDEN_LOCAL_JOB", "check-0-x.0")
    monkeypatch.setenv(addresses.NODE_ADDRESS, "127.0.0.1")
    monkeypatch.setattr(node, "_POLL", 0.01)
    found: dict[str, list[Finding]] = {}
    both = site(*TWO)
    write_text(both.run.root / "nodes" / "check-0-x.0" / ".partial-0-mdx9.json", "")  # half written
    sites = [Site(both.run, both.recipe, both.cluster, name) for name in ("mdx1", "mdx2")]

    def look(one: Site) -> None:
        offset = ahead if one.node == "mdx2" else 0.0
        found[one.node] = [*node.neighbours(one, lambda: time.time() + offset)]

    threads = [threading.Thread(target=look, args=(one,)) for one in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_two_nodes_that_reach_each_other_are_well(
    site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = of_two_nodes(site, monkeypatch)
    assert [(one.name, one.result) for one in found["mdx1"]] == [("address", "ok"), ("clock", "ok")]
    assert found["mdx2"][0].found == "reaches mdx1"


def test_a_node_whose_clock_is_ahead_is_seen_by_the_other(
    site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = of_two_nodes(site, monkeypatch, ahead=60.0)
    (_, clocks) = found["mdx1"]
    assert (clocks.result, clocks.found[:7]) == ("warning", "mdx2 is")
    assert found["mdx2"][1].result == "ok"


def test_a_node_that_cannot_be_reached_is_bad(site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "of_node", lambda _: [])
    found = of_two_nodes(site, monkeypatch)
    assert (found["mdx1"][0].result, "it has no address" in found["mdx1"][0].found) == ("bad", True)


def test_a_node_that_writes_no_file_is_bad(site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKIDEN_LOCAL_JOB", "check-0-x.0")
    monkeypatch.setenv(addresses.NODE_ADDRESS, "127.0.0.1")
    (alone, _) = node.neighbours(site(*TWO), lambda: 0.0, patience=0.0)
    assert (alone.result, alone.found) == ("bad", "1 of 1 other node wrote no file in 0 s")


# DeepSpeed


def test_settings_that_make_deepspeed_compile_are_told(
    site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = site()
    assert deepspeed.deepspeed(here).result == "ok"
    nvme = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme"}}}
    training = here.recipe.training.model_copy(update={"deepspeed": nvme})
    recipe = here.recipe.model_copy(update={"training": training})
    slow = Site(here.run, recipe, here.cluster, "mdx1")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    found = deepspeed.deepspeed(slow)
    assert (found.result, "DS_BUILD_AIO=1" in found.remedy) == ("warning", True)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert deepspeed.deepspeed(slow).result == "bad"
    monkeypatch.setattr(deepspeed, "_built", lambda: {"async_io": True})
    assert deepspeed.deepspeed(slow).result == "ok"


@pytest.mark.parametrize(
    ("zero", "names"),
    [
        ({"offload_optimizer": {"device": "cpu"}}, []),
        ({"offload_param": {"device": "nvme"}}, ["async_io"]),
        ({"zenflow": {"topk_ratio": 0.1}}, ["cpu_adam"]),
        ({"zero_quantized_gradients": True}, ["quantizer"]),
    ],
)
def test_the_operators_of_a_deepspeed_file(zero: dict[str, Any], names: list[str]) -> None:
    assert [*deepspeed.operators({"zero_optimization": zero})] == names


def test_compiling_without_a_compiler_is_bad(site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotChecked):
        deepspeed.compiler(site())
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert deepspeed.compiler(site("training.compile=true")).result == "ok"
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert deepspeed.compiler(site("training.compile=true")).result == "bad"


# GPUs

OF_NVML = ("gpu_count", "gpu_model", "gpu_memory", "gpu_ecc", "gpu_throttling", "gpu_peers")


def found_on(site: Site) -> dict[str, Finding]:
    return {finding.name: finding for finding in catalogue.run(site, OF_NVML)}


def test_gpus_that_are_well(site: Make, nvml: Nvml) -> None:
    found = found_on(site(*GPUS, "cluster.training.accelerator=a100"))
    assert {name: one.result for name, one in found.items()} == dict.fromkeys(OF_NVML, "ok")


def lose(nvml: Nvml) -> None:
    nvml.lost.add(7)


def hold(nvml: Nvml) -> None:
    nvml.used[2], nvml.processes[2] = 42_490_000_000, [4242]


def corrupt(nvml: Nvml) -> None:
    nvml.ecc[3] = 2


def exhaust(nvml: Nvml) -> None:
    nvml.rows[5] = (3, 1, 0, 1)


def overheat(nvml: Nvml) -> None:
    nvml.throttled[1] = [nvml.nvmlClocksThrottleReasonHwThermalSlowdown]


def brake(nvml: Nvml) -> None:
    nvml.throttled[1] = [nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown]


@pytest.mark.parametrize(
    ("fault", "name", "words"),
    [
        (lose, "gpu_count", "GPU 7: given to this job"),
        (hold, "gpu_memory", "GPU 2: 42.5 GB of 42.5 GB in use by process 4242"),
        (corrupt, "gpu_ecc", "GPU 3: 2 uncorrectable memory errors"),
        (exhaust, "gpu_ecc", "GPU 5: a faulty row"),
        (overheat, "gpu_throttling", "GPU 1: slowed down by heat"),
        (brake, "gpu_throttling", "GPU 1: slowed down by its power supply"),
    ],
)
def test_a_fault_of_a_gpu_is_one_of_its_node(
    site: Make,
    nvml: Nvml,
    fault: Callable[[Nvml], None],
    name: str,
    words: str,
) -> None:
    fault(nvml)
    finding = found_on(site(*GPUS))[name]
    assert (finding.result, finding.of_node) == ("bad", True)
    assert finding.found.startswith(words)


def warm(nvml: Nvml) -> None:
    nvml.throttled[4] = [nvml.nvmlClocksThrottleReasonSwThermalSlowdown]


def pend(nvml: Nvml) -> None:
    nvml.rows[5] = (3, 1, 1, 0)


def part(nvml: Nvml) -> None:
    nvml.apart |= {(0, 1), (2, 3)}


def share(nvml: Nvml) -> None:
    nvml.used[0] = 3_000_000_000


def mix(nvml: Nvml) -> None:
    nvml.names[6] = "Tesla V100-SXM2-32GB"


@pytest.mark.parametrize(
    ("fault", "name"),
    [(warm, "gpu_throttling"), (pend, "gpu_ecc"), (part, "gpu_peers"), (share, "gpu_memory"),
     (mix, "gpu_model")],
)  # fmt: skip
def test_what_training_copes_with_is_a_warning(
    site: Make, nvml: Nvml, fault: Callable[[Nvml], None], name: str
) -> None:
    fault(nvml)
    assert found_on(site(*GPUS))[name].result == "warning"


@pytest.mark.parametrize(
    ("name", "accelerator", "result"),
    [("NVIDIA H100 PCIe", "h100-pcie", "ok"), ("NVIDIA H100 80GB HBM3", "h100-pcie", "warning"),
     ("NVIDIA H100 80GB HBM3", "a100", "warning"), ("Tesla T4", "t4", "ok")],
)  # fmt: skip
def test_the_model_of_the_cluster_file_is_recognised(
    site: Make, nvml: Nvml, name: str, accelerator: str, result: str
) -> None:
    nvml.names = [name] * 8
    at = site(*GPUS, f"cluster.training.accelerator={accelerator}", "training.precision=fp16")
    assert gpus.gpu_model(at).result == result


def test_only_gpus_that_the_job_was_given_are_looked_at(
    site: Make, nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrupt(nvml)
    hold(nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-1")
    found = found_on(site("cluster.device=cuda"))
    assert {one.result for one in found.values()} == {"ok"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-4f2a")
    skipped: list[str] = []
    assert [
        one.name for one in catalogue.run(site(*GPUS), OF_NVML, lambda n, _: skipped.append(n))
    ] == ["gpu_count"]
    assert skipped == [*OF_NVML[1:]]


def test_gpus_of_other_jobs_are_neither_lost_nor_counted(
    site: Make, nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.of_others = {0, 1, 2, 3}
    nvml.ecc[1] = 7
    two = site("cluster.device=cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # of the four that the job may use
    assert {one.result for one in found_on(two).values()} == {"ok"}
    nvml.ecc[5] = 7
    assert found_on(two)["gpu_ecc"].found.startswith("GPU 1: 7 ")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")  # numbers that NVML does not have here
    found = found_on(two)
    assert [*found] == ["gpu_count"]
    assert (found["gpu_count"].result, found["gpu_count"].of_node) == ("bad", False)


def test_fewer_gpus_than_ranks_are_bad_and_no_fault_of_the_node(
    site: Make, nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = gpus.gpu_count(site(*GPUS))
    assert (found.result, found.of_node, found.found) == ("bad", False, "2 GPUs for 8 ranks")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # Slurm may show each rank its own
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert gpus.gpu_count(site(*GPUS)).result == "ok"


def test_heat_that_passes_within_seconds_is_no_fault(site: Make, nvml: Nvml) -> None:
    nvml.throttled[1] = [nvml.nvmlClocksThrottleReasonHwThermalSlowdown] * 3 + [0]
    assert gpus.gpu_throttling(site(*GPUS)).result == "ok"


def test_without_a_driver_the_gpus_are_unknown(site: Make, nvml: Nvml) -> None:
    nvml.driver = False
    found = found_on(site(*GPUS))
    assert [*found] == ["gpu_count"]
    assert (found["gpu_count"].result, found["gpu_count"].of_node) == ("warning", False)


LOG = """[    1.0] NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64
[  900.1] NVRM: Xid (PCI:0000:3b:00): 31, pid=4242, name=python, Ch 00000008, intr 00000000
[ 1800.5] NVRM: Xid (PCI:0000:86:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
"""


@pytest.mark.parametrize(
    ("log", "result"),
    [(LOG, "bad"), (LOG[:-100], "ok"), (LOG.replace(": 79", ": 43"), "ok"), ("", "ok")],
)
def test_errors_of_the_hardware_in_the_kernels_log_are_told(
    site: Make, monkeypatch: pytest.MonkeyPatch, log: str, result: str
) -> None:
    monkeypatch.setattr(kernel_log, "_output", lambda *_: log)
    found = kernel_log.gpu_xid(site())
    assert found.result == result
    if result == "bad":
        assert found.found == "GPU 0000:86:00: XID 79, fallen off the bus"


def test_a_log_that_may_not_be_read_is_not_checked(
    site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"dmesg": None, "journalctl": LOG}
    monkeypatch.setattr(kernel_log, "_output", lambda name, *_: answers[name])
    assert kernel_log.gpu_xid(site()).result == "bad"
    answers["journalctl"] = None
    with pytest.raises(NotChecked):
        kernel_log.gpu_xid(site())


def test_slow_links_are_bad(site: Make) -> None:
    at = site(*GPUS)
    assert bandwidth.host_to_device(at, lambda: [25e9, 24e9]).result == "ok"
    found = bandwidth.host_to_device(at, lambda: [25e9, 6e9])
    assert (found.result, found.of_node) == ("bad", True)
    assert found.found == "GPU 1: 6.0 GB/s, the slowest of 2"
    assert bandwidth.all_reduce(at, lambda: (8, 235e9)).result == "ok"
    assert bandwidth.all_reduce(at, lambda: (8, 21e9)).result == "bad"
    low = site(*GPUS, "cluster.checks.host_to_device_gb_s=5", "cluster.checks.all_reduce_gb_s=20")
    assert bandwidth.host_to_device(low, lambda: [6e9]).result == "ok"
    assert bandwidth.all_reduce(low, lambda: (2, 21e9)).result == "ok"
    for check_of, nothing in ((bandwidth.host_to_device, []), (bandwidth.all_reduce, (1, 0.0))):
        with pytest.raises(NotChecked):
            check_of(at, lambda nothing=nothing: nothing)  # type: ignore[operator]


# Slurm's accounts

ROWS = "mine|normal,long\nmine|short\ntheirs|normal\n"


def account_of(
    monkeypatch: pytest.MonkeyPatch, site: Site, rows: str, enforce: str = "associations,limits"
) -> Finding:
    from kit.cluster.jobs import Job

    answers = {"sacctmgr": rows, "scontrol": f"AccountingStorageEnforce = {enforce}\n"}
    monkeypatch.setattr("kit.cluster.state.slurm", lambda name, *_: answers[name])
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    job = Job("train", start.before_attempt, resources="training")  # type: ignore[arg-type]
    return slurm.account(Site(site.run, site.recipe, site.cluster, "login", [job]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("account: mine", "qos: long"), None),
        (("qos: short",), None),
        (("account: ours",), "account ours of cluster.training: yours are mine, theirs"),
        (("account: theirs", "qos: long"), "QOS long of cluster.training: yours are normal"),
    ],
)
def test_an_account_or_qos_that_is_not_yours_is_bad(
    demo: Project,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
    words: str | None,
) -> None:
    at = of_slurm(demo, dict(option.split(": ") for option in given))
    found = account_of(monkeypatch, at, ROWS)
    assert (found.result, found.found) == (
        ("bad", words) if words else ("ok", "yours: mine, theirs")
    )


@pytest.mark.parametrize(("enforce", "result"), [("associations", "bad"), ("none", "ok")])
def test_without_any_account_jobs_are_refused_where_one_is_needed(
    demo: Project, monkeypatch: pytest.MonkeyPatch, enforce: str, result: str
) -> None:
    assert account_of(monkeypatch, of_slurm(demo, {}), "", enforce).result == result


def of_slurm(demo: Project, options: dict[str, str]) -> Site:
    cluster = Cluster.model_validate(
        {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2, "sbatch": options}}
    )
    return Site(demo.run, demo.recipe, cluster, "login")


# at the start of an attempt


@pytest.fixture
def starting(run: Run, site: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Start an attempt of a run with overrides, up to where the ranks meet."""
    monkeypatch.setenv("EKIDEN_LOCAL_JOB", "train-0-x.3")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("SLURMD_NODENAME", "mdx1")
    monkeypatch.setenv("LOCAL_RANK", "0")

    def begin(*overrides: str, name: str = "train") -> None:
        at = site(*overrides)
        write_json(run.recipe, at.recipe.model_dump(mode="json"))
        write_json(run.cluster, at.cluster.model_dump(mode="json"))
        start.before_attempt(run, name)

    return begin


def record_of(run: Run) -> records.Preflight:
    (path,) = run.preflights("train", "train-0-x.3")
    record: records.Preflight = read_json(path)
    return record


def test_a_healthy_start_is_not_refused_and_its_record_moves_to_the_attempt(
    run: Run, starting: Callable[..., None]
) -> None:
    starting()
    record = record_of(run)
    assert (record["verdict"], record["node"], record["job"]) == ("ok", "mdx1", "train-0-x.3")
    attempt = run.attempt(1)
    attempt.root.mkdir()
    records.adopt_preflight(run, attempt, "train-0-x.3")
    assert records.preflights(attempt) == [record]
    assert run.preflights("train", "train-0-x.3") == []


@pytest.mark.parametrize(("rank", "name"), [("1", "train"), ("0", "preprocess")])
def test_one_process_a_node_checks_and_only_for_the_training(
    run: Run,
    starting: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    rank: str,
    name: str,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    starting(name=name)
    assert run.preflights("train", "train-0-x.3") == []


def test_a_faulty_gpu_ends_the_start_and_the_record_names_the_node(
    run: Run, nvml: Nvml, starting: Callable[..., None]
) -> None:
    corrupt(nvml)
    with pytest.raises(JobFailed, match="node mdx1 is unfit: gpu_ecc: GPU 3: 2 uncorrectable"):
        starting(*GPUS)
    record = record_of(run)
    assert (record["node"], record["verdict"]) == ("mdx1", "bad")


def test_what_is_no_fault_of_the_node_does_not_refuse_a_start(
    run: Run, nvml: Nvml, starting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.statvfs", lambda _: Counts(0, 1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # torch will say it
    starting(*GPUS)
    record = record_of(run)
    assert record["verdict"] == "warning"
    warned = {one["name"] for one in record["checks"] if one["result"] == "warning"}
    assert warned == {"space", "inodes", "gpu_count"}


def test_a_start_goes_on_when_a_driver_does_not_answer(
    run: Run, nvml: Nvml, starting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(nvml, "nvmlInit", lambda: never.wait(60))
    monkeypatch.setattr(start, "_PATIENCE", 0.2)
    starting(*GPUS, "cluster.checks.skip=[space,inodes,create,rename]")
    never.set()
    last = record_of(run)["checks"][-1]
    assert (last["result"], last["found"]) == ("warning", "no answer in 0 s after clock")


def test_a_check_that_fails_itself_refuses_nothing(
    run: Run, starting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalogue.CHECKS, "clock", lambda site: 1 / 0)  # type: ignore[arg-type, return-value]
    starting()
    (odd,) = [one for one in record_of(run)["checks"] if one["result"] != "ok"]
    assert (odd["name"], odd["result"]) == ("clock", "warning")
    assert "ZeroDivisionError" in odd["found"]


# the table


def test_the_table_has_a_line_for_each_check_and_the_verdict_last(site: Make, run: Run) -> None:
    at = site("cluster.checks.skip=[quota,write_rate]")
    facts = check.facts(Project(run, at.recipe, at.cluster), on_cluster=True)
    assert {*facts} == {
        "recipe", "cluster", "verdict", "checks", "not_checked", "skip", "needs_node",
    }  # fmt: skip
    assert {*facts["checks"][0]} == {"name", "result", "found", "remedy", "node", "skip"}
    assert facts["skip"] == ["quota", "write_rate"]
    assert facts["needs_node"] == []
    facts["checks"][0] |= {"result": "bad", "remedy": "buy a larger disk"}
    facts["verdict"] = "bad"
    lines = [*check.lines(facts)]
    number = len(facts["checks"])
    assert lines[0].startswith("bad      ")
    assert lines[1].strip() == "-> buy a larger disk"
    assert lines[-1] == f"bad: {number} checks, 1 bad"
    assert lines[-2] == "to skip one: cluster.checks.skip=[host_memory]"
    assert "skipped: quota, write_rate" in lines
