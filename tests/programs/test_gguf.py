"""GGUF files: the weights and keys as written, and their tokenizer by a rewriting of llama.cpp's rules."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import gguf
import numpy as np
import pytest
import torch
import transformers

from kit.config.recipe import GgufType, Release
from kit.config.tokenizer import TokenizerSpec
from kit.data import tokenizer_file
from kit.data.shards import LINE_END, SPACE, plain_text
from kit.errors import ConfigError, StageError
from kit.models import architectures
from kit.release import gguf_file, gguf_vocabulary, model_files
from kit.tokenizer import bpe, huggingface, unigram
from kit.tokenizer.count import count
from tests.architectures import SHAPES, each
from tests.llama_cpp import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from kit.config.recipe import Recipe
    from tests.conftest import Workdir

LOOKALIKES = ["</s>", "<unk>", "<s>", "<0x41>", "<0xE3>", "<<s>>", "x</s>y", "[unused5]"]
ODD = ["naïve café  ABC", "𠮷野家", "👨‍👩‍👧", "B\ufeff", "ーーーーー", "改\n行\n\n", *LOOKALIKES]
FORMS = [("bpe", "lossless"), ("unigram", "lossless"), ("bpe", "article")]
# Of a layer: llama.cpp's names, and transformers'.
GPT2 = {
    "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
}  # fmt: skip
LLAMA = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
QWEN3 = LLAMA | {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


class Made(NamedTuple):
    """A tokenizer of the kit, and what a GGUF file says of it."""

    ours: Tokenizer
    spaces: str
    file: Vocabulary


@pytest.fixture
def shape() -> tuple[str, ...]:
    """GPT-2, where a test does not say otherwise."""
    return SHAPES["gpt2"]


@pytest.fixture
def model(workdir: Workdir, shape: tuple[str, ...]) -> Any:
    return of_recipe(
        workdir.recipe("model.n_embd=64", "model.n_positions=16", "model.n_layer=2", *shape)
    )


def of_recipe(recipe: Recipe) -> Any:
    """A model with random weights; norms have such, too."""
    torch.manual_seed(0)
    architecture = architectures.of(recipe.model)
    config = architecture.configuration(270, begin=1, end=2)
    made = getattr(transformers, architecture.model_class)(config)
    for weight in made.parameters():
        if weight.dim() == 1:
            torch.nn.init.normal_(weight)
    model_files.set_generation(made, recipe.release)
    return made


def small() -> Tokenizer:
    entries = [*huggingface.first_entries("lossless"), *f"{SPACE}{LINE_END}abc<", "ab"]
    return huggingface.from_merges(entries, [("a", "b")], "lossless")


def saved(model: Any, path: Path, kind: GgufType) -> gguf.GGUFReader:
    gguf_file.save(model, small(), path, kind, name="small", license_name="apache-2.0")
    return gguf.GGUFReader(path)


def expected(model: Any) -> dict[str, np.ndarray]:
    """The weights by llama.cpp's names, with rows as outputs."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return (
        of_gpt2(weights) if model.config.model_type == "gpt2" else of_llama(weights, model.config)
    )


