"""The files of a released model: modes, shards, and what readers expect in them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Literal

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from kit.config.recipe import Release
from kit.models import architectures
from kit.release import model_files
from kit.store.files import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

POSITIONS = 16
INDEX = "model.safetensors.index.json"


@pytest.fixture
def model(workdir: Workdir) -> GPT2LMHeadModel:
    recipe = workdir.recipe("model.n_embd=8", f"model.n_positions={POSITIONS}", "model.n_layer=2")
    config = architectures.of(recipe.model).configuration(50, begin=1, end=2)
    return GPT2LMHeadModel(config).to(torch.bfloat16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Beside the recipe."""
    return tmp_path / "export"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_every_file_has_the_mode_of_the_umask(
    model: GPT2LMHeadModel, folder: Path, umask: int, mode: int
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


def test_weights_above_the_limit_become_shards_that_transformers_loads(
    model: GPT2LMHeadModel, folder: Path
) -> None:
    limit = 1200  # bytes; the largest matrix has 800
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


def test_a_model_up_to_the_limit_is_one_file_without_an_index(
    model: GPT2LMHeadModel, folder: Path
) -> None:
    model_files.save(model, folder)
    assert [path.name for path in folder.glob("*safetensors*")] == ["model.safetensors"]
    assert model_files.SHARD_BYTES <= 5e9


def test_older_readers_find_their_keys(model: GPT2LMHeadModel, folder: Path) -> None:
    model_files.save(model, folder)
    config = read_json(folder / "config.json")
    assert config["n_ctx"] == config["n_positions"] == POSITIONS
    assert config["torch_dtype"] == config["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16


@pytest.mark.parametrize(("asked", "written"), [(40, POSITIONS // 2), (5, 5)])
def test_a_prompt_of_half_the_positions_is_continued_without_arguments(
    model: GPT2LMHeadModel, folder: Path, asked: int, written: int
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
    model: GPT2LMHeadModel, folder: Path, bos: Literal["</s>", "<s>"], number: int
) -> None:
    model_files.set_generation(model, Release(bos=bos))
    model_files.save(model, folder)
    for name in ("config.json", "generation_config.json"):
        found = read_json(folder / name)
        assert (found["bos_token_id"], found["eos_token_id"]) == (number, 2)
