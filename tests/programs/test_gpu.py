"""A machine with a GPU, pretended: what torch would say of one is put in its place.

No kernel runs here. What is shown is what the kit decides: whether the GPU is taken, which, and what it
says where it cannot be.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
import torch.distributed as dist

from kit.config.recipe import Health
from kit.errors import ConfigError
from kit.store.files import append_line, write_json
from kit.training import device, flight_recorder, last_resort
from kit.training.attempt import RankInfo, _out_of_memory_explained
from kit.training.collectives import Collectives
from kit.training.device import Device
from kit.training.interruption import Interruption
from tests.conftest import ROOT, new_workdir

from .test_command import refused

if TYPE_CHECKING:
    from kit.store.paths import Run
    from tests.conftest import Workdir


class Machine:
    """What torch says of a machine with GPUs."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.count, self.name, self.capability = 8, "NVIDIA A100-SXM4-40GB", (8, 0)
        self.architectures = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_120"]
        self.available, self.cuda = True, "13.0"

    def put(self) -> None:
        """Into the place of the real answers."""
        cuda = torch.cuda
        self._patch.setattr(torch.version, "cuda", self.cuda)
        for name, value in {
            "is_available": lambda: self.available,
            "device_count": lambda: self.count,
            "get_device_name": lambda _: self.name,
            "get_device_capability": lambda _: self.capability,
            "get_arch_list": lambda: self.architectures,
            "set_device": self.taken.append,
            "reset_peak_memory_stats": lambda _: None,
        }.items():
            self._patch.setattr(cuda, name, value)

    @property
    def taken(self) -> list[int]:
        """The GPUs that were chosen."""
        return self.__dict__.setdefault("_taken", [])


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "?")  # put back afterwards
    return Machine(monkeypatch)


def problem(machine: Machine, precision: str = "bf16", gpus: int = 8) -> str:
    machine.put()
    with pytest.raises(ConfigError) as caught:
        device.check(precision, gpus)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_machine_that_can_train_is_no_problem(machine: Machine) -> None:
    machine.put()
    device.check("bf16", 8)


def test_a_cpu_build_is_told_as_one(machine: Machine) -> None:
    machine.cuda = None  # type: ignore[assignment]
    assert "is built for the CPU; install a CUDA build" in problem(machine)


