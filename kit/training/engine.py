"""DeepSpeed's ZeRO engine: the only door to it."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import torch

from kit.models import gpt2
from kit.training import noise, zero
from kit.training.host_copy import HostCopy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from kit.config.recipe import Recipe
    from kit.data.tokens import TokenizerInfo
    from kit.training.device import Device

# AdamW's, of a group of parameters; its learning rate is set before each update.
_HYPERPARAMETERS = ("betas", "eps", "weight_decay")
_ACCELERATOR = "DS_ACCELERATOR"
_WHOLE_MODEL = "mp_rank_00_model_states.pt"
# Dynamic loss scaling of fp16: from 2^16, halved at the second overflow in a row of steps, doubled after a
# thousand steps without one. DeepSpeed's own defaults, and those of HF's examples.
_LEAST_SCALE = 1
_LOSS_SCALE = {
    "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16, "hysteresis": 2,
    "min_loss_scale": _LEAST_SCALE,
}  # fmt: skip


class Engine:
    """The model under ZeRO, one optimizer step at a time."""

    def __init__(
        self,
        recipe: Recipe,
        device: Device,
        accumulation: int,
        vocabulary: TokenizerInfo,
        *,
        universal: bool = False,
    ) -> None:
        """`universal`: `load` is given what `convert` made."""
        deepspeed = _import_deepspeed(device.kind)
        self.device = device.prepare(deterministic=recipe.training.deterministic)
        deepspeed.init_distributed(dist_backend=device.backend, auto_mpi_discovery=False)
        torch.manual_seed(recipe.training.seed)  # the same weights on every rank
        model = gpt2.LanguageModel(recipe, vocabulary)
        training = recipe.training
        if training.compile:
            model.gpt2.transformer.compile()  # in place: the names of the weights stay
        self._optimizer = _GuardedAdamW(
            gpt2.parameter_groups(model, training),
            lr=training.learning_rate,
            betas=(training.beta1, training.beta2),
            eps=training.epsilon,
            fused=device.is_gpu or None,
        )
        self._hyperparameters = [
            {key: group[key] for key in _HYPERPARAMETERS} for group in self._optimizer.param_groups
        ]
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=self._optimizer,
            config=configuration(recipe, accumulation) | _universal(universal),
        )
        self._clip = training.clip
        if self._engine.optimizer is self._optimizer:  # fp32 without ZeRO: DeepSpeed keeps no norm
            self._engine._config.gradient_clipping = 0.0
            self._optimizer.clip = training.clip
        if recipe.training.precision == "fp16":
            # At the smallest scale an overflow is a bad step, and `health` decides.
            self._scaler.raise_error_at_min_scale = False
        self._copy = _Capture(HostCopy(pinned=device.is_gpu))
        self._engine.checkpoint_engine = self._copy
        self._engine._copy_recovery_script = lambda _: None  # jobs.export is the way to weights
        self._overflowed = False
        self._accumulation = accumulation
        self._synchronize = device.synchronize

    def micro_batch(self, blocks: Tensor, seed: int, *, last: bool) -> Tensor:
        """Forward and backward; returns the loss, detached. `seed` decides dropout.

        The `last` micro-batch of a step is followed by `update`.
        """
        if not self._engine.module.training:  # after a validation; it goes through every layer
            self._engine.train()
        torch.manual_seed(seed)
        loss: Tensor = self._engine(blocks.to(self.device))
        self._engine.backward(loss)
        if not last:
            self._engine.step()  # counts it, and goes on to accumulate
        return loss.detach().float()

    def update(self, accept: Callable[[float], bool]) -> float:
        """The update that ends a step, if `accept` takes the gradient's norm before clipping.

        Returns that norm: the same on all ranks, not finite where the gradient is not.
        """
        scale = self.loss_scale
        self._optimizer.accept = lambda: accept(self._norm())
        self._engine.step()
        self._optimizer.accept = None
        norm = self._norm()
        self._overflowed = scale is not None and scale > _LEAST_SCALE and not math.isfinite(norm)
        return norm

    @property
    def loss_scale(self) -> float | None:
        """In fp16 the factor of the next loss, which keeps small gradients above zero; else None."""
        return float(self._scaler.cur_scale) if self._engine.fp16_enabled() else None

    @property
    def overflowed(self) -> bool:
        """Whether the last update was left out as the gradient was too large at its loss scale.

        Not where the scale could not be smaller: then the gradient itself is not finite.
        """
        return self._overflowed

    @torch.no_grad()
    def validate(self, blocks: Tensor) -> Tensor:
        """The loss without dropout and without a trace."""
        self._engine.eval()
        loss: Tensor = self._engine(blocks.to(self.device))
        return loss.float()

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next update."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate

    def parameters(self) -> int:
        """The number of weights, those of a padded vocabulary too."""
        return sum(
            getattr(parameter, "ds_numel", parameter.numel())  # under ZeRO-3 a rank holds a part
            for parameter in self._engine.module.parameters()
        )

    def state_bytes(self) -> int:
        """About the size of a checkpoint: the weights, and three fp32 values of AdamW for each."""
        held: int = self._engine.get_data_types()[0].itemsize
        return self.parameters() * (12 + held)

    def capture(self, step: int) -> dict[str, Any]:
        """This rank's part of the state after `step` full steps, by file name. A collective.

        It is a copy in host memory, and stands until the next is captured. Gradients of a step that
        is not finished are not part of it: the counter of micro-batches is put back to the last
        full step.
        """
        self._count(step)
        self._engine.save_checkpoint("state", tag="state", save_latest=False)
        self._synchronize()
        return self._copy.taken()

    def load(self, folder: Path, step: int) -> None:
        """Read a checkpoint of `step` full steps. A collective.

        Weights, moments and the loss scale are the checkpoint's, all else is the recipe's.
        """
        path, _ = self._engine.load_checkpoint(str(folder.parent), tag=folder.name)
        assert path is not None, folder
        self._keep_to_recipe()
        if self._engine.load_universal_checkpoint():
            self._part_counters()
        self._count(step)  # by the accumulation of this world size

    def _keep_to_recipe(self) -> None:
        """Put back what DeepSpeed takes from a checkpoint though the recipe says it.

        A fork's recipe may say something else; and from a universal checkpoint ZeRO-3 gives every
        group the weight decay of the first.
        """
        optimizer = self._engine.optimizer
        for group, own in zip(optimizer.param_groups, self._hyperparameters, strict=True):
            group.update(own)
        if hasattr(optimizer, "clip_grad"):  # ZeRO's, and bf16's without ZeRO
            optimizer.clip_grad = self._clip

    def _part_counters(self) -> None:
        """Give each group a step counter of its own.

        From a universal checkpoint ZeRO-3 (DeepSpeed 0.19.8) gives all of them one tensor, which each
        group's update would advance: AdamW's bias correction would be that of another step.
        """
        for held in self._optimizer.state.values():
            held["step"] = held["step"].clone()

    def _count(self, step: int) -> None:
        """Set DeepSpeed's counters, which are in a checkpoint, to `step` full steps."""
        self._engine.micro_steps = step * self._accumulation
        self._engine.global_steps = step
        self._engine.global_samples = step * self._engine.train_batch_size()
        self._engine.skipped_steps = 0  # the ledger has them

    @property
    def _scaler(self) -> Any:
        """DeepSpeed's loss scaler: another object after each load."""
        return self._engine.optimizer.loss_scaler

    def _norm(self) -> float:
        if self._optimizer.clip is not None:
            return self._optimizer.norm
        norm = float(self._engine.optimizer._global_grad_norm)
        return norm if norm >= 0 else math.nan  # DeepSpeed's -1: not finite


