"""Every architecture as overrides of a recipe: between them they have all that shapes a model.

@architectures.each
def test_it(workdir: Workdir, shape: tuple[str, ...]) -> None: workdir.recipe(*shape)
"""

from __future__ import annotations

import pytest

_ROTARY = ("model.architecture=llama", "model.n_kv_head=1", "model.rope_theta=5e5")
SHAPES: dict[str, tuple[str, ...]] = {
    "gpt2": (),
    "llama": _ROTARY,
    "qwen3": (*_ROTARY, "model.qk_norm=true", "model.tie_embeddings=true"),
}

each = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
