"""Arithmetic of a run, against numbers that were worked out by hand."""

from __future__ import annotations

import math

import pytest

from kit.config.recipe import Model
from kit.models import architectures
from kit.plan.interval import checkpoint_interval


def test_the_work_of_a_token_of_gpt2_124m() -> None:
    """GPT-2 small: 12 layers of width 768, 1,024 positions, a vocabulary of 50,257."""
    embeddings = 50_257 * 768 + 1_024 * 768
    # Two norms; queries, keys, values, projection; the two layers of the MLP: all with their biases.
    layer = (
        4 * 768
        + (2_304 * 768 + 2_304)
        + (768 * 768 + 768)
        + (3_072 * 768 + 3_072 + 768 * 3_072 + 768)
    )
    parameters = embeddings + 12 * layer + 2 * 768
    assert parameters == 124_439_808
    model = Model(n_layer=12, n_embd=768, n_head=12, n_positions=1_024)
    # 6 x 124,439,808 + 12 x 12 x 768 x 1,024 = 746,638,848 + 113,246,208
    assert architectures.of(model).flops_per_token(parameters) == 859_885_056


def test_saves_are_as_far_apart_as_young_and_daly_compute() -> None:
    day = 86_400.0
    assert checkpoint_interval(0.5, 0.0, 0.0, 0) == pytest.approx(math.sqrt(2 * 0.5 * day))
    # Nine interruptions in nine days, and the one of the prior: one a day still.
    assert checkpoint_interval(0.5, 0.0, 9 * day, 9) == pytest.approx(math.sqrt(2 * 0.5 * day))
    # A save is in flight a tenth of the time at the most.
    assert checkpoint_interval(0.5, 100.0, 0.0, 0) == 1000.0
