"""GPT-2 (Radford et al. 2019), as transformers' GPT2LMHeadModel."""

from __future__ import annotations

from typing import Any, ClassVar

from kit.models.architecture import Activations, Architecture, Fused, ParameterPart


class Gpt2(Architecture):
    """Learned positions, LayerNorm, biases; the output is the embedding."""

    name: ClassVar = "gpt2"
    title: ClassVar = "GPT-2"
    model_class: ClassVar = "GPT2LMHeadModel"
    model_type: ClassVar = "gpt2"
    vocabulary_weights: ClassVar = ("transformer.wte.weight", "lm_head.weight")
    position_weights: ClassVar = "transformer.wpe.weight"
    layer_weights: ClassVar = "transformer.h."
    is_tied: ClassVar = True

    @property
    def key_value_width(self) -> int:
        """That of the model: every head has keys of its own."""
        return self.model.n_embd

    @property
    def dropout(self) -> float:
        """As the recipe says."""
        return self.model.dropout

    def configuration(self, rows: int, *, begin: int, end: int) -> Any:
        """A transformers.GPT2Config."""
        from transformers import GPT2Config

        model = self.model
        return GPT2Config(
            vocab_size=rows,
            n_positions=model.n_positions,
            n_embd=model.n_embd,
            n_layer=model.n_layer,
            n_head=model.n_head,
            activation_function=model.activation,
            resid_pdrop=model.dropout,
            embd_pdrop=model.dropout,
            attn_pdrop=model.dropout,
            bos_token_id=begin,
            eos_token_id=end,
            attn_implementation=model.attention,
            use_cache=False,
        )

    def parts(self, rows: int) -> tuple[ParameterPart, ...]:
        """Embeddings, layers with biases and norms, the last norm."""
        model = self.model
        layers, width, positions = model.n_layer, model.n_embd, model.n_positions
        return (
            ParameterPart("tokens", rows * width, f"{rows:,} rows x {width:,}; tied to the output"),
            ParameterPart("positions", positions * width, f"{positions:,} x {width:,}"),
            ParameterPart(
                "layers",
                layers * (12 * width**2 + 13 * width),
                f"{layers} x (12 x {width:,}² + 13 x {width:,})",
            ),
            ParameterPart("last norm", 2 * width, f"2 x {width:,}"),
        )

    def layer_activations(self) -> Activations:
        """Those of Korthikanti et al. 2022 (arXiv 2205.05198, section 4.1)."""
        # Inputs of both norms, of the projections to queries, keys and values, and of the MLP; queries,
        # keys, values and their result; twice four widths around the activation function.
        numbers = 16 * self.model.n_embd
        if self.model.activation == "gelu_new":  # unfused
            numbers += 12 * self.model.n_embd
        return Activations(numbers, fp32=2 * 2)  # mean and deviation of two norms

    def outer_activations(self) -> Activations:
        """The input and the result of the last norm, its mean and deviation."""
        return Activations(2 * self.model.n_embd, fp32=2)

    def moved_bytes(self) -> int | None:
        """As PyTorch's kernels read and write them, with a fused activation."""
        if self.model.activation == "gelu_new" or self.model.dropout:
            return None
        # The second pass reads input and gradient twice: for the input, and for the weights.
        norms = 2 * 14
        activation = 4 * 10  # on four widths
        sums = 4 * 6  # around attention and MLP, and of their gradients
        biases = 9 * 2  # gradients of three widths, one, four and one
        # Gradients of queries, keys and values are joined; the result is laid out by rows.
        heads = 12 + 8
        return (norms + activation + sums + biases + heads) * self.model.n_embd

    def fused(self, name: str) -> Fused | None:
        """`c_attn` holds those to queries, keys and values: Conv1D stores inputs as rows."""
        return Fused(1, 3) if ".c_attn." in name else None

    def matrix_parameters(self) -> int:
        """Queries, keys, values and their result; from and to four widths."""
        return self.model.n_layer * 12 * self.model.n_embd**2
