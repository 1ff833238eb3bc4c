"""The bytes that tokens stand for: of all tokens those of the text, of some blocks those of their text."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest

from kit.data import shards, text_bytes
from kit.data.tokens import TokenStream
from kit.tokenizer import huggingface
from tests import vocabulary

Spaces = Literal["lossless", "article"]
# Two documents as in a shard; 鰻 and 🦀 are no entries.
DOCUMENTS = (
    ["今日 は 駅伝 。", f"ABC {shards.SPACE}の {shards.LINE_END}"],
    [f"海 の 鰻 と 🦀 {shards.LINE_END}"],
)
LENGTH = 4


def tokenized(spaces: str) -> tuple[np.ndarray, TokenStream, list[int]]:
    """The table of bytes, the documents as a stream, and the same tokens."""
    known = ["今日 は 駅伝 。", f"ABC {shards.SPACE}の {shards.LINE_END}", "海 の と"]
    tokenizer = vocabulary.trained(known, spaces)
    end = tokenizer.token_to_id(huggingface.END)
    texts = [huggingface.surface(shards.document(lines), spaces) for lines in DOCUMENTS]
    ids = [[*tokenizer.encode(text, add_special_tokens=False).ids, end] for text in texts]
    files = tuple(np.array(row, "<u2") for row in ids)
    starts = (0, *itertools.accumulate(map(len, files)))
    return text_bytes.table(tokenizer), TokenStream(files, starts), [*itertools.chain(*ids)]


def test_the_bytes_of_all_tokens_are_those_of_the_text() -> None:
    sizes, _, ids = tokenized("lossless")
    plain = "".join(shards.plain_text(lines) for lines in DOCUMENTS)
    assert sizes[ids].sum() == len(plain.encode())


@pytest.mark.parametrize("inside", [False, True])
def test_a_loss_per_byte_is_over_the_bytes_of_the_tokens_predicted(inside: bool) -> None:
    sizes, stream, ids = tokenized("lossless")
    text = int(sizes[ids].sum())
    for blocks in range(1, stream.blocks(LENGTH) + 1):
        predicted = [
            block * LENGTH + place
            for block in range(blocks)
            for place in range(1, LENGTH + (0 if inside else 1))
        ]
        found = text_bytes.tokens_per_byte(sizes, stream, blocks, LENGTH, text, inside=inside)
        assert found == pytest.approx(len(predicted) / sizes[[ids[n] for n in predicted]].sum())


def test_where_tokens_lack_spaces_blocks_count_for_their_share_of_the_text() -> None:
    sizes, stream, ids = tokenized("article")
    whole, blocks = int(sizes[ids].sum()), 2
    covered = int(sizes[ids[1 : blocks * LENGTH + 1]].sum())
    found = text_bytes.tokens_per_byte(sizes, stream, blocks, LENGTH, 2 * whole, inside=False)
    assert found == pytest.approx(blocks * LENGTH / (2 * covered))


def test_without_bytes_there_is_no_loss_per_byte() -> None:
    sizes, stream, _ = tokenized("lossless")
    assert text_bytes.tokens_per_byte(sizes, stream, 1, LENGTH, 0, inside=False) is None
