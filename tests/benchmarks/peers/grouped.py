"""A corpus as run_clm.py of transformers makes it: `datasets.map` to tokens, and again to blocks.

As there, a batch of a thousand documents is concatenated and cut, and its rest is dropped. `</s>` is
put behind each document, which run_clm.py leaves to its user.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from datasets import Dataset, load_dataset
from transformers import AutoTokenizer

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 1024

Batch = dict[str, list[Any]]


def load(documents: Path, cache: Path) -> Dataset:
    """Documents from a file of JSON lines, whose key is `text`."""
    return load_dataset("json", data_files=str(documents), split="train", cache_dir=str(cache))


def main(raw: Dataset, tokenizer_folder: Path) -> tuple[Dataset, Dataset]:
    """The tokens of each document, and the blocks of all."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    end = tokenizer.eos_token_id

    def tokenize(examples: Batch) -> Batch:
        # GPT-2's own tokenizer gives no types of tokens either.
        found = tokenizer(examples["text"], return_token_type_ids=False)
        for ids, mask in zip(found["input_ids"], found["attention_mask"], strict=True):
            ids.append(end)
            mask.append(1)
        return found

    tokens = raw.map(tokenize, batched=True, remove_columns=["text"], load_from_cache_file=False)
    return tokens, tokens.map(group, batched=True, load_from_cache_file=False)


def group(examples: Batch) -> Batch:
    """Blocks of a batch, and the same blocks as labels."""
    joined = {key: list(itertools.chain(*rows)) for key, rows in examples.items()}
    length = len(joined["input_ids"]) // _BLOCK * _BLOCK
    blocks = {
        key: [row[start : start + _BLOCK] for start in range(0, length, _BLOCK)]
        for key, row in joined.items()
    }
    blocks["labels"] = blocks["input_ids"].copy()
    return blocks
