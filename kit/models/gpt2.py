"""GPT-2 from transformers, and its loss."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kit.plan.shape import padded_vocab_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.config.recipe import Model, Recipe, Training
    from kit.data.tokens import TokenizerInfo

_SDPA = "ekiden_sdpa"


def configuration(model: Model, vocabulary: TokenizerInfo) -> Any:
    """The transformers.GPT2Config of a released model."""
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=vocabulary.size,
        n_positions=model.n_positions,
        n_embd=model.n_embd,
        n_layer=model.n_layer,
        n_head=model.n_head,
        activation_function=model.activation,
        resid_pdrop=model.dropout,
        embd_pdrop=model.dropout,
        attn_pdrop=model.dropout,
        bos_token_id=vocabulary.begin,
        eos_token_id=vocabulary.end,
        attn_implementation=model.attention,
        use_cache=False,
    )


def to_load(config: Any) -> Any:
    """A transformers.GPT2LMHeadModel whose weights are loaded next: until then they are anything.

    Drawing them takes twelve seconds for each billion (measured, one thread of an x86-64 server).
    """
    from transformers import GPT2LMHeadModel
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = GPT2LMHeadModel(config)
    model.tie_weights()  # left out as well
    return model


def release_weights(weights: dict[str, Tensor], vocab_size: int) -> dict[str, Tensor]:
    """The weights of a LanguageModel under GPT2LMHeadModel's names, without the padding rows."""
    renamed = {key.removeprefix("gpt2."): value for key, value in weights.items()}
    for name in ("transformer.wte.weight", "lm_head.weight"):
        if name in renamed:
            renamed[name] = renamed[name][:vocab_size]
    return renamed


class LanguageModel(nn.Module):
    """GPT-2 with the loss of predicting the next token."""

    def __init__(
        self, recipe: Recipe, vocabulary: TokenizerInfo, *, to_load_weights: bool = False
    ) -> None:
        """`to_load_weights`: draw none."""
        from transformers import GPT2LMHeadModel

        super().__init__()
        self._vocab_size = vocabulary.size
        rows = padded_vocab_size(self._vocab_size, recipe.model.pad_vocab_to)
        config = configuration(recipe.model, replace(vocabulary, size=rows))
        if recipe.model.attention == "sdpa":
            config._attn_implementation = _causal_sdpa()
        self.gpt2 = to_load(config) if to_load_weights else GPT2LMHeadModel(config)
        if recipe.model.activation_checkpointing:
            self.gpt2.gradient_checkpointing_enable()
        self._inside = recipe.training.labels == "inside"
        self._chunk = recipe.training.loss_chunk

    def forward(self, blocks: Tensor) -> Tensor:
        """Mean cross-entropy in nats, a scalar, of blocks int64 [batch, length + 1].

        The last column is the label of the last token; with `labels: inside` it is ignored, and a block
        predicts its own tokens, from the second on.
        """
        length = blocks.shape[1] - 1
        inputs, labels = blocks[:, :length], blocks[:, 1:]
        if self._inside:
            inputs, labels = inputs[:, :-1], labels[:, :-1]
        hidden = self.gpt2.transformer(inputs).last_hidden_state.flatten(0, 1)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        size = self._chunk or len(hidden)
        for part, goal in zip(
            torch.split(hidden, size), torch.split(labels.flatten(), size), strict=True
        ):
            if self._chunk and self.training:
                # The logits of a chunk are recomputed in the backward pass: with a vocabulary of
                # 50,000, those of 8 x 1,024 tokens and their gradient would take 5 GB.
                total = total + checkpoint(
                    self._loss, part, goal, use_reentrant=False, preserve_rng_state=False
                )
            else:
                total = total + self._loss(part, goal)
        return total / labels.numel()

    def next_logits(self, ids: Tensor, last: Tensor) -> Tensor:
        """Logits of the token after position `last` [batch] of each row of `ids` int64 [batch, length].

        Float32, shape [batch, vocabulary]. What follows `last` in a row has no influence.
        """
        hidden = self.gpt2.transformer(ids).last_hidden_state
        return self._logits(hidden[torch.arange(len(ids), device=hidden.device), last])

    def _loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self._logits(hidden), labels, reduction="sum")

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.gpt2.lm_head(hidden)
        if logits.shape[-1] > self._vocab_size:
            # Padding rows have no part in the loss: they are never trained.
            logits = logits[:, : self._vocab_size]
        return logits.float()


def _causal_sdpa() -> str:
    """The name of transformers' SDPA attention without its mask, for blocks that have no padding.

    Under torch.compile transformers hands SDPA a boolean mask in place of is_causal, which no flash kernel
    takes (5.23, masking_utils.py). It builds none for an attention that it does not know.
    """
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(_SDPA, sdpa_attention_forward)
    return _SDPA


def parameter_groups(model: nn.Module, training: Training) -> list[dict[str, Any]]:
    """The parameters in two groups: with weight decay (matrices), and without (biases and norms)."""
    parameters: Iterator[tuple[str, nn.Parameter]] = model.named_parameters()
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for _, parameter in parameters:
        (decayed if training.decay_all or parameter.dim() > 1 else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
