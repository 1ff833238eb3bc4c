"""The files of a released model: modes, shards, and what readers expect in them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from kit.config.recipe import Release
from kit.data.tokens import TokenizerInfo
from kit.release import model_files
from kit.store.files import read_json
from kit.training import language_model
from tests import architectures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

POSITIONS = 16
INDEX = "model.safetensors.index.json"


@pytest.fixture
def shape() -> tuple[str, ...]:
    """GPT-2, where a test does not say otherwise."""
    return architectures.SHAPES["gpt2"]


@pytest.fixture
def model(workdir: Workdir, shape: tuple[str, ...]) -> Any:
    """A model with random weights, in the dtype of a release."""
    size = ("model.n_embd=8", f"model.n_positions={POSITIONS}", "model.n_layer=2")
    recipe, vocabulary = workdir.recipe(*size, *shape), TokenizerInfo(50, begin=1, end=2)
    torch.manual_seed(0)
    drawn = language_model.LanguageModel(recipe, vocabulary).state_dict()
    made = language_model.to_release(recipe.model, vocabulary, torch.bfloat16)
    made.load_state_dict(language_model.release_weights(drawn, recipe.model, 50))
    return made.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Beside the recipe."""
    return tmp_path / "export"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_every_file_has_the_mode_of_the_umask(
    model: Any, folder: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        model_files.save(model, folder)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys(
        ("config.json", "generation_config.json", "model.safetensors"), mode
    )


@architectures.each
def test_weights_above_the_limit_become_shards_that_transformers_loads(
    model: Any, folder: Path
) -> None:
    limit = 1200  # bytes; the largest matrix has 1,024
    model_files.save(model, folder, shard_bytes=limit)
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(shards) > 1
    assert {*read_json(folder / INDEX)["weight_map"].values()} == {*shards}
    weights = read_json(folder / INDEX)["metadata"]["total_size"]
    assert weights == sum(p.numel() * 2 for p in model.parameters())
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert loaded.dtype == torch.bfloat16
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert len(modes) == 1


def test_a_model_up_to_the_limit_is_one_file_without_an_index(model: Any, folder: Path) -> None:
    model_files.save(model, folder)
    assert [path.name for path in folder.glob("*safetensors*")] == ["model.safetensors"]
    assert model_files.SHARD_BYTES <= 5e9


@architectures.each
def test_older_readers_find_their_keys(model: Any, folder: Path) -> None:
    model_files.save(model, folder)
    config = read_json(folder / "config.json")
    if config["model_type"] == "gpt2":
        assert config["n_ctx"] == config["n_positions"] == POSITIONS
        assert "rope_theta" not in config
    else:
        assert config["max_position_embeddings"] == POSITIONS
        assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 5e5
        assert config.get("rope_scaling") is None
        assert "n_ctx" not in config
    assert config["torch_dtype"] == config["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16
    assert AutoConfig.from_pretrained(folder)._attn_implementation in (None, "sdpa")  # no own one


@architectures.each
def test_transformers_computes_what_was_scored(model: Any, folder: Path) -> None:
    model_files.save(model, folder)
    ids = torch.randint(0, 50, (2, POSITIONS), generator=torch.Generator().manual_seed(0))
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert torch.equal(loaded(ids).logits, model.float()(ids).logits)


@architectures.each
def test_with_a_cache_the_same_text_is_written(model: Any) -> None:
    prompt = torch.tensor([[3, 4, 5]])
    greedy = {"do_sample": False, "max_new_tokens": POSITIONS - 3, "eos_token_id": None}
    texts = [
        model.float().generate(
            prompt, attention_mask=torch.ones_like(prompt), pad_token_id=1, use_cache=on, **greedy
        )
        for on in (True, False)
    ]
    assert torch.equal(*texts)
    assert texts[0].shape == (1, POSITIONS)


@architectures.each
@pytest.mark.parametrize(("asked", "written"), [(40, POSITIONS // 2), (5, 5)])
def test_a_prompt_of_half_the_positions_is_continued_without_arguments(
    model: Any, folder: Path, asked: int, written: int
) -> None:
    model_files.set_generation(model, Release(max_new_tokens=asked))
    model_files.save(model, folder)
    assert read_json(folder / "generation_config.json")["max_new_tokens"] == written
    of_task = read_json(folder / "config.json")["task_specific_params"]["text-generation"]
    sampling = {"do_sample": True, "max_new_tokens": written, "temperature": 0.8, "top_p": 0.95}
    assert of_task == sampling
    loaded = AutoModelForCausalLM.from_pretrained(folder).float()
    loaded.generation_config.eos_token_id = None  # a document that does not end
    prompt = torch.full((1, POSITIONS // 2), 7)
    text = loaded.generate(prompt, attention_mask=torch.ones_like(prompt))
    assert text.shape == (1, POSITIONS // 2 + written)


@pytest.mark.parametrize(("bos", "number"), [("</s>", 2), ("<s>", 1)])
def test_a_document_begins_after_the_token_that_training_saw_before_it(
    model: Any, folder: Path, bos: Literal["</s>", "<s>"], number: int
) -> None:
    model_files.set_generation(model, Release(bos=bos))
    model_files.save(model, folder)
    for name in ("config.json", "generation_config.json"):
        found = read_json(folder / name)
        assert (found["bos_token_id"], found["eos_token_id"]) == (number, 2)
