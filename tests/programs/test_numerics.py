"""How torch computes, what is on record of it, and that dropout and the loss in chunks change nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers.modeling_outputs import BaseModelOutput

from kit.config.cluster import Cluster
from kit.data.tokens import TokenizerInfo
from kit.errors import ConfigError
from kit.training import attempt, bit_facts, numerics
from kit.training.attempt import RankInfo
from kit.training.device import Device
from kit.training.language_model import LanguageModel

from .test_engine import engine, state, step
from .test_gpu import machine as machine  # noqa: PLC0414  a fixture
from .test_training import loss_and_gradients

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Workdir

    from .test_gpu import Machine

CUBLAS, NCCL = "CUBLAS_WORKSPACE_CONFIG", "NCCL_ALGO"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's settings and the environment are put back afterwards."""
    for name in (CUBLAS, NCCL):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    torch.use_deterministic_algorithms(False)
    fills: Any = torch.utils.deterministic
    fills.fill_uninitialized_memory = True
    numerics.settle("cpu", deterministic=False)


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_products_in_fp32_are_fp32_whatever_was_set_before(settings: None, before: str) -> None:
    torch.set_float32_matmul_precision(before)
    torch.backends.cudnn.allow_tf32 = True
    numerics.settle("cpu", deterministic=False)
    kernels: Any = torch.backends  # what kernels ask, beside the older interface
    assert kernels.cuda.matmul.fp32_precision == kernels.mkldnn.matmul.fp32_precision == "ieee"
    assert "tf32" not in (kernels.cudnn.conv.fp32_precision, kernels.cudnn.rnn.fp32_precision)
    assert torch.get_float32_matmul_precision() == "highest"  # it raises where the two disagree
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (
        False,
        False,
    )


def test_torch_raises_where_its_two_interfaces_for_tf32_disagree(settings: None) -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with pytest.raises(RuntimeError, match="mix"):
        torch.get_float32_matmul_precision()


@pytest.mark.parametrize("deterministic", [True, False])
def test_attention_may_take_every_kernel_but_cudnns_in_deterministic_mode(
    settings: None, deterministic: bool
) -> None:
    for enable in ("flash", "mem_efficient", "math", "cudnn"):
        getattr(torch.backends.cuda, f"enable_{enable}_sdp")(enable == "cudnn")  # as a site might
    numerics.settle("cuda", deterministic=deterministic)
    rest = [] if deterministic else ["cudnn"]
    assert bit_facts.allowed_attention() == ["flash", "efficient", *rest, "math"]


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_kernels_are_asked_of_a_gpu(settings: None, deterministic: bool) -> None:
    numerics.settle("cuda", deterministic=deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    expected = (":4096:8", "^NVLS") if deterministic else (None, None)
    assert (os.environ.get(CUBLAS), os.environ.get(NCCL)) == expected
    fills: Any = torch.utils.deterministic
    assert fills.fill_uninitialized_memory != deterministic


def test_a_site_may_choose_among_what_is_deterministic(
    settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CUBLAS, ":16:8")
    monkeypatch.setenv(NCCL, "Tree")
    numerics.settle("cuda", deterministic=True)
    assert (os.environ[CUBLAS], os.environ[NCCL]) == (":16:8", "Tree")
    monkeypatch.setenv(CUBLAS, ":4096:2:16:8")
    with pytest.raises(
        ConfigError, match=f"{CUBLAS}=:4096:2:16:8: .* allows :4096:8 or :16:8 only"
    ):
        numerics.settle("cuda", deterministic=True)
    numerics.settle("cuda", deterministic=False)


def test_the_environment_is_complete_before_anything_is_asked_of_cuda(
    workdir: Workdir, machine: Machine, settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.put()
    asked: list[tuple[str | None, str | None]] = []
    for name in ("is_available", "device_count", "get_device_name", "set_device"):
        answer = getattr(torch.cuda, name)

        def watched(*given: Any, answer: Any = answer) -> Any:
            asked.append((os.environ.get(CUBLAS), os.environ.get(NCCL)))
            return answer(*given)

        monkeypatch.setattr(torch.cuda, name, watched)
    cluster = Cluster.model_validate(
        {"name": "c", "kind": "local", "device": "cuda", "training": {"ranks_per_node": 8}}
    )
    recipe = workdir.recipe("training.deterministic=true", "training.precision=bf16")
    attempt._device(recipe, cluster, RankInfo("job.0", 3, 8, 3, 1)).prepare()
    assert set(asked) == {(":4096:8", "^NVLS")}


def test_the_record_of_a_gpu_has_versions_driver_and_kernels(
    workdir: Workdir, machine: Machine, settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.put()
    driver = workdir.folder / "version"
    driver.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs)\n"
        "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
    )
    monkeypatch.setattr(bit_facts, "_DRIVER", driver)
    monkeypatch.setattr(bit_facts, "cublas", lambda _: "13.1.0")
    monkeypatch.setattr(
        bit_facts, "attention", lambda *_: "flash"
    )  # asks the kernels of a real GPU
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: machine.name)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 29, 7))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    numerics.settle("cuda", deterministic=True)
    found = bit_facts.of_rank(workdir.recipe("training.deterministic=true"), Device("cuda", 0))
    assert found["environment"] == {CUBLAS: ":4096:8", NCCL: "^NVLS"}
    facts = found["facts"]
    assert {
        "device": "NVIDIA A100-SXM4-40GB", "driver": "580.95.05", "cuda": "13.0", "cublas": "13.1.0",
        "cudnn": "91900", "nccl": "2.29.7", "deterministic": "true", "attention": "flash",
        "attention_allowed": "flash, efficient, math", "fp32_products": "ieee", "bf16_sums": "true",
    }.items() <= facts.items()  # fmt: skip
    assert "isa" not in facts  # a CPU computes nothing here
    offload = "training.deepspeed={zero_optimization: {stage: 2, offload_optimizer: {device: cpu}}}"
    assert "isa" in bit_facts.of_rank(workdir.recipe(offload), Device("cuda", 0))["facts"]


