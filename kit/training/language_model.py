"""A decoder of transformers and its loss, whatever the architecture."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kit.models import architectures
from kit.training.output_layer import OutputLayer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kit.config.recipe import Model, Recipe, Training
    from kit.data.tokens import TokenizerInfo
    from kit.models.architecture import Architecture

_SDPA = "ekiden_sdpa"


class LanguageModel(nn.Module):
    """A causal model of transformers with the loss of predicting the next token."""

    def __init__(
        self, recipe: Recipe, vocabulary: TokenizerInfo, *, to_load_weights: bool = False
    ) -> None:
        """`to_load_weights`: draw none."""
        super().__init__()
        self.architecture = architectures.of(recipe.model)
        rows = architectures.padded_rows(vocabulary.size, recipe.model.pad_vocab_to)
        config = self.architecture.configuration(rows, begin=vocabulary.begin, end=vocabulary.end)
        if recipe.model.attention == "sdpa":
            config._attn_implementation = _causal_sdpa()
        build = _empty if to_load_weights else _drawn
        # Its name is part of the names of the weights in a checkpoint.
        self.add_module(self.architecture.name, build(self.architecture, config))
        head = self.causal.lm_head
        self.causal.lm_head = OutputLayer(head, vocabulary.size, recipe.training)
        if recipe.model.activation_checkpointing:
            self.causal.gradient_checkpointing_enable()
        self._inside = recipe.training.labels == "inside"

    @property
    def causal(self) -> Any:
        """The model of transformers, with its output."""
        return getattr(self, self.architecture.name)

    @property
    def decoder(self) -> Any:
        """The same without its output."""
        return self.causal.base_model

    def forward(self, blocks: Tensor) -> Tensor:
        """The loss, a scalar (see OutputLayer), of blocks int64 [batch, length + 1].

        The last column is the label of the last token; with `labels: inside` it is ignored, and a block
        predicts its own tokens, from the second on.
        """
        length = blocks.shape[1] - 1
        inputs, labels = blocks[:, :length], blocks[:, 1:]
        if self._inside:
            inputs, labels = inputs[:, :-1], labels[:, :-1]
        loss: Tensor = self.causal.lm_head(self.decoder(inputs).last_hidden_state, labels)
        return loss

    @property
    def z_loss(self) -> Tensor | None:
        """z-loss of the last forward pass, a scalar, detached; None without, as in a validation."""
        found: Tensor | None = self.causal.lm_head.z_loss
        return found

    def next_logits(self, ids: Tensor, last: Tensor) -> Tensor:
        """Logits of the token after position `last` [batch] of each row of `ids` int64 [batch, length].

        Float32, shape [batch, vocabulary]. What follows `last` in a row has no influence.
        """
        hidden = self.decoder(ids).last_hidden_state
        logits: Tensor = self.causal.lm_head(
            hidden[torch.arange(len(ids), device=hidden.device), last]
        )
        return logits


def to_release(model: Model, vocabulary: TokenizerInfo, dtype: torch.dtype) -> Any:
    """A causal model of transformers, on the CPU, whose weights are loaded next: now they are anything.

    Drawing them takes twelve seconds for each billion (measured, one thread of an x86-64 server).
    """
    architecture = architectures.of(model)
    config = architecture.configuration(vocabulary.size, begin=vocabulary.begin, end=vocabulary.end)
    causal = _empty(architecture, config)
    # As DeepSpeed casts it, not the buffers: rotary positions have their frequencies in fp32, with every
    # reader. In bf16 they would be off by up to 0.2%, and token 1,000 would turn as 998 or 1,002 does.
    for weight in causal.parameters():
        weight.data = weight.data.to(dtype)
    return causal


def release_weights(
    weights: Mapping[str, Tensor], model: Model, vocab_size: int
) -> dict[str, Tensor]:
    """The weights of a LanguageModel under transformers' names, without the padding rows."""
    architecture = architectures.of(model)
    renamed = {key.removeprefix(f"{architecture.name}."): value for key, value in weights.items()}
    for name in architecture.vocabulary_weights:
        if name in renamed:
            renamed[name] = renamed[name][:vocab_size]
    return renamed


def parameter_groups(
    parameters: Iterable[nn.Parameter], training: Training
) -> list[dict[str, Any]]:
    """Parameters in two groups: with weight decay (matrices), and without (biases and norms)."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in parameters:
        (decayed if training.decay_all or parameter.dim() > 1 else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def preload() -> None:
    """Import the modules of transformers that define models."""
    for name in architectures.MODULES:
        importlib.import_module(name)


def _drawn(architecture: Architecture, config: Any) -> Any:
    import transformers

    return getattr(transformers, architecture.model_class)(config)


def _empty(architecture: Architecture, config: Any) -> Any:
    from transformers.initialization import no_init_weights

    with no_init_weights():
        causal = _drawn(architecture, config)
    causal.tie_weights()  # left out as well
    return causal


def _causal_sdpa() -> str:
    """The name of transformers' SDPA attention without its mask, for blocks that have no padding.

    Under torch.compile transformers hands SDPA a boolean mask in place of is_causal, which no flash kernel
    takes (5.23, masking_utils.py). It builds none for an attention that it does not know.
    """
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(_SDPA, sdpa_attention_forward)
    return _SDPA