def test_a_driver_that_is_too_old_is_told_in_torchs_words(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        raise RuntimeError(
            "The NVIDIA driver on your system is too old (found version 12020).\nPlease update"
        )

    machine.available = False
    monkeypatch.setattr(torch.cuda, "init", init)
    said = problem(machine)
    assert "built for CUDA 13.0: The NVIDIA driver on your system is too old (found version" in said


def test_more_ranks_than_gpus_are_refused(machine: Machine) -> None:
    machine.count = 4
    assert "8 ranks per node, but torch sees 4 GPUs" in problem(machine)


def test_a_gpu_that_torch_is_not_built_for_is_refused(machine: Machine) -> None:
    machine.name, machine.capability = "Tesla V100", (7, 0)
    assert "is built for 7.5 and up; install a build for an older CUDA" in problem(machine, "fp16")


def test_bf16_on_a_gpu_without_it_is_refused_and_fp16_is_not(machine: Machine) -> None:
    machine.name, machine.capability = "Tesla T4", (7, 5)
    assert "bf16 needs 8.0; use training.precision=fp16" in problem(machine)
    device.check("fp16", 8)


@pytest.mark.parametrize(
    ("count", "local_rank", "index"), [(8, 3, 3), (1, 3, 0)], ids=["all are seen", "its own is"]
)
def test_a_rank_takes_its_own_gpu_and_deepspeed_is_told_which(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    local_rank: int,
    index: int,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    machine.count = count
    machine.put()
    rank = Device("cuda", local_rank)
    rank.check("bf16")
    assert rank.prepare() == torch.device("cuda", index)
    assert machine.taken == [index]
    assert os.environ["LOCAL_RANK"] == str(index)


def test_dropout_is_seeded_on_the_host_and_on_the_gpu_of_the_rank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    torch.manual_seed(7)
    expected = torch.rand(3)
    for kind in ("cuda", "cpu"):
        Device(kind, 0).seed(7)
        assert torch.equal(torch.rand(3), expected)
    assert seeds == [7]


def test_without_slurm_one_gpu_is_not_shared_by_two_ranks(machine: Machine) -> None:
    machine.count = 1
    machine.put()
    with pytest.raises(ConfigError, match="2 ranks per node, but torch sees 1 GPU"):
        Device("cuda", 1).check("bf16")


@pytest.mark.skipif(torch.version.cuda is not None, reason="of a CPU build")
def test_training_on_gpus_with_a_cpu_build_is_refused_in_one_line_before_anything_is_made(
    workdir: Workdir,
) -> None:
    name = ("--cluster", str(ROOT / "configs/cluster/local-gpu.yaml"))
    for module, verb in (("jobs.pipeline", "submit"), ("jobs.train", "run")):
        assert "is built for the CPU" in refused(workdir, module, verb, *name)
    assert not workdir.workspace.root.exists()


def test_fewer_gpus_than_ranks_in_the_cluster_file_are_a_mistake(workdir: Workdir) -> None:
    sections = {"training": {"ranks_per_node": 8, "gpus_per_node": 4}}
    path = workdir.write("gpus.yaml", {"name": "g", "kind": "slurm", "device": "cuda", **sections})
    line = refused(workdir, "jobs.train", "submit", "--cluster", str(path))
    assert "each rank needs its own GPU" in line


def test_memory_that_ends_before_the_first_step_is_the_users_mistake_and_later_a_crash(
    workdir: Workdir, run: Run
) -> None:
    recipe, attempt = workdir.recipe(), run.attempt(1)
    write_json(attempt.start, {"from_step": 0})
    place = RankInfo("job.0", 3, 8, 3, 1)
    short = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")
    with (
        pytest.raises(ConfigError, match=r"micro_batch=2: .* of rank 3 \(CUDA out of memory\)"),
        _out_of_memory_explained(recipe, attempt, place),
    ):
        raise short
    with (
        pytest.raises(
            ConfigError, match=r"rank 3 \(can't allocate memory: you tried to allocate 4"
        ),
        _out_of_memory_explained(recipe, attempt, place),
    ):
        torch.empty(10**15)  # a CPU has a limit too
    with (
        pytest.raises(RuntimeError, match="size of tensor"),
        _out_of_memory_explained(recipe, attempt, place),
    ):
        torch.zeros(2) + torch.zeros(3)
    append_line(attempt.ledger, json.dumps({"kind": "step", "step": 1}))
    with pytest.raises(torch.OutOfMemoryError), _out_of_memory_explained(recipe, attempt, place):
        raise short


# A rank on a CPU, on a machine whose torch sees a GPU: DeepSpeed by itself would take that.
_ON_A_CPU = """
import json, os, sys
import torch
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1
import torch.distributed as dist
from kit.config.recipe import Recipe
from kit.data.tokens import TokenizerInfo
from kit.training.collectives import Collectives
from kit.training.device import Device
from kit.training.engine import Engine
from kit.training.interruption import Interruption
from kit.training.verdict import Limits
ranks = Collectives.join(Device("cpu", 0), dist.HashStore(), 0, 1, Interruption())
recipe = Recipe.model_validate(json.loads(sys.argv[1]))
engine = Engine(recipe, Device("cpu", 0), 1, TokenizerInfo(50, begin=1, end=2))
loss = engine.micro_batch(torch.zeros(2, 17, dtype=torch.int64), 1, last=True)
engine.update(loss, Limits())
import deepspeed
print(loss.device, deepspeed.get_accelerator().device_name(), os.environ["DS_ACCELERATOR"])
groups = dist.distributed_c10d._world.pg_map
print(len(groups), *{g._get_backend(torch.device("cpu")).options._timeout.days for g in groups})
ranks.leave()
print(len(groups), dist.is_initialized())
"""


@pytest.fixture(scope="module")
def on_a_cpu(tmp_path_factory: pytest.TempPathFactory, streams: list[bytes]) -> list[str]:
    """The lines that the program above prints, in an environment without MASTER_ADDR."""
    recipe = new_workdir(tmp_path_factory.mktemp("on-a-cpu"), streams).recipe()
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    own = {name: value for name, value in os.environ.items() if not name.startswith("MASTER_")}
    done = subprocess.run(
        [sys.executable, "-c", _ON_A_CPU, recipe.model_dump_json()],
        cwd=ROOT, capture_output=True, text=True, check=False, env=own | place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_training_on_a_cpu_leaves_the_gpu_of_the_machine_alone(on_a_cpu: list[str]) -> None:
    assert on_a_cpu[-3] == "cpu cpu cpu"


def test_no_group_has_a_time_limit_of_its_own_those_of_deepspeed_included(
    on_a_cpu: list[str],
) -> None:
    groups, *days = on_a_cpu[-2].split()
    assert int(groups) > 2  # the default one, that of the decisions, and DeepSpeed's
    assert days == ["365"]


def test_all_groups_are_taken_down_at_the_end(on_a_cpu: list[str]) -> None:
    assert on_a_cpu[-1] == "0 False"


class Connected(NamedTuple):
    """What a process group was made with, and the GPUs that had been chosen by then."""

    backend: str | None
    device_id: torch.device | None
    taken: list[int]


@pytest.mark.parametrize(("ranks", "bound"), [(2, torch.device("cuda", 1)), (1, None)])
def test_a_rank_chooses_its_gpu_before_nccl_connects_and_tells_nccl_which(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, ranks: int, bound: torch.device | None
) -> None:
    machine.put()
    groups: list[Connected] = []

    def connect(backend: str | None = None, **given: Any) -> Any:
        groups.append(Connected(backend, given.get("device_id"), list(machine.taken)))
        return SimpleNamespace(bound_device_id=bound)

    monkeypatch.setattr(dist, "init_process_group", connect)
    monkeypatch.setattr(dist, "new_group", connect)
    for name in ("default_pg_timeout", "default_pg_nccl_timeout"):  # put back afterwards
        monkeypatch.setattr(dist.distributed_c10d, name, None)
    rank = ranks - 1
    joined = Collectives.join(Device("cuda", 1), dist.HashStore(), rank, ranks, Interruption())
    assert groups == [Connected("nccl", bound, [1]), Connected("gloo", None, [1])]
    assert joined.control.bound_device_id is None  # decisions stay on the CPU


def test_nccls_own_watchdog_comes_after_ours_and_writes_into_the_attempt(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (*flight_recorder._DUMP, heartbeat := flight_recorder._HEARTBEAT)
    for name in names:
        monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv(name)
    attempt = run.attempt(3)
    rules = Health(hang_seconds=5000, start_seconds=1800)
    flight_recorder.set_up(attempt, rules)
    assert os.environ[names[0]] == str(attempt.root / "flight-nccl-rank-")
    assert int(os.environ[heartbeat]) > 5000 + last_resort._SPARE
    assert names[1] not in os.environ
    monkeypatch.delenv(names[0])
    monkeypatch.setenv(names[1], "/local/trace-")  # the site's, by its older name
    monkeypatch.setenv(heartbeat, "300")
    flight_recorder.set_up(attempt, rules)
    assert names[0] not in os.environ
    assert os.environ[heartbeat] == "300"


@pytest.mark.parametrize("name", [*flight_recorder._DUMP, "TORCH_FR_BUFFER_SIZE"])
def test_torch_knows_the_names_of_the_flight_recorder(name: str) -> None:
    (library,) = Path(torch.__file__).parent.glob("lib/libtorch_cpu.so")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as binary:
        assert binary.find(name.encode() + b"\0") > 0
