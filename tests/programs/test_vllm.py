"""What vLLM demands of a GPT-2, held against an export; vLLM itself is not run.

Each demand quotes the line that it comes from: vllm/model_executor/models/gpt2.py at e7dffa6,
vllm/model_executor/layers/activation.py, vllm/config.py, and vllm/v1/attention/backends/flash_attn.py at
5704f34.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, GPT2LMHeadModel

from kit.config import presets
from kit.config.load import load_recipe
from kit.data.shards import LINE_END, SPACE
from kit.models import architectures
from kit.release import model_files
from kit.store.files import read_json
from kit.tokenizer import huggingface

if TYPE_CHECKING:
    from tests.conftest import Workdir

ACTIVATIONS = {  # _ACTIVATION_REGISTRY
    "gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "silu", "quick_gelu",
}  # fmt: skip
LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
)
ENTRIES = [*huggingface.first_entries("lossless"), *f"{SPACE}{LINE_END}<ab", "ab"]
PARAMETERS = {  # GPT2Model, by vLLM's names: those of transformers
    r"transformer\.wte\.weight",
    r"transformer\.wpe\.weight",
    r"transformer\.ln_f\.(weight|bias)",
    r"transformer\.h\.\d+\.(ln_1|ln_2|attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.(weight|bias)",
}


@pytest.fixture(scope="module")
def shape() -> dict[str, int]:
    return {"n_embd": 64, "n_head": 8, "n_layer": 2, "n_positions": 32}


@pytest.fixture
def export(workdir: Workdir, shape: dict[str, int]) -> Path:
    """The files of a release that vLLM reads."""
    recipe = workdir.recipe(*(f"model.{key}={value}" for key, value in shape.items()))
    config = architectures.of(recipe.model).configuration(len(ENTRIES), begin=1, end=2)
    model = GPT2LMHeadModel(config).to(torch.bfloat16)
    model_files.set_generation(model, recipe.release)
    model_files.save(model, workdir.folder / "export")
    tokenizer = huggingface.from_merges(ENTRIES, [("a", "b")], "lossless")
    huggingface.save(tokenizer, workdir.folder / "export")
    return workdir.folder / "export"


def test_the_configuration_is_one_that_the_loader_accepts(
    export: Path, shape: dict[str, int]
) -> None:
    config = AutoConfig.from_pretrained(export)
    # models/registry.py: "GPT2LMHeadModel": ("gpt2", "GPT2LMHeadModel")
    assert config.architectures == ["GPT2LMHeadModel"]
    assert not config.add_cross_attention  # assert not config.add_cross_attention
    # assert not config.scale_attn_by_inverse_layer_idx
    assert not config.scale_attn_by_inverse_layer_idx
    assert not config.reorder_and_upcast_attn  # assert not config.reorder_and_upcast_attn
    assert config.scale_attn_weights  # self.scale = self.head_dim**-0.5
    # self.act = get_act_fn(config.activation_function)
    assert config.activation_function in ACTIVATIONS
    # inner_dim = (config.n_inner if config.n_inner is not None else 4 * hidden_size)
    assert config.n_inner is None
    # self.wpe = nn.Embedding(config.max_position_embeddings, self.embed_dim)
    assert config.max_position_embeddings == shape["n_positions"]
    # derived_max_model_len = min(derived_max_model_len, max_len_key), of every key there is
    raw = read_json(export / "config.json")
    assert {getattr(config, key) for key in LENGTHS if hasattr(config, key)} == {32}
    assert {raw[key] for key in LENGTHS if key in raw} == {32}
    # supported_dtypes: ClassVar[list[torch.dtype]] = [torch.float16, torch.bfloat16]
    assert raw["dtype"] == raw["torch_dtype"] == "bfloat16"


def test_every_activation_of_a_recipe_is_known(workdir: Workdir) -> None:
    for activation in ("gelu_new", "gelu_pytorch_tanh", "gelu"):
        assert workdir.recipe(f"model.activation={activation}").model.activation in ACTIVATIONS


def test_every_weight_has_a_place_and_its_shape(export: Path, shape: dict[str, int]) -> None:
    with safe_open(export / "model.safetensors", "pt") as file:
        shapes: dict[str, Any] = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    for name in shapes:  # param = params_dict[name]
        assert any(re.fullmatch(pattern, name) for pattern in PARAMETERS), name
    assert len(shapes) == 4 + 12 * shape["n_layer"]  # none is left as it was initialised
    # self.wte = VocabParallelEmbedding(config.vocab_size, self.embed_dim
    assert shapes["transformer.wte.weight"] == [read_json(export / "config.json")["vocab_size"], 64]
    # loaded_weight = loaded_weight.t(), of c_attn, c_proj and c_fc: they are stored [in, out]
    for name, size in (
        ("attn.c_attn", [64, 192]),
        ("mlp.c_fc", [64, 256]),
        ("mlp.c_proj", [256, 64]),
    ):
        assert shapes[f"transformer.h.0.{name}.weight"] == size
    # if self.config.tie_word_embeddings: self.lm_head = self.lm_head.tie_weights(...)
    assert AutoConfig.from_pretrained(export).tie_word_embeddings


def test_the_tokenizer_is_fast_and_within_the_embedding(export: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(export)
    assert tokenizer.is_fast
    config = AutoConfig.from_pretrained(export)
    assert max(tokenizer.get_vocab().values()) < config.vocab_size
    assert config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("name", ["gpt2-xl-ja", "gpt2-xl-ja-article", "llama-1b-ja", "demo"])
def test_heads_of_the_recipes_are_sizes_that_its_attention_has(name: str) -> None:
    model = load_recipe(presets.recipe(Path(name)), []).model
    size = model.n_embd // model.n_head
    assert size % 8 == 0  # return head_size % 8 == 0 and head_size <= 256
    assert size <= 256
