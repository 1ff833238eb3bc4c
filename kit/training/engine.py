"""DeepSpeed's ZeRO engine: the only door to it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import sys
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from kit.plan.memory import checkpoint_bytes
from kit.training import (
    gradients,
    language_model,
    loss_kernel,
    noise,
    optimizer,
    state_files,
    zero,
)
from kit.training.adamw import own_step_counters
from kit.training.clipping import Clipping
from kit.training.deepspeed_files import Exchange, to_come
from kit.training.language_model import LanguageModel
from kit.training.profiler import REDUCTION, mark, part
from kit.training.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from kit.config.recipe import Recipe
    from kit.data.tokens import TokenizerInfo
    from kit.training.device import Device
    from kit.training.file_in_memory import FileInMemory
    from kit.training.verdict import Limits

# The optimizer's, per parameter group; the learning rate is set before each update. Checkpoints have them
# too, with the kernel of the device that saved them.
_HYPERPARAMETERS = ("betas", "eps", "momentum", "weight_decay", "fused")
_ACCELERATOR = "DS_ACCELERATOR"
# Dynamic loss scaling of fp16: starts at 2^16, halved at the second overflow in a row, doubled after a
# thousand steps without one. DeepSpeed's defaults, also used in HF's examples.
_MIN_SCALE = 1
_LOSS_SCALE = {
    "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16, "hysteresis": 2,
    "min_loss_scale": _MIN_SCALE,
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
        to_load: bool = False,
        universal: bool = False,
    ) -> None:
        """`to_load`: `load` is called next, so draw no weights; `universal`: on what `convert` made."""
        loss_kernel.check(recipe.training, device.kind)
        deepspeed = import_deepspeed(device.kind)
        self.device = device.prepare()
        deepspeed.init_distributed(dist_backend=device.backend, auto_mpi_discovery=False)
        model = _model(recipe, vocabulary, to_load_weights=to_load or universal)
        training = recipe.training
        self._optimizer = optimizer.of(model, training, fused=device.is_gpu or None)
        self._hyperparameters = [
            {key: group[key] for key in _HYPERPARAMETERS if key in group}
            for group in self._optimizer.param_groups
        ]
        chosen = configuration(recipe, accumulation)
        zero.bound_buckets(chosen, sum(weight.numel() for weight in model.parameters()))
        self._optimizer.building = True
        self._engine, *_ = deepspeed.initialize(
            model=model, optimizer=self._optimizer, config=chosen | _universal(universal)
        )
        self._optimizer.building = False
        for owner, method in gradients.reductions(self._engine):
            mark(owner, method, REDUCTION)
        self._clipping = Clipping(self._engine, self._optimizer, training.clip)
        if recipe.training.precision == "fp16":
            # At the smallest scale an overflow is a bad step, and `health` decides.
            self._scaler.raise_error_at_min_scale = False
        self._files = Exchange(device, lambda: import_deepspeed(device.kind))
        self._engine.checkpoint_engine = self._files
        self._engine._copy_recovery_script = lambda _: None  # jobs.export extracts the weights
        self._overflowed = False
        self._accumulation = accumulation
        self._of_rank = device
        self.forward = device.stopwatch()  # of the forward passes of a step

    def micro_batch(self, blocks: Tensor, seed: int, *, last: bool) -> Tensor:
        """Run forward and backward; returns the detached losses. `seed` determines dropout.

        Losses are fp32 [1], the cross-entropy, with z-loss [2].

        `blocks` are staged (`Device.staged`): then nothing here waits for the device.
        Call `update` after the `last` micro-batch of a step.
        """
        if not self._engine.module.training:  # only after a validation: it walks every layer
            self._engine.train()
        self._of_rank.seed(seed)
        blocks = self._of_rank.send(blocks)
        with part("forward"), self.forward:
            loss: Tensor = self._engine(blocks)
        with part("backward"):
            self._engine.backward(loss)
        if not last:
            self._engine.step()  # counts the micro-batch; gradients accumulate
        terms = loss.detach(), self._engine.module.z_loss
        return torch.stack([one.float() for one in terms if one is not None])

    def abandon(self) -> None:
        """Drop the gradients of an unfinished step, as if its micro-batches had never run."""
        self._of_rank.synchronize()
        gradients.drop(self._engine)

    def update(self, total: Tensor, limits: Limits) -> tuple[list[float], float]:
        """Update the weights, if loss and gradient norm are finite and within `limits`.

        `total` is the sum of the losses of this rank's micro-batches. Returns their means over
        micro-batches and ranks, and the gradient norm before clipping, not finite if the gradient is not:
        the same on all ranks. The host waits for these only, once: the update may still be running.
        """
        scale = self.loss_scale
        with part("agreement"):
            mean = self._mean(total)

        @functools.cache  # ZeRO asks for each group
        def judge() -> Verdict:
            return Verdict(self._of_rank, mean, self._clipping.norm(self.device), limits)

        self._optimizer.judge = judge
        with part("update"):
            self._engine.step()
        self._optimizer.judge = None
        with part("agreement"):
            losses, norm = judge().read()
        if not math.isfinite(norm):
            self.abandon()  # with offload DeepSpeed would add the next step to what overflowed
        self._overflowed = scale is not None and scale > _MIN_SCALE and not math.isfinite(norm)
        return losses, norm

    @property
    def loss_scale(self) -> float | None:
        """The loss scale of the next micro-batch in fp16, against underflow of gradients; else None."""
        return float(self._scaler.cur_scale) if self._engine.fp16_enabled() else None

    @property
    def overflowed(self) -> bool:
        """Whether the last update was skipped because the gradient overflowed at its loss scale.

        False at the smallest scale: there the gradient itself is not finite.
        """
        return self._overflowed

    @torch.no_grad()
    def validate(self, blocks: Tensor) -> Tensor:
        """The loss with dropout and autograd off."""
        self._engine.eval()
        loss: Tensor = self._engine(self._of_rank.send(self._of_rank.staged(blocks)))
        return loss.float()

    @torch.no_grad()
    def next_logits(self, ids: Tensor, last: Tensor) -> Tensor:
        """As the model's `next_logits`, on the CPU, with dropout off. A collective under ZeRO-3."""
        self._engine.eval()
        # Each length would be compiled for itself, until torch compiles no more, training steps included.
        with torch.compiler.set_stance("force_eager"):
            logits: Tensor = self._engine.module.next_logits(
                ids.to(self.device), last.to(self.device)
            )
        return logits.cpu()

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next update."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate

    def parameters(self) -> int:
        """The number of weights, including those of a padded vocabulary."""
        return sum(
            getattr(parameter, "ds_numel", parameter.numel())  # under ZeRO-3 a rank has only a part
            for parameter in self._engine.module.parameters()
        )

    def state_tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        """The tensors on this rank's device that hold its weights, and those of the optimizer besides."""
        parameters = [*self._engine.module.parameters()]
        weights = [getattr(parameter, "ds_tensor", parameter.data) for parameter in parameters]
        known = {tensor.untyped_storage().data_ptr() for tensor in weights}
        of_optimizer = [
            tensor
            for parameter, state in self._optimizer.state.items()
            for tensor in (parameter, *state.values())
            if isinstance(tensor, torch.Tensor)
            and tensor.device.type == self.device.type
            and tensor.untyped_storage().data_ptr() not in known
        ]
        return weights, of_optimizer

    def state_bytes(self) -> int:
        """Approximate size of a checkpoint."""
        itemsize: int = self._engine.get_data_types()[0].itemsize
        return checkpoint_bytes(self.parameters(), itemsize, self._optimizer.with_one_moment)

    def capture(self, step: int) -> dict[str, Any]:
        """Copy this rank's part of the state after `step` full steps to host memory, by file name.

        A collective. The copy is valid until the next capture. Gradients of an unfinished step are
        left out: the counter of micro-batches is reset to the last full step.
        """
        self._set_counters(step)
        return self._files.copies(self._save)

    def reserve(self) -> None:
        """Allocate the memory of `capture`, before the first step. A collective."""
        more = to_come(self._optimizer, self._engine.optimizer)
        self._files.reserve(self._save, more)

    def load(
        self, folder: Path, step: int, files: Mapping[str, FileInMemory] | None = None
    ) -> None:
        """Load a checkpoint of `step` full steps. A collective.

        Weights, moments and loss scale come from the checkpoint, everything else from the recipe. `files`
        are this rank's, read already, and are closed; None: they are read from `folder`.
        """
        self.abandon()
        self._files.give(files, lambda: self._load(folder))
        self._restore_hyperparameters()
        own_step_counters(self._optimizer)
        self._set_counters(step)  # the accumulation depends on the world size

    def _save(self) -> None:
        self._engine.save_checkpoint("state", tag="state", save_latest=False)

    def _load(self, folder: Path) -> None:
        path, _ = self._engine.load_checkpoint(str(folder.parent), tag=folder.name)
        assert path is not None, folder

    def _restore_hyperparameters(self) -> None:
        """Undo the settings that DeepSpeed takes from a checkpoint although the recipe has them.

        A fork's recipe may differ; and from a universal checkpoint ZeRO-3 gives every group the
        weight decay of the first.
        """
        groups = self._engine.optimizer.param_groups
        for group, own in zip(groups, self._hyperparameters, strict=True):
            group.update(own)
        self._clipping.restore()

    def _set_counters(self, step: int) -> None:
        """Set DeepSpeed's counters, which are part of a checkpoint, to `step` full steps."""
        self._engine.micro_steps = step * self._accumulation
        self._engine.global_steps = step
        self._engine.global_samples = step * self._engine.train_batch_size()
        self._engine.skipped_steps = 0  # the ledger has them

    @property
    def _scaler(self) -> Any:
        """DeepSpeed's loss scaler: a new object after each load."""
        return self._engine.optimizer.loss_scaler

    def _mean(self, total: Tensor) -> Tensor:
        """The mean losses of a step over micro-batches and ranks, fp64."""
        total = total.detach().clone()
        dist.all_reduce(total)
        total = total.double()
        # By a tensor: a GPU would multiply by the reciprocal of a number.
        return total / torch.full_like(total, self._accumulation * dist.get_world_size())


