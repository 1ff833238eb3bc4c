"""What vLLM demands of a model, held against an export; test_vllm_reads.py runs vLLM itself.

Each demand quotes the line that it comes from: in vllm/model_executor/models, gpt2.py at e7dffa6, llama.py
at 0035bdf and qwen3.py at 002456d; vllm/model_executor/layers/activation.py, vllm/config.py, and
vllm/v1/attention/backends/flash_attn.py at 5704f34.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from kit.config import presets
from kit.config.load import load_recipe
from kit.data.shards import LINE_END, SPACE
from kit.models import architectures
from kit.release import model_files
from kit.store.files import read_json
from kit.tokenizer import huggingface
from tests.architectures import SHAPES

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
# By vLLM's names, which are those of transformers.
PARAMETERS = {
    r"transformer\.wte\.weight",
    r"transformer\.wpe\.weight",
    r"transformer\.ln_f\.(weight|bias)",
    r"transformer\.h\.\d+\.(ln_1|ln_2|attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.(weight|bias)",
}
LLAMA_PARAMETERS = {
    r"model\.embed_tokens\.weight",
    r"model\.norm\.weight",
    r"lm_head\.weight",
    r"model\.layers\.\d+\.(input|post_attention)_layernorm\.weight",
    r"model\.layers\.\d+\.self_attn\.[qkvo]_proj\.weight",
    r"model\.layers\.\d+\.mlp\.(gate|up|down)_proj\.weight",
}
QWEN3_PARAMETERS = LLAMA_PARAMETERS | {r"model\.layers\.\d+\.self_attn\.[qk]_norm\.weight"}
SIZE = {"n_embd": 64, "n_head": 8, "n_layer": 2, "n_positions": 32}
ROTARY = ("llama", "qwen3")


@pytest.fixture
def architecture() -> str:
    """GPT-2, where a test does not say otherwise."""
    return "gpt2"


@pytest.fixture
def export(workdir: Workdir, architecture: str) -> Path:
    """The files of a release that vLLM reads."""
    size = (f"model.{key}={value}" for key, value in SIZE.items())
    recipe = workdir.recipe(*size, *SHAPES[architecture])
    config = architectures.of(recipe.model).configuration(len(ENTRIES), begin=1, end=2)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model_files.set_generation(model, recipe.release)
    model_files.save(model, workdir.folder / "export")
    tokenizer = huggingface.from_merges(ENTRIES, [("a", "b")], "lossless")
    huggingface.save(tokenizer, workdir.folder / "export")
    return workdir.folder / "export"


def test_the_configuration_is_one_that_the_loader_accepts(export: Path) -> None:
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
    assert config.max_position_embeddings == SIZE["n_positions"]


@pytest.mark.parametrize("architecture", ["gpt2", *ROTARY])
def test_every_key_of_the_length_and_the_dtype_say_the_same(export: Path) -> None:
    config = AutoConfig.from_pretrained(export)
    # derived_max_model_len = min(derived_max_model_len, max_len_key), of every key there is
    raw = read_json(export / "config.json")
    assert {getattr(config, key) for key in LENGTHS if hasattr(config, key)} == {32}
    assert {raw[key] for key in LENGTHS if key in raw} == {32}
    # supported_dtypes: ClassVar[list[torch.dtype]] = [torch.float16, torch.bfloat16]
    assert raw["dtype"] == raw["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("architecture", ROTARY)
def test_the_configuration_of_a_llama_is_one_that_its_loader_accepts(
    export: Path, architecture: str
) -> None:
    # vLLM reads attributes of transformers' configuration, which in version 4 are the keys of the file.
    raw = read_json(export / "config.json")
    # models/registry.py: "LlamaForCausalLM": ("llama", "LlamaForCausalLM"), and the same of Qwen3
    assert raw["architectures"] == [f"{architecture.capitalize()}ForCausalLM"]
    # if hidden_act != "silu": raise ValueError
    assert raw["hidden_act"] == "silu"
    # rope_theta = getattr(config, "rope_theta", 10000), of Qwen3 1000000
    assert raw["rope_theta"] == raw["rope_parameters"]["rope_theta"] == 5e5
    # rope_scaling = getattr(config, "rope_scaling", None)
    assert raw.get("rope_scaling") is None
    assert raw["rope_parameters"]["rope_type"] == "default"
    # assert self.total_num_kv_heads % tp_size == 0
    assert raw["num_attention_heads"] % raw["num_key_value_heads"] == 0
    # self.head_dim = head_dim or hidden_size // self.total_num_heads
    assert raw["head_dim"] == raw["hidden_size"] // raw["num_attention_heads"] == 8
    # attention_bias = getattr(config, "attention_bias", False), bias=getattr(config, "mlp_bias", False)
    assert not raw["attention_bias"]
    assert not raw.get("mlp_bias", False)
    # attn_type = AttentionType.DECODER, if getattr(config, "is_causal", True)
    assert raw.get("is_causal", True)
    # sliding_window = getattr(config, "sliding_window", None), if use_sliding_window
    assert raw.get("sliding_window") is None
    assert {*raw.get("layer_types", ["full_attention"])} == {"full_attention"}
    # if config.tie_word_embeddings: self.lm_head = self.model.embed_tokens
    assert raw["tie_word_embeddings"] == (architecture == "qwen3")


def test_every_activation_of_a_recipe_is_known(workdir: Workdir) -> None:
    for activation in ("gelu_new", "gelu_pytorch_tanh", "gelu"):
        assert workdir.recipe(f"model.activation={activation}").model.activation in ACTIVATIONS


def shapes_of(export: Path) -> dict[str, Any]:
    """The shapes of the weights by name."""
    with safe_open(export / "model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def test_every_weight_has_a_place_and_its_shape(export: Path) -> None:
    shapes = shapes_of(export)
    for name in shapes:  # param = params_dict[name]
        assert any(re.fullmatch(pattern, name) for pattern in PARAMETERS), name
    assert len(shapes) == 4 + 12 * SIZE["n_layer"]  # none is left as it was initialised
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


@pytest.mark.parametrize(
    ("architecture", "known", "of_layer", "others"),
    [("llama", LLAMA_PARAMETERS, 9, 3), ("qwen3", QWEN3_PARAMETERS, 11, 2)],
)
def test_every_weight_of_a_llama_has_a_place_and_its_shape(
    export: Path, known: set[str], of_layer: int, others: int
) -> None:
    shapes = shapes_of(export)
    for name in shapes:  # param = params_dict[name], by stacked_params_mapping
        assert any(re.fullmatch(pattern, name) for pattern in known), name
    # Of tied weights there is one: skip_prefixes=(["lm_head."] if self.config.tie_word_embeddings
    assert len(shapes) == others + of_layer * SIZE["n_layer"]
    assert shapes["model.embed_tokens.weight"] == [len(ENTRIES), 64]
    # QKVParallelLinear(hidden_size, self.head_dim, self.total_num_heads, self.total_num_kv_heads
    assert shapes["model.layers.0.self_attn.q_proj.weight"] == [64, 64]
    assert shapes["model.layers.0.self_attn.k_proj.weight"] == [8, 64]


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
