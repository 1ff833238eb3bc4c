"""The files of a model as readers load them: weights in shards, config.json, generation_config.json.

Every file has the mode that the umask gives, whatever the library that wrote it left, and is on the disk
when `save` returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.release.tokenizer_files import pad_id
from kit.store.files import read_json, settle, write_json
from kit.tokenizer.huggingface import END

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Release

SHARD_BYTES = (
    5_000_000_000  # the Hub's advice, and what transformers 4 wrote: a download that resumes
)
_CONFIG, _GENERATION = "config.json", "generation_config.json"
_SAMPLING = ("do_sample", "max_new_tokens", "temperature", "top_p")


def save(model: Any, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write a transformers model; weights above `shard_bytes` become shards with an index."""
    model.save_pretrained(folder, max_shard_size=shard_bytes)
    config, generation = (read_json(folder / name) for name in (_CONFIG, _GENERATION))
    write_json(folder / _CONFIG, config | _of_older_readers(config, generation))
    for path in [path for path in folder.iterdir() if path.is_file()]:
        settle(path)


def set_generation(model: Any, release: Release) -> None:
    """Set the generation defaults and the special tokens of a transformers model to those of the release.

    A prompt of up to half the positions can be continued without any argument.
    """
    from transformers import GenerationConfig

    config = model.config
    config.use_cache = True
    if release.bos == END:
        config.bos_token_id = config.eos_token_id
    config.pad_token_id = pad_id(release)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        do_sample=True,
        temperature=release.temperature,
        top_p=release.top_p,
        max_new_tokens=new_tokens(release, config.max_position_embeddings),
    )


def new_tokens(release: Release, positions: int) -> int:
    """The most tokens that a reader generates by default: half the context is left for the prompt."""
    return max(1, min(release.max_new_tokens, positions // 2))


def _of_older_readers(config: dict[str, Any], generation: dict[str, Any]) -> dict[str, Any]:
    """Keys that transformers no longer writes.

    `n_ctx` of a GPT-2 is read by llama.cpp's converter, `torch_dtype` by transformers before 4.56. Without
    `rope_theta` transformers 4 and what is built on it compute rotary positions with their own 10,000. A
    pipeline of transformers 4.57 has a max_new_tokens of its own, 256, which passes the end of a short
    model; only `task_specific_params` come before it (pipelines/base.py).
    """
    rotary = config.get("rope_parameters")
    sampling = {key: generation[key] for key in _SAMPLING if key in generation}
    return {
        **({"n_ctx": config["n_positions"]} if "n_positions" in config else {}),
        **({"rope_theta": rotary["rope_theta"]} if rotary else {}),
        "torch_dtype": config["dtype"],
        "task_specific_params": {"text-generation": sampling},
    }
