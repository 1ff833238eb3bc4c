"""Floating-point operations of training, for MFU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.config.recipe import Model


def flops_per_token(parameters: int, model: Model) -> float:
    """Forward and backward FLOP per token: 6 N + 12 layers x width x length (PaLM, appendix B).

    Recomputation is not counted: MFU counts only the operations that the model needs.
    """
    return 6.0 * parameters + 12.0 * model.n_layer * model.n_embd * model.n_positions
