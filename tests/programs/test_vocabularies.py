"""Vocabularies of the sizes that are used, from megabytes of real text, beside tokenizers' own trainer."""

from __future__ import annotations

import bz2
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transformers
from tokenizers import Tokenizer, models, trainers

from kit.config.tokenizer import TokenizerSpec
from kit.data.shards import BOUNDARY
from kit.tokenizer import bpe, huggingface
from kit.tokenizer.count import count
from tests.dump import DUMP, needs_dump
from tests.speed import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(transformers.__file__).parent / "models"
_SIZE = 6_000_000  # characters
_CUTS = re.compile("(?<=[ぁ-ん])(?=[^ぁ-ん])|(?<=[^ぁ-ん])(?=[ぁ-ん])")  # near enough to words


def sources() -> Iterator[str]:
    """Documents of a shard: what stands between white space is a word."""
    size = 0
    for path in sorted(SOURCES.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield "".join(f"{' '.join(line.split())}\n" for line in text.splitlines() if line.split())
        size += len(text)
        if size > _SIZE:
            return


def dump() -> Iterator[str]:
    """The head of a Japanese Wikipedia as it is, cut where hiragana begin and end."""
    text = bz2.decompress(DUMP.read_bytes())[: 3 * _SIZE].decode(errors="ignore")
    for line in text.translate({ord("▁"): None, ord("␤"): None}).split("\n"):
        yield " ".join(_CUTS.sub(" ", line).split()) + "\n"


def model_of(tokenizer: Tokenizer) -> tuple[dict[str, int], list[Any]]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


@pytest.mark.parametrize(
    "text",
    [
        sources,
        pytest.param(dump, marks=needs_dump),
    ],
)
def test_the_merges_are_those_of_tokenizers(text: Any, tmp_path: Path) -> None:
    words = [*count(text(), "lossless", tmp_path)]
    given = [huggingface.surface(document, "lossless") for document in text()]
    for size in (8_000, 50_000) if LONG else (8_000,):
        ours = bpe.train(words, TokenizerSpec(vocab_size=size, limit_alphabet=100_000), 2)
        theirs = Tokenizer(models.BPE())
        theirs.pre_tokenizer = huggingface.pre_tokenizer("lossless")
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            special_tokens=list(huggingface.first_entries("lossless")),
            show_progress=False,
        )
        theirs.train_from_iterator(given, trainer)
        assert BOUNDARY not in ours.get_vocab()
        assert ours.get_vocab_size() == size
        assert model_of(ours) == model_of(theirs)
