"""The model that is trained, against the arithmetic of kit/plan."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2LMHeadModel

from kit.config.recipe import Model
from kit.data.tokens import TokenizerInfo
from kit.models.gpt2 import configuration
from kit.plan.size import shape_of


@pytest.mark.parametrize("size", [10e6, 124e6])
def test_its_parameters_are_those_that_the_plan_counts(size: float) -> None:
    shape, _ = shape_of(size)
    model = Model(n_layer=shape.n_layer, n_embd=shape.n_embd, n_head=shape.n_head)
    with torch.device("meta"):
        gpt2 = GPT2LMHeadModel(configuration(model, TokenizerInfo(shape.vocab_size, 1, 2)))
    assert sum(p.numel() for p in gpt2.parameters()) == shape.parameters