def _model(recipe: Recipe, vocabulary: TokenizerInfo, *, to_load_weights: bool) -> LanguageModel:
    torch.manual_seed(recipe.training.seed)  # the same weights on every rank
    model = LanguageModel(recipe, vocabulary, to_load_weights=to_load_weights)
    if recipe.training.compile:
        # In place, which keeps the names of weights. A graph for each size of a batch: else a step has one
        # for all sizes if a validation came before it in the attempt, and another if not.
        model.decoder.compile(dynamic=False)
    return model


def configuration(recipe: Recipe, accumulation: int) -> dict[str, Any]:
    """DeepSpeed's configuration: the recipe's DeepSpeed file and its own keys."""
    training = recipe.training
    assert isinstance(training.deepspeed, dict)
    return {
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": training.clip,
        # ZeRO-1 would otherwise keep each bf16 gradient beside the fp32 one to which it was added.
        # The norm tells of a gradient that is not finite; the check would wait for the GPU.
        "bf16": {
            "enabled": training.precision == "bf16",
            "immediate_grad_update": True,
            "check_grad_overflow": False,
        },
        "fp16": {"enabled": training.precision == "fp16", **_LOSS_SCALE},
        "data_types": {"grad_accum_dtype": training.gradient_dtype},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # with offload, too, the optimizer is the kit's own
        # It waits for the GPU twice a micro-batch; the ledger has the rates.
        "timers": {"throughput": {"enabled": False}},
        **training.deepspeed,
    }