def configuration(recipe: Recipe, accumulation: int) -> dict[str, Any]:
    """DeepSpeed's configuration: the recipe's file, and what the recipe itself says.

    Raises ConfigError as `zero.check`.
    """
    training = recipe.training
    zero.check(training)
    assert isinstance(training.deepspeed, dict)
    return {
        "train_micro_batch_size_per_gpu": training.micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": training.clip,
        "bf16": {"enabled": training.precision == "bf16"},
        "fp16": {"enabled": training.precision == "fp16", **_LOSS_SCALE},
        "data_types": {"grad_accum_dtype": training.gradient_dtype},
        "zero_allow_untested_optimizer": True,
        **training.deepspeed,
    }


def convert(state: Path, universal: Path) -> None:
    """Make a checkpoint's `state` fit any world size: DeepSpeed's universal checkpoint.

    Raises RuntimeError with the converter's last line where it fails.
    """
    module = "deepspeed.checkpoint.ds_to_universal"
    folders = ["--input_folder", str(state), "--output_folder", str(universal)]
    more = ["--inject_missing_state", "--num_extract_workers", "1", "--num_merge_workers", "1"]
    command = [sys.executable, "-m", module, *folders, *more]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {_ACCELERATOR: "cpu"},  # it moves files; no GPU need be free
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"{module}: {said[-1] if said else done.returncode}")


