"""Floating-point work of training, for the use of a device (MFU)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.config.recipe import Model


def flops_per_token(parameters: int, model: Model) -> float:
    """Forward and backward FLOP of one token: 6 N + 12 layers x width x length (PaLM, appendix B).

    Recomputation is not counted: MFU is of the work the model needs.
    """
    return 6.0 * parameters + 12.0 * model.n_layer * model.n_embd * model.n_positions
