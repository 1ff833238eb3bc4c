"""Word counts: the same however the text is dealt out, and the same as HF tokenizers counts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, trainers

from kit.errors import InputError
from kit.store.files import file_hash
from kit.tokenizer import counts, huggingface
from kit.tokenizer.count import count

if TYPE_CHECKING:
    from collections.abc import Iterable

COUNTED = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=6),
    st.integers(1, 2**62),
    max_size=30,
)


def joined(chunks: Iterable[counts.CountBatch]) -> dict[str, int]:
    """The counts of chunks, which must be in order and name no word twice."""
    found = list(chunks)
    words = [word for chunk in found for word in chunk.words]
    assert words == sorted(set(words))
    return dict(zip(words, [number for chunk in found for number in chunk.counts], strict=True))


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "_CHUNK", 3)


@given(st.lists(COUNTED, max_size=5))
def test_merged_counts_are_the_sums_of_all(sources: list[dict[str, int]]) -> None:
    expected: Counter[str] = Counter()
    for source in sources:
        expected.update(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "_CHUNK", 3)
        assert joined(counts.merge([counts.chunks(source) for source in sources])) == expected


def test_counts_come_back_as_they_were_written(tmp_path: Path, short_chunks: None) -> None:
    found = {"a\tb": 1, "\r": 2**32, "\x85": 2**63, "語": 3, "𠮷": 4, "b": 5, "c": 6}
    assert counts.write(tmp_path, counts.chunks(found)) == 7
    assert joined(counts.read(tmp_path)) == found


def test_words_and_counts_that_differ_in_length_are_refused(tmp_path: Path) -> None:
    counts.write(tmp_path, counts.chunks({"a": 1, "b": 2}))
    (tmp_path / counts.COUNTS).write_bytes(b"12345678")
    with pytest.raises(InputError, match=r"words\.txt\.zst and counts\.u64 differ in length"):
        joined(counts.read(tmp_path))


def theirs(texts: Iterable[str], spaces: str) -> dict[str, int]:
    """The words that HF's BpeTrainer counts in surface text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = huggingface.pre_tokenizer(spaces)
    trainer = trainers.BpeTrainer(vocab_size=1, show_progress=False)
    tokenizer.train_from_iterator((huggingface.surface(text, spaces) for text in texts), trainer)
    found: dict[str, int] = json.loads(trainer.__getstate__())["BpeTrainer"]["words"]
    return found


@pytest.mark.parametrize("spaces", ["lossless", "article"])
def test_words_are_what_tokenizers_counts(
    web_texts: list[str], tmp_path: Path, spaces: str
) -> None:
    strange = "印 </s> <0x41> ▁a ▁ ▁<b ² x_1 ％ ー～ 👨‍👩‍👧 ไทย e\u0301 ␤\n"
    texts = [*web_texts, strange]
    assert joined(count(texts, spaces, tmp_path)) == theirs(texts, spaces)


@given(
    st.lists(st.text(st.sampled_from("ab<▁␤ \n\u0301²漢_."), max_size=12), max_size=8),
    st.sampled_from(["lossless", "article"]),
    st.integers(1, 5),
)
def test_with_little_room_the_counts_are_the_same(texts: list[str], spaces: str, room: int) -> None:
    with TemporaryDirectory() as scratch:
        found = joined(count(texts, spaces, Path(scratch), room))
        assert found == joined(count(texts, spaces, Path(scratch)))
    assert found == theirs(texts, spaces)


def test_what_is_more_than_the_room_goes_to_disk(tmp_path: Path) -> None:
    texts = [f"w{number} common\n" for number in range(100)]
    found = joined(count(texts, "lossless", tmp_path, capacity=10))
    assert (
        len(list(tmp_path.iterdir())) == 11
    )  # nine new words at a time, "common" and "" beside them
    assert found == {"common": 100} | {f"w{number}": 1 for number in range(100)}


def test_a_word_of_a_million_characters_is_a_word(tmp_path: Path) -> None:
    long = "あ" * 1_000_000
    assert joined(count([f"{long} い\n", f"い {long}\n"], "lossless", tmp_path)) == {
        "い": 2,
        long: 2,
    }


def test_these_words_give_these_bytes(web_texts: list[str], tmp_path: Path) -> None:
    counts.write(tmp_path, count(web_texts, "lossless", tmp_path / "runs"))
    found = np.fromfile(tmp_path / counts.COUNTS, "<u8")
    assert (len(found), int(found.sum())) == (1629, 5342)
    assert file_hash(tmp_path / counts.WORDS)[:16] == "e57d12e91f4e18fc", (
        "other bytes from the same words: raise TOKENIZER_VERSION in kit/data/tokens.py, then this hash"
    )