def of_gpt2(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {
        "token_embd.weight": weights["transformer.wte.weight"],
        "position_embd.weight": weights["transformer.wpe.weight"],
        "output_norm.weight": weights["transformer.ln_f.weight"],
        "output_norm.bias": weights["transformer.ln_f.bias"],
    }
    for layer, (own, theirs) in itertools.product(range(2), GPT2.items()):
        found[f"blk.{layer}.{own}.weight"] = weights[f"transformer.h.{layer}.{theirs}.weight"].T
        found[f"blk.{layer}.{own}.bias"] = weights[f"transformer.h.{layer}.{theirs}.bias"]
    return found


def of_llama(weights: dict[str, np.ndarray], config: Any) -> dict[str, np.ndarray]:
    found = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output_norm.weight": weights["model.norm.weight"],
    }
    if not config.tie_word_embeddings:
        found["output.weight"] = weights["lm_head.weight"]
    names = LLAMA if config.model_type == "llama" else QWEN3
    for layer, (own, theirs) in itertools.product(range(2), names.items()):
        matrix = weights[f"model.layers.{layer}.{theirs}.weight"]
        if config.model_type == "llama" and own in ("attn_q", "attn_k"):
            half = config.head_dim // 2
            # Rows 0 and 1 of a head turn together, which are rows 0 and half of transformers.
            order = [start + half * odd for start in range(half) for odd in (0, 1)]
            matrix = np.concatenate(
                [head[order] for head in np.split(matrix, len(matrix) // (2 * half))]
            )
        found[f"blk.{layer}.{own}.weight"] = matrix
    return found


def read(tensor: Any) -> np.ndarray:
    return gguf.dequantize(tensor.data, tensor.tensor_type)


@each
@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
def test_every_weight_is_read_back(model: Any, tmp_path: Path, kind: GgufType) -> None:
    torch_type = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[kind]
    found = {tensor.name: tensor for tensor in saved(model, tmp_path / "a.gguf", kind).tensors}
    assert found.keys() == expected(model).keys()
    for name, weights in expected(model).items():
        is_whole = weights.ndim == 1 or name == "position_embd.weight"
        stored = torch.from_numpy(weights).to(torch.float32 if is_whole else torch_type)
        assert np.array_equal(read(found[name]).reshape(weights.shape), stored.float().numpy())
        # llama.cpp names the length of a row first.
        assert tuple(found[name].shape) == weights.shape[::-1]
        assert found[name].tensor_type.name == ("F32" if is_whole else kind.upper())


@each
def test_eight_bits_are_within_half_a_step(model: Any, tmp_path: Path) -> None:
    found = {tensor.name: tensor for tensor in saved(model, tmp_path / "a.gguf", "q8_0").tensors}
    quantized = 0
    for name, weights in expected(model).items():
        if weights.ndim == 1 or name == "position_embd.weight":
            assert found[name].tensor_type.name == "F32"
            continue
        quantized += 1
        assert found[name].tensor_type.name == "Q8_0"
        blocks = np.ascontiguousarray(weights).reshape(-1, 32)
        # A step is the largest of 32 values over 127, in half precision: off by a part in 2,048.
        step = np.abs(blocks).max(axis=1, keepdims=True) / 127
        off = np.abs(read(found[name]).reshape(-1, 32) - blocks)
        assert (off <= step * (0.5 + 127 / 2048) + 1e-7).all()
        assert off.max() > 0
    # Of both layers, and the embedding; the Llama here has an output of its own.
    assert (
        quantized
        == {"gpt2": 2 * 4 + 1, "llama": 2 * 7 + 2, "qwen3": 2 * 7 + 1}[model.config.model_type]
    )


def test_rows_that_make_no_whole_blocks_stay_in_half_precision(
    workdir: Workdir, tmp_path: Path
) -> None:
    model = of_recipe(workdir.recipe("model.n_embd=48", "model.n_head=2"))
    found = saved(model, tmp_path / "a.gguf", "q8_0").tensors
    kinds = {tensor.name: tensor.tensor_type.name for tensor in found}
    assert kinds["blk.0.attn_qkv.weight"] == "F16"
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"  # its rows are 4 x 48


def test_a_file_has_the_keys_that_llama_cpp_demands(model: Any, tmp_path: Path) -> None:
    keys = {
        name: field.contents()
        for name, field in saved(model, tmp_path / "a.gguf", "q8_0").fields.items()
    }
    assert keys["general.architecture"] == "gpt2"
    assert (keys["general.name"], keys["general.license"]) == ("small", "apache-2.0")
    assert keys["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert keys["gpt2.context_length"] == 16
    assert (keys["gpt2.block_count"], keys["gpt2.embedding_length"]) == (2, 64)
    assert (keys["gpt2.feed_forward_length"], keys["gpt2.attention.head_count"]) == (256, 2)
    assert keys["gpt2.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    own = {name.removeprefix("tokenizer.ggml."): value for name, value in keys.items()}
    assert (own["model"], own["bos_token_id"], own["eos_token_id"]) == ("llama", 2, 2)
    assert (own["unknown_token_id"], own["padding_token_id"]) == (0, 1)
    assert not any(own[key] for key in ("add_bos_token", "add_eos_token", "add_space_prefix"))
    assert own["tokens"][:3] == ["<unk>", "<s>", "</s>"]
    assert len(own["tokens"]) == len(own["scores"]) == len(own["token_type"]) == 270
    kinds = [gguf.TokenType(kind) for kind in own["token_type"]]
    assert kinds[:3] == [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2]
    assert set(kinds[3:259]) == {gguf.TokenType.BYTE}
    # The embedding has more rows than the tokenizer has entries.
    assert kinds[259:] == [gguf.TokenType.NORMAL] * 7 + [gguf.TokenType.UNUSED] * 4


@pytest.mark.parametrize("shape", [SHAPES["llama"], SHAPES["qwen3"]], ids=["llama", "qwen3"])
def test_a_file_of_a_llama_has_the_keys_that_llama_cpp_demands(model: Any, tmp_path: Path) -> None:
    fields = saved(model, tmp_path / "a.gguf", "bf16").fields
    name = model.config.model_type
    assert fields["general.architecture"].contents() == name
    keys = {key.removeprefix(f"{name}."): field.contents() for key, field in fields.items()}
    assert (keys["context_length"], keys["block_count"], keys["embedding_length"]) == (16, 2, 64)
    assert (keys["feed_forward_length"], keys["vocab_size"]) == (192, 270)
    assert (keys["attention.head_count"], keys["attention.head_count_kv"]) == (2, 1)
    assert keys["attention.key_length"] == keys["attention.value_length"] == 32
    assert keys["attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    assert (keys["rope.dimension_count"], keys["rope.freq_base"]) == (32, 5e5)
    assert not any(key.startswith("rope.scaling") for key in keys)


def test_a_file_has_the_mode_that_the_umask_gives(model: Any, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        saved(model, tmp_path / gguf_file.file_name("demo", "q8_0"), "q8_0")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "demo-Q8_0.gguf").stat().st_mode) == 0o640


@pytest.fixture(scope="module", params=FORMS, ids="-".join)
def made(
    request: pytest.FixtureRequest,
    web_texts: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Made:
    algorithm, spaces = request.param
    spec = TokenizerSpec(algorithm=algorithm, vocab_size=1000, limit_alphabet=500, spaces=spaces)
    words = count(web_texts, spaces, tmp_path_factory.mktemp("counts"))
    trained = bpe.train(words, spec, 1) if algorithm == "bpe" else unigram.train(words, spec)
    return of_file(trained, spaces, tmp_path_factory.mktemp("gguf"))


def of_file(tokenizer: Tokenizer, spaces: str, folder: Path) -> Made:
    huggingface.save(tokenizer, folder)
    ours = tokenizer_file.load(folder)
    vocabulary = gguf_vocabulary.of(ours, ours.get_vocab_size())
    writer = gguf.GGUFWriter(folder / "vocabulary.gguf", "gpt2")
    gguf_file.add_vocabulary(writer, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return Made(ours, spaces, Vocabulary(folder / "vocabulary.gguf"))


def sentences(web_texts: Sequence[str]) -> list[str]:
    return [sentence for text in web_texts for sentence in text.splitlines()]


def known(made: Made, ids: Sequence[int]) -> list[int]:
    """Without `<unk>`: llama.cpp leaves out what the article's vocabulary lacks."""
    return [number for number in ids if made.spaces == "lossless" or number]


def test_raw_text_gets_the_same_ids_and_comes_back(made: Made, web_texts: list[str]) -> None:
    texts = [plain_text([sentence]) for sentence in sentences(web_texts)]
    for text in [*texts, *ODD, *map("".join, itertools.pairwise(ODD))]:
        ids = made.ours.encode(text, add_special_tokens=False).ids
        assert made.file.tokenize(text) == known(made, ids), text
        assert made.file.text(ids) == made.ours.decode(ids)


def test_words_encoded_one_by_one_get_the_ids_that_training_saw(
    made: Made, web_texts: list[str]
) -> None:
    for sentence in sentences(web_texts):
        given = huggingface.surface(sentence, made.spaces)
        by_word = [plain_text([word]) for word in sentence.split(" ")]
        ids = [number for word in by_word for number in made.file.tokenize(word)]
        assert ids == known(made, made.ours.encode(given, add_special_tokens=False).ids)


def test_text_that_an_entry_could_make_a_special_token_stays_text(tmp_path: Path) -> None:
    for entry, text in (("s>", "a<s>b"), ("/s>", "</s>"), ("0x41>", "<0x41>")):
        letters = [*f"{SPACE}{LINE_END}<ab", *sorted(set(entry))]
        grown = [entry[: length + 1] for length in range(1, len(entry))]
        merges = [(word[:-1], word[-1]) for word in grown]
        entries = [*huggingface.first_entries("lossless"), *dict.fromkeys([*letters, *grown])]
        folder = tmp_path / entry.strip("/>")
        found = of_file(huggingface.from_merges(entries, merges, "lossless"), "lossless", folder)
        ids = found.ours.encode(text, add_special_tokens=False).ids
        assert found.file.keys["tokenizer.ggml.model"] == "gpt2"
        assert found.file.tokenize(text) == ids
        assert entries.index(entry) in ids


def test_what_llama_cpp_cannot_read_is_refused_in_the_recipe(workdir: Workdir) -> None:
    gguf_key = "release.gguf=[f16, q8_0]"
    assert workdir.recipe(gguf_key).release.gguf == ["f16", "q8_0"]
    for wrong, said in (
        (("release.gguf=[f16, f16]",), "f16 is listed twice"),
        (("release.gguf=[q4_0]",), r"release\.gguf"),
        ((gguf_key, "model.activation=gelu"), r"unlike model\.activation=gelu"),
        (
            (gguf_key, "tokenizer.algorithm=unigram", "tokenizer.spaces=article"),
            "no tokenizer equal to unigram-1200-8000-article",
        ),
    ):
        with pytest.raises(ConfigError, match=said):
            workdir.recipe(*wrong)


def test_unigram_in_article_mode_is_refused_by_the_file_too() -> None:
    tokenizer = huggingface.from_scores([("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)], "article")
    with pytest.raises(
        StageError, match=r"no equal of unigram with spaces: article; leave it out$"
    ):
        gguf_vocabulary.of(tokenizer, 3)


def test_without_the_package_an_export_says_what_to_install(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(StageError, match=r"pip install 'ekiden\[gguf\]'$"):
        gguf_file.save(
            model, small(), tmp_path / "a.gguf", "f16", name="a", license_name=Release().license
        )
