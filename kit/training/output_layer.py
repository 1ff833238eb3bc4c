"""The output layer of a language model: hidden states to logits, or with labels to the loss.

    causal.lm_head = OutputLayer(causal.lm_head, vocabulary.size, recipe.training)
    causal.lm_head(hidden, labels)      # the mean loss
    causal.lm_head(hidden)              # logits

The loss needs the weight, which ZeRO-3 gathers for the forward pass of the module that owns it. So the loss
is part of that pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from kit.training import loss

if TYPE_CHECKING:
    from torch import Tensor

    from kit.config.recipe import Training


class OutputLayer(nn.Linear):
    """A linear layer without bias, in place of `plain`, whose weight it takes, tied or not."""

    def __init__(self, plain: nn.Linear, vocab_size: int, training: Training) -> None:
        """`vocab_size`: entries of the vocabulary; the rows of the weight from there on are padding."""
        assert plain.bias is None
        super().__init__(plain.in_features, plain.out_features, bias=False, device="meta")
        self.weight = plain.weight
        self._vocab_size: int = vocab_size
        self._chunk: int | None = training.loss_chunk
        self._z: float | None = training.z_loss
        self.z_loss: Tensor | None = None  # of the last pass with labels; None if it has none
        self._by_liger: bool = training.loss_kernel == "liger"

    def forward(self, hidden: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits fp32 [..., vocabulary] of `hidden` [..., width]; with `labels` [...] the mean loss.

        The loss is the cross-entropy in nats, fp32. Its gradient is that of cross-entropy and z-loss in
        training: figures of runs compare, with z-loss or without. `z_loss` has the other term.
        """
        if labels is None:
            logits: Tensor = super().forward(hidden)
            return logits[..., : self._vocab_size].float()
        mean = loss.mean_by_liger if self._by_liger else loss.mean
        found = mean(
            hidden.flatten(0, -2),
            self.weight,
            labels.flatten(),
            vocab_size=self._vocab_size,
            chunk=self._chunk,
            z=self._z if self.training else None,
        )
        self.z_loss = found.z_loss
        # The second term is zero, and carries the gradient.
        return found.cross_entropy + (found.objective - found.objective.detach())
