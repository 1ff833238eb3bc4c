"""The architectures of llama.cpp: the keys that it demands, and how it wants the weights.

    kind = gguf_architectures.of(model.config)
    kind.add_keys(writer, model.config)
    kind.stored("transformer.h.0.attn.c_attn.weight", tensor, model.config)

As in llama.cpp's sources, src/models/gpt2.cpp, llama.cpp and qwen3.cpp, and in its converter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    import gguf
    from torch import Tensor


class Kind(NamedTuple):
    """An architecture; its name is that of transformers, too."""

    name: str
    add_keys: Callable[[gguf.GGUFWriter, Any], None]
    stored: Callable[[str, Tensor, Any], Tensor]  # a weight as llama.cpp multiplies by it


def of(config: Any) -> Kind:
    """The architecture of a model of transformers."""
    return _ALL[config.model_type]


def _add_keys_of_gpt2(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _add_keys_of_llama(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _transposed(name: str, tensor: Tensor, _: Any) -> Tensor:
    """Conv1D of transformers stores inputs as rows."""
    return tensor.T if tensor.dim() == 2 and ".h." in name else tensor


def _interleaved(name: str, tensor: Tensor, config: Any) -> Tensor:
    """Numbers that turn together follow each other: in transformers half a head lies between them."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    number = next((heads[part] for part in name.split(".") if part in heads), None)
    if number is None:
        return tensor
    halves = tensor.view(number, 2, config.head_dim // 2, -1)
    return halves.transpose(1, 2).reshape(tensor.shape)


def _as_it_is(_: str, tensor: Tensor, __: Any) -> Tensor:
    """Qwen3's rotary positions are transformers' own."""
    return tensor


_ALL = {
    kind.name: kind
    for kind in (
        Kind("gpt2", _add_keys_of_gpt2, _transposed),
        Kind("llama", _add_keys_of_llama, _interleaved),
        Kind("qwen3", _add_keys_of_llama, _as_it_is),
    )
}
