"""The tokenizer as readers load it: its entries under the names and roles that a release has.

Training never reads the entry `<s>`, and learns that no text has it: it is released as `<pad>`. Rows,
ids and probabilities stay as they are, whether or not the embedding has padding rows. With
`release.bos: <s>` that entry is the bos; `<unk>` pads instead.

A special token in a text is that token, as readers and recipes of fine-tuning expect: `text + eos_token`
ends with the id of `</s>`. The kit's own loader (kit/data/tokenizer_file.py) reads it as text.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from kit.store.files import read_json, write_json, write_text
from kit.tokenizer.huggingface import BEGIN, FILE, SETTINGS, SPECIAL, UNKNOWN

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Release

PAD = "<pad>"


def pad_id(release: Release) -> int:
    """The id of the token that fills up shorter texts of a batch."""
    return SPECIAL.index(UNKNOWN if release.bos == BEGIN else BEGIN)


def save(tokenizer: Path, release: Release, n_positions: int, folder: Path) -> None:
    """Write the files that AutoTokenizer loads, from those in the folder of a tokenizer."""
    pad = UNKNOWN
    if release.bos == BEGIN:
        shutil.copyfile(tokenizer / FILE, folder / FILE)
    else:
        pad = PAD
        tree = _renamed(read_json(tokenizer / FILE), BEGIN, PAD)
        write_text(folder / FILE, json.dumps(tree, ensure_ascii=False, indent=2))
    settings = read_json(tokenizer / SETTINGS) | {
        "bos_token": release.bos,
        "pad_token": pad,
        "padding_side": "left",  # a text is continued at its right end
        "split_special_tokens": False,
        "model_max_length": n_positions,
    }
    write_json(folder / SETTINGS, settings)


def _renamed(tree: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The content of tokenizer.json with another name for a special token; its id stays."""
    added = [
        token | {"content": new} if token["content"] == old else token
        for token in tree["added_tokens"]
    ]
    entries = tree["model"]["vocab"]
    if isinstance(entries, dict):  # BPE: names to ids
        vocab: Any = {new if name == old else name: number for name, number in entries.items()}
    else:  # Unigram: names with their scores, in the order of the ids
        vocab = [[new if name == old else name, score] for name, score in entries]
    return tree | {"added_tokens": added, "model": tree["model"] | {"vocab": vocab}}