def preload(kind: str = "cpu") -> None:
    """Import the modules of an engine on that kind of device, with those of AdamW's first step."""
    language_model.preload()
    importlib.import_module("torch._dynamo")
    import_deepspeed(kind)


def gathered(state: Path) -> dict[str, Tensor]:
    """The fp32 weights in a checkpoint of ZeRO-3, by name, on the CPU.

    DeepSpeed unpickles the files, which must be the user's own. Raises CheckpointError if one runs code.
    """
    state_files.refuse_code(state)
    import_deepspeed("cpu")
    from deepspeed.utils import zero_to_fp32

    program = noise.silence_printing(zero_to_fp32)
    return dict(program.get_fp32_state_dict_from_zero_checkpoint(str(state.parent), tag=state.name))


def converter() -> Any:
    """DeepSpeed's program that makes universal checkpoints, as a module; it needs no GPU."""
    import_deepspeed("cpu")
    from deepspeed.checkpoint import ds_to_universal

    return ds_to_universal


def _universal(enabled: bool) -> dict[str, Any]:
    return {"checkpoint": {"load_universal": True}} if enabled else {}


def import_deepspeed(kind: str) -> Any:
    """Import DeepSpeed for one kind of device, without the parts that are not needed here.

    It would otherwise use the GPU of any machine that has one, and on a CPU compile an extension that
    serves inference only. It would also import MLflow for an autotuner, and torch's compiler for an
    optimizer (Muon, whose functions are compiled): together four seconds of each start.
    """
    os.environ[_ACCELERATOR] = kind
    with _hidden("mlflow"), _uncompiled():
        import deepspeed
        import deepspeed.runtime.zero.muon.original_muon

    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    if kind == "cpu":  # torch computes fp16 on every CPU, slowly if oneDNN does not support it
        deepspeed.get_accelerator().is_fp16_supported = lambda: True
    return noise.silence(deepspeed)


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make imports of a module fail within the block, unless it is imported already."""
    absent = module not in sys.modules
    if absent:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules[module]


@contextlib.contextmanager
def _uncompiled() -> Iterator[None]:
    """Make `@torch.compile` return functions unchanged within the block."""
    compiler = torch.compile
    torch.compile = lambda function=None, **_: function or (lambda f: f)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compiler
