"""The models of transformers, against the arithmetic of kit/models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from kit.config.recipe import Model
from kit.models import architectures

SHAPES: dict[str, dict[str, Any]] = {
    "GPT2LMHeadModel": {},
    "LlamaForCausalLM": {"architecture": "llama", "n_kv_head": 2, "rope_theta": 5e5},
    "Qwen3ForCausalLM": {"architecture": "llama", "qk_norm": True, "n_inner": 200},
    "LlamaForCausalLM, tied": {"architecture": "llama", "tie_embeddings": True},
}


@pytest.mark.parametrize("name", SHAPES)
def test_its_parameters_are_those_counted(name: str) -> None:
    architecture = architectures.of(Model(n_layer=3, n_embd=192, n_head=6, **SHAPES[name]))
    assert architecture.model_class == name.partition(",")[0]
    with torch.device("meta"):
        config = architecture.configuration(1000, begin=1, end=2)
        model = getattr(transformers, architecture.model_class)(config)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == architecture.parameters(1000)
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    assert names >= {*architecture.vocabulary_weights}
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == architecture.is_tied


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "LlamaForCausalLM", "Qwen3ForCausalLM"])
def test_weights_are_drawn_as_the_docs_say(name: str) -> None:
    """Radford et al. 2019 scale what leads to the residual stream; transformers' Llama and Qwen3 do not."""
    layers = 8
    architecture = architectures.of(Model(n_layer=layers, n_embd=96, n_head=2, **SHAPES[name]))
    torch.manual_seed(0)
    config = architecture.configuration(1000, begin=1, end=2)
    model = getattr(transformers, architecture.model_class)(config)
    for key, weight in model.named_parameters():
        if weight.dim() == 1:
            assert (weight == (0 if key.endswith("bias") else 1)).all(), key
            continue
        scale = (2 * layers) ** -0.5 if ".c_proj." in key else 1.0
        assert float(weight.detach().std()) == pytest.approx(0.02 * scale, rel=0.05), key