def preload(kind: str = "cpu") -> None:
    """Import what an engine on such a device needs, and what torch's AdamW imports at its first step."""
    for name in ("transformers.models.gpt2.modeling_gpt2", "torch._dynamo"):
        importlib.import_module(name)
    _import_deepspeed(kind)


def weights(state: Path) -> dict[str, Tensor]:
    """The model's weights in a checkpoint's `state`, by name, on the CPU; under ZeRO-3 put together."""
    if (state / _WHOLE_MODEL).is_file():
        held = torch.load(state / _WHOLE_MODEL, map_location="cpu", weights_only=False)
        return dict(held["module"])
    _import_deepspeed("cpu")
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    return dict(get_fp32_state_dict_from_zero_checkpoint(str(state.parent), tag=state.name))


class _GuardedAdamW(torch.optim.AdamW):
    """AdamW that asks before it updates: by then DeepSpeed knows the gradient's norm."""

    accept: Callable[[], bool] | None = None
    clip: float | None = None  # set where DeepSpeed neither clips nor keeps the norm
    norm: float = 0.0

    def step(self, closure: Any = None) -> Any:
        if self.clip is not None:
            held = [p for group in self.param_groups for p in group["params"]]
            self.norm = float(torch.nn.utils.clip_grad_norm_(held, self.clip))
        if self.accept is not None and not self.accept():
            return None
        return super().step(closure)


class _Capture:
    """Stands where DeepSpeed has its writer of checkpoints (its CheckpointEngine, version 0.19.8)."""

    def __init__(self, copy: HostCopy) -> None:
        self._copy = copy
        self._taken: dict[str, Any] = {}

    def taken(self) -> dict[str, Any]:
        taken, self._taken = self._taken, {}
        return taken

    def save(self, state_dict: Any, path: str) -> None:
        name = path.rsplit("/", 1)[-1]
        self._taken[name] = self._copy.take(name, state_dict)

    def load(self, path: str, map_location: Any = None) -> Any:
        return torch.load(path, map_location=map_location, weights_only=False)

    def create(self, info: object) -> None: ...

    def makedirs(self, path: str, exist_ok: bool = False) -> None: ...

    def commit(self, info: object) -> None: ...

    def is_decoupled(self) -> bool:
        return False


def _universal(wanted: bool) -> dict[str, Any]:
    return {"checkpoint": {"load_universal": True}} if wanted else {}


def _import_deepspeed(kind: str) -> Any:
    """DeepSpeed for a device, whatever else the machine has, and without what is not needed here.

    By itself it would take the GPU of any machine that has one, and on a CPU compile an extension that
    serves inference only. For an autotuner it would import MLflow, and for an optimizer (Muon, whose
    functions are compiled) torch's compiler: together four seconds of each start.
    """
    os.environ[_ACCELERATOR] = kind
    with _absent("mlflow"), _uncompiled():
        import deepspeed
        import deepspeed.runtime.zero.muon.original_muon

    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    if kind == "cpu":  # torch computes fp16 on every CPU, where oneDNN cannot, slowly
        deepspeed.get_accelerator().is_fp16_supported = lambda: True
    return noise.leave_out(deepspeed)


@contextlib.contextmanager
def _absent(module: str) -> Iterator[None]:
    """Within the block an import of the module fails, if it was not imported before."""
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]


@contextlib.contextmanager
def _uncompiled() -> Iterator[None]:
    """Within the block `@torch.compile` leaves a function as it is."""
    compiler = torch.compile
    torch.compile = lambda function=None, **_: function or (lambda given: given)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compiler