def test_the_version_of_a_driver_is_read_or_unknown(tmp_path: Path) -> None:
    path = tmp_path / "version"
    assert bit_facts.driver(path) == "unknown"
    path.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Sat Feb 24\n")
    assert bit_facts.driver(path) == "535.161.08"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_cublas_is_asked_for_its_own_version(tmp_path: Path) -> None:
    source, library, maps = (tmp_path / name for name in ("c.c", "libcublas.so.13", "maps"))
    source.write_text(
        "int cublasGetProperty(int k, int *v) { *v = k == 0 ? 13 : k == 1 ? 2 : 44; return 0; }"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    maps.write_text(
        "7f00-7f01 r-xp 00000000 08:01 17                /usr/lib/libcublasLt.so.13\n"
        f"7f02-7f03 r-xp 00000000 08:01 18                {library}\n"
    )
    assert bit_facts.cublas(maps) == "13.2.44"
    maps.write_text("7f00-7f01 r-xp 00000000 08:01 17                /usr/lib/libcublasLt.so.13\n")
    assert bit_facts.cublas(maps) == "unknown"


@pytest.mark.parametrize(
    ("override", "kernel"),
    [
        ("model.dropout=0", "flash"),
        ("model.dropout=0.1", "math"),
        ("model.attention=eager", "eager"),
    ],
)
def test_the_record_has_the_attention_kernel_that_torch_takes(
    workdir: Workdir, settings: None, override: str, kernel: str
) -> None:
    recipe = workdir.recipe("training.precision=fp32", override)
    assert bit_facts.of_rank(recipe, Device("cpu", 0))["facts"]["attention"] == kernel


def test_a_kernel_that_may_not_be_taken_is_not(workdir: Workdir, settings: None) -> None:
    torch.backends.cuda.enable_flash_sdp(False)
    recipe = workdir.recipe("training.precision=fp32", "model.dropout=0")
    assert bit_facts.attention(recipe, Device("cpu", 0)) == "math"


DROPOUT = ("model.dropout=0.5", "model.n_layer=2")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_dropout_repeats_when_activations_are_computed_again(
    workdir: Workdir, attention: str
) -> None:
    given = (*DROPOUT, f"model.attention={attention}")
    loss, gradients = loss_and_gradients(workdir, *given)
    again, found = loss_and_gradients(workdir, *given, "model.activation_checkpointing=true")
    other, _ = loss_and_gradients(workdir, *given[1:], "model.dropout=0.4")
    assert again == loss != other
    assert len(found) == len(gradients)
    assert all((one == two).all() for one, two in zip(found, gradients, strict=True))


def test_dropout_repeats_after_a_resume_in_recomputed_activations_too(
    workdir: Workdir, alone: None, tmp_path: Path
) -> None:
    given = (*DROPOUT, "model.activation_checkpointing=true")
    one = engine(workdir, *given)
    step(one, 0)
    state(one, 1, tmp_path / "state")
    step(one, 2)
    torch.rand(7)  # another process has drawn other numbers
    other = engine(workdir, *given)
    other.load(tmp_path / "state", 1)
    step(other, 2)
    assert state(other, 2, tmp_path / "other") == state(one, 2, tmp_path / "one")
    plain = engine(workdir, *DROPOUT)
    plain.load(tmp_path / "state", 1)
    step(plain, 2)
    assert state(plain, 2, tmp_path / "plain") == state(one, 2, tmp_path / "again")


VOCABULARY = TokenizerInfo(50, begin=1, end=2)


@pytest.mark.parametrize("chunk", [1, 5, 24, 1000])
def test_a_loss_in_bf16_is_summed_in_fp32_and_its_gradient_rounded_once_a_chunk(
    workdir: Workdir, chunk: int
) -> None:
    recipe = workdir.recipe(
        "model.n_positions=8", "model.dropout=0", f"training.loss_chunk={chunk}"
    )
    torch.manual_seed(0)
    model = LanguageModel(recipe, VOCABULARY).bfloat16()
    hidden = torch.randn(24, recipe.model.n_embd, dtype=torch.bfloat16)
    model.decoder.forward = lambda _: BaseModelOutput(hidden.view(3, 8, -1))
    blocks = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    loss = model(blocks)
    loss.backward()
    head = model.causal.lm_head.weight
    exact = head.detach().double().requires_grad_()
    logits = hidden.double() @ exact.T
    expected = F.cross_entropy(logits, blocks[:, 1:].flatten())
    expected.backward()
    assert loss.dtype == torch.float32
    # A logit is rounded to 8 bits, and moves the loss of its token twice at most: by the sum over the
    # vocabulary, and as the label. Sums in fp32 add nothing that counts.
    assert abs(float((loss - expected).detach())) <= 2 * 2**-9 * float(logits.detach().abs().max())
    # The gradient of each chunk is rounded, and so is each of their sums.
    chunks = -(-24 // chunk)
    scale = (logits.softmax(-1).T @ hidden.double().abs()).amax() / 24 + hidden.abs().amax() / 24
    assert (
        head.grad.double() - exact.grad
    ).abs().max() <= 2 * chunks * 2**-9 * scale + 2**-8 * scale
