"""The optimizer of a recipe, over the weights of its model: AdamW, or Muon with AdamW for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.training.adamw import GuardedAdamW
from kit.training.language_model import parameter_groups
from kit.training.muon import GuardedMuon
from kit.training.orthogonal import Matrix

if TYPE_CHECKING:
    from kit.config.training import Training
    from kit.training.language_model import LanguageModel


def of(model: LanguageModel, training: Training, *, fused: bool | None = None) -> GuardedAdamW:
    """The optimizer, with the learning rate at its peak; `fused`: with torch's fused kernel for AdamW."""
    settings: dict[str, Any] = {
        "lr": training.learning_rate,
        "betas": (training.beta1, training.beta2),
        "eps": training.epsilon,
        "fused": fused,
    }
    if training.optimizer == "adamw":
        return GuardedAdamW(parameter_groups(model.parameters(), training), **settings)
    matrices = _matrices(model)
    of_layers = [p for name, p in model.named_parameters() if name in matrices]
    others = [p for name, p in model.named_parameters() if name not in matrices]
    group = {
        "params": of_layers,
        "weight_decay": training.weight_decay,
        "momentum": training.muon_momentum,
    }
    groups = [group, *parameter_groups(others, training)]
    return GuardedMuon(groups, [*matrices.values()], **settings)


def _matrices(model: LanguageModel) -> dict[str, Matrix]:
    """The matrices of the layers by name: neither embeddings nor head, which Muon does not suit."""
    architecture = model.architecture
    prefix = f"{architecture.name}.{architecture.layer_weights}"
    return {
        name: Matrix(parameter.shape[0], parameter.shape[1], architecture.fused(name))
        for name, parameter in model.named_parameters()
        if name.startswith(prefix) and parameter.dim() == 2
    }
