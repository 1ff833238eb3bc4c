"""DeepSpeed's ZeRO engine: the only door to it, and the only place that knows the device.

What has run so far has run on CPUs over gloo. What a GPU needs beyond it stands in `Device`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kit.errors import ConfigError
from kit.training import model as language_model

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kit.config import Recipe

# Other top-level keys are set by the recipe, or not known to DeepSpeed, which ignores them silently.
_DEEPSPEED_KEYS = {
    "zero_optimization", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer",
    "communication_data_type", "prescale_gradients", "gradient_predivide_factor",
    "wall_clock_breakdown", "memory_breakdown", "comms_logger", "flops_profiler",
}  # fmt: skip


@dataclass(frozen=True)
class Device:
    """What differs between a CPU and a GPU."""

    kind: str  # cpu or cuda
    local_rank: int

    @property
    def backend(self) -> str:
        """The communication library of torch.distributed."""
        return "nccl" if self.kind == "cuda" else "gloo"

    def prepare(self, *, deterministic: bool) -> torch.device:
        """Choose the device for this process."""
        if self.kind == "cuda":
            torch.cuda.set_device(self.local_rank)
            if deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True)
            return torch.device("cuda", self.local_rank)
        # Sums over another number of threads round differently: one, whatever the machine.
        torch.set_num_threads(1)
        return torch.device("cpu")


class Engine:
    """The model under ZeRO, one optimizer step at a time."""

    def __init__(
        self, recipe: Recipe, device: Device, accumulation: int, begin: int, end: int
    ) -> None:
        deepspeed = _import_deepspeed()
        self.device = device.prepare(deterministic=recipe.training.deterministic)
        deepspeed.init_distributed(dist_backend=device.backend, auto_mpi_discovery=False)
        torch.manual_seed(recipe.training.seed)  # the same weights on every rank
        model = language_model.LanguageModel(recipe, begin, end)
        training = recipe.training
        optimizer = torch.optim.AdamW(
            language_model.parameter_groups(model, training),
            lr=training.learning_rate,
            betas=(training.beta1, training.beta2),
            eps=training.epsilon,
            fused=device.kind == "cuda" or None,
        )
        self._engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=configuration(recipe, accumulation)
        )
        self._accumulation = accumulation

    def micro_batch(self, blocks: Tensor, seed: int) -> Tensor:
        """Forward and backward; at the last micro-batch of a step also the update.

        `seed` decides dropout. Returns the loss, detached.
        """
        self._engine.train()
        torch.manual_seed(seed)
        loss: Tensor = self._engine(blocks.to(self.device))
        self._engine.backward(loss)
        self._engine.step()
        return loss.detach().float()

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

    def gradient_norm(self) -> float:
        """The norm of the last step's gradient, before clipping."""
        return float(self._engine.get_global_grad_norm())

    def parameters(self) -> int:
        """The number of weights."""
        return sum(parameter.numel() for parameter in self._engine.module.parameters())

    def save(self, folder: Path, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step` full steps, each rank its part. A collective.

        Gradients of a step that is not finished are not part of it: the counter of micro-batches is
        put back to the last full step.
        """
        self._engine.micro_steps = step * self._accumulation
        self._engine.save_checkpoint(
            str(folder.parent), tag=folder.name, client_state=state, save_latest=False
        )

    def load(self, folder: Path) -> dict[str, Any]:
        """Read what `save` wrote; returns its `state`. A collective."""
        path, state = self._engine.load_checkpoint(str(folder.parent), tag=folder.name)
        assert path is not None, folder
        return dict(state)


def configuration(recipe: Recipe, accumulation: int) -> dict[str, Any]:
    """DeepSpeed's configuration: the recipe's file, and what the recipe itself says.

    Raises ConfigError for a key that the recipe sets, or that DeepSpeed would silently ignore.
    """
    training = recipe.training
    assert isinstance(training.deepspeed, dict)
    for key in training.deepspeed:
        if key not in _DEEPSPEED_KEYS:
            allowed = ", ".join(sorted(_DEEPSPEED_KEYS))
            raise ConfigError(
                f"training.deepspeed: {key} is not to be set there; allowed: {allowed}"
            )
    return {
        "train_micro_batch_size_per_gpu": training.micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": training.clip,
        "bf16": {"enabled": training.precision == "bf16"},
        "data_types": {"grad_accum_dtype": training.gradient_dtype},
        "zero_allow_untested_optimizer": True,
        **training.deepspeed,
    }


def _import_deepspeed() -> Any:
    """DeepSpeed, without the extension it would compile on a CPU: that serves inference only."""
    import deepspeed

    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    deepspeed.logger.setLevel("WARNING")
    return deepspeed
