"""Llama (Touvron et al. 2023, arXiv 2302.13971), as transformers' LlamaForCausalLM.

RMSNorm, rotary positions, SwiGLU, no biases, and grouped keys and values (Ainslie et al. 2023, arXiv
2305.13245). With `qk_norm`, an RMSNorm over the queries and keys of each head: that is Qwen3ForCausalLM.
"""

from __future__ import annotations

from typing import Any, ClassVar

from kit.models.architecture import Activations, Architecture, Fused, ParameterPart

_MULTIPLE = 64  # of the width of an MLP: what the matrix units of a GPU like
_EPSILON = 1e-5  # of the norms, as in Llama 2 and 3


class Llama(Architecture):
    """The embedding has no positions; they turn queries and keys."""

    name: ClassVar = "llama"
    dropout: ClassVar = 0.0
    vocabulary_weights: ClassVar = ("model.embed_tokens.weight", "lm_head.weight")
    layer_weights: ClassVar = "model.layers."

    @property
    def title(self) -> str:
        """Qwen3 with norms of queries and keys, else Llama."""
        return "Qwen3" if self.model.qk_norm else "Llama"

    @property
    def model_class(self) -> str:
        """The class in transformers."""
        return f"{self.title}ForCausalLM"

    @property
    def model_type(self) -> str:
        """The name in transformers."""
        return self.title.lower()

    @property
    def is_tied(self) -> bool:
        """As the recipe says."""
        return self.model.tie_embeddings

    @property
    def head_width(self) -> int:
        """Numbers of a head's query."""
        return self.model.n_embd // self.model.n_head

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values."""
        return self.model.n_kv_head or self.model.n_head

    @property
    def key_value_width(self) -> int:
        """Numbers of a token's keys in a layer."""
        return self.key_value_heads * self.head_width

    @property
    def inner_width(self) -> int:
        """Width of the MLP: by default 8/3 of the model's, which gives it the parameters of GPT-2's."""
        return self.model.n_inner or -(-8 * self.model.n_embd // (3 * _MULTIPLE)) * _MULTIPLE

    def configuration(self, rows: int, *, begin: int, end: int) -> Any:
        """A transformers.LlamaConfig, or a Qwen3Config."""
        import transformers

        model = self.model
        return getattr(transformers, f"{self.title}Config")(
            vocab_size=rows,
            max_position_embeddings=model.n_positions,
            hidden_size=model.n_embd,
            intermediate_size=self.inner_width,
            num_hidden_layers=model.n_layer,
            num_attention_heads=model.n_head,
            num_key_value_heads=self.key_value_heads,
            head_dim=self.head_width,
            rope_parameters={"rope_type": "default", "rope_theta": model.rope_theta},
            rms_norm_eps=_EPSILON,
            tie_word_embeddings=model.tie_embeddings,
            bos_token_id=begin,
            eos_token_id=end,
            attn_implementation=model.attention,
            use_cache=False,
        )

    def parts(self, rows: int) -> tuple[ParameterPart, ...]:
        """Embedding, layers with norms, the last norm, and the output if it is not tied."""
        layers, width, inner = self.model.n_layer, self.model.n_embd, self.inner_width
        keys, head = self.key_value_width, self.head_width
        tied = "; tied to the output" if self.is_tied else ""
        layer = 2 * width**2 + 2 * width * keys + 3 * width * inner + 2 * width
        source = (
            f"2 x {width:,}² + 2 x {width:,} x {keys:,} + 3 x {width:,} x {inner:,} + 2 x {width:,}"
        )
        if self.model.qk_norm:
            layer += 2 * head
            source += f" + 2 x {head:,}"
        parts = (
            ParameterPart("tokens", rows * width, f"{rows:,} rows x {width:,}{tied}"),
            ParameterPart("layers", layers * layer, f"{layers} x ({source})"),
            ParameterPart("last norm", width, f"{width:,}"),
        )
        if self.is_tied:
            return parts
        return (*parts, ParameterPart("output", rows * width, f"{rows:,} rows x {width:,}"))

    def layer_activations(self) -> Activations:
        """The tensors that autograd saves of transformers' layer; its norms compute in fp32."""
        width, keys, heads = self.model.n_embd, self.key_value_width, self.model.n_head
        # Both norms: their input in fp32 and its scale, the normalised input, the result. Queries, keys,
        # values and their result. The MLP: both projections, the activation, the product.
        numbers = 4 * width + 2 * width + 2 * keys + 4 * self.inner_width
        fp32 = 2 * width + 2
        if self.model.qk_norm:
            numbers += width + keys
            fp32 += width + keys + heads + self.key_value_heads
        eager = self.model.attention == "eager"
        if eager:  # keys and values are repeated for each head
            numbers += 2 * (width - keys)
        return Activations(numbers, fp32, fp32_scores=eager)

    def outer_activations(self) -> Activations:
        """The last norm: its input in fp32 and its scale, the normalised input, the result."""
        return Activations(2 * self.model.n_embd, fp32=self.model.n_embd + 1)

    def moved_bytes(self) -> int:
        """As PyTorch's kernels read and write them; those of transformers' norms are not fused."""
        width, rotated = self.model.n_embd, self.model.n_embd + self.key_value_width
        norm = 36 + 76  # first pass, second pass: to fp32, square, mean, scale, to 16 bits, weight
        sums = 4 * 6  # around attention and MLP, and of their gradients
        inputs = 3 * 6  # gradients of what queries, keys and values read, and of what the MLP reads
        rows = 8  # the result of the heads is laid out by rows
        rotary = 20 + 26
        swiglu = 10 + 18
        per_rotated = rotary + (norm if self.model.qk_norm else 0)
        around = (2 * norm + sums + inputs + rows) * width
        return around + per_rotated * rotated + swiglu * self.inner_width

    def fused(self, name: str) -> Fused | None:  # noqa: ARG002
        """Every weight is one matrix."""
        return None

    def matrix_parameters(self) -> int:
        """Queries and their result, keys and values, and the three of the MLP."""
        width, keys = self.model.n_embd, self.key_value_width
        return self.model.n_layer * width * (2 * width + 2 * keys + 3 * self.inner_width)
