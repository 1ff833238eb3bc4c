"""Byte-pair encoding from counts: the vocabulary and merges of HF tokenizers' trainer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from kit.config.tokenizer import TokenizerSpec
from kit.errors import InputError
from kit.relay import resolve
from kit.run import directory
from kit.tokenizer import bpe, counts, huggingface
from kit.tokenizer.count import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from kit.store.paths import Run
    from tests.conftest import Workdir

    Spaces = Literal["lossless", "article"]


def model_of(tokenizer: Tokenizer) -> tuple[dict[str, int], list[Any]]:
    """Vocabulary and merges."""
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def ours(
    words: Mapping[str, int],
    size: int,
    spaces: Spaces = "lossless",
    least: int = 1,
    limit: int = 8000,
) -> Tokenizer:
    vocabulary = TokenizerSpec(vocab_size=size, limit_alphabet=limit, spaces=spaces)
    return bpe.train(counts.chunks(words), vocabulary, least)


def theirs(
    texts: Iterable[str], size: int, spaces: str, cutter: Any, least: int = 1, **more: Any
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cutter
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=least,
        special_tokens=list(huggingface.first_entries(spaces)),
        show_progress=False,
        **more,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@pytest.fixture(autouse=True)
def no_text_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is held against BpeTrainer here is the compiled loop's, but where a test says otherwise."""
    monkeypatch.setattr(bpe, "_SMALL_TEXT", -1)


@pytest.mark.parametrize(("limit", "size"), [(150, 520), (8000, 1150)])
@pytest.mark.parametrize("spaces", ["lossless", "article"])
def test_a_small_text_gives_the_same_tokenizer_either_way(
    web_words: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    spaces: Spaces,
    limit: int,
    size: int,
) -> None:
    compiled = ours(web_words, size, spaces, 1, limit).to_str()
    monkeypatch.setattr(bpe, "_SMALL_TEXT", 10**9)
    monkeypatch.delattr("kit.tokenizer.merge_loop.merge")  # it is not asked
    assert ours(web_words, size, spaces, 1, limit).to_str() == compiled


@pytest.mark.parametrize("spaces", ["lossless", "article"])
@pytest.mark.parametrize("least", [1, 3])
def test_real_text_gives_the_merges_of_tokenizers(
    web_texts: list[str], tmp_path: Path, spaces: Spaces, least: int
) -> None:
    found = bpe.train(
        count(web_texts, spaces, tmp_path), TokenizerSpec(vocab_size=1150, spaces=spaces), least
    )
    texts = [huggingface.surface(text, spaces) for text in web_texts]
    peer = theirs(texts, 1150, spaces, huggingface.pre_tokenizer(spaces), least)
    assert model_of(found) == model_of(peer)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=9), st.integers(1, 6), min_size=1, max_size=25
    ),
    st.integers(1, 4),
    st.integers(0, 40),
)
def test_any_words_give_the_merges_of_tokenizers(
    words: dict[str, int], least: int, merges: int
) -> None:
    texts = [" ".join([word] * number) for word, number in words.items()]
    size = len(huggingface.first_entries("article")) + len(set("".join(words))) + merges
    peer = theirs(texts, size, "article", pre_tokenizers.WhitespaceSplit(), least)
    reached = max(4, peer.get_vocab_size())
    assert model_of(ours(words, reached, "article", least)) == model_of(peer)


def test_counts_beyond_32_bits_are_counted(web_words: dict[str, int]) -> None:
    many = {word: number * 10**10 for word, number in web_words.items()}
    assert min(many.values()) > 2**32
    assert model_of(ours(many, 1200)) == model_of(ours(web_words, 1200))


def test_of_equally_frequent_characters_those_of_smaller_code_points_stay() -> None:
    vocabulary = ours({"襷駅伝山川海": 5, "海": 1}, 8, "article", limit=4).get_vocab()
    alphabet = [*sorted("襷駅伝山川")[:3], "海"]  # the one that stands out, and three of five
    assert {entry for entry in vocabulary if len(entry) == 1} == set(alphabet)


def test_where_the_alphabet_cuts_the_merges_are_still_those_of_tokenizers(
    web_texts: list[str], web_words: dict[str, int]
) -> None:
    frequency: Counter[str] = Counter()
    for word, number in web_words.items():
        frequency.update({character: number * word.count(character) for character in set(word)})
    alphabet = sorted(frequency, key=lambda character: (-frequency[character], character))[:150]
    texts = [huggingface.surface(text, "lossless") for text in web_texts]
    peer = theirs(
        texts, 700, "lossless", huggingface.pre_tokenizer("lossless"),
        initial_alphabet=alphabet, limit_alphabet=len(alphabet),
    )  # fmt: skip
    assert model_of(ours(web_words, 700, limit=150)) == model_of(peer)


def test_one_word_of_a_million_characters_is_trained_on(web_words: dict[str, int]) -> None:
    words = web_words | {"あい" * 500_000: 1}
    assert "あい" in ours(words, 1200).get_vocab()


def test_no_words_are_refused() -> None:
    with pytest.raises(InputError, match="the corpus is empty"):
        ours({}, 300)


def test_more_entries_than_the_words_give_are_refused(web_words: dict[str, int]) -> None:
    with pytest.raises(
        InputError,
        match=r"vocab_size=50000: the corpus yields only \d+ entries; choose \d+ to \d+$",
    ) as caught:
        ours(web_words, 50_000)
    most = int(str(caught.value).rsplit(" ", 1)[1])
    assert ours(web_words, most).get_vocab_size() == most


def test_entries_by_the_billion_are_refused_as_well(web_words: dict[str, int]) -> None:
    with pytest.raises(
        InputError, match=r"vocab_size=2147483647: the corpus yields only \d+ entries"
    ):
        ours(web_words, 2**31 - 1)


def test_fewer_entries_than_the_alphabet_are_refused(web_words: dict[str, int]) -> None:
    with pytest.raises(InputError, match="special tokens, bytes and alphabet alone take") as caught:
        ours(web_words, 300)
    least = int(str(caught.value).split("alone take ")[1].split()[0])
    assert ours(web_words, least).get_vocab_size() == least


# What a task of a run does: the kit comes from the run's snapshot of the code.
_MERGE = """
import sys
from pathlib import Path
from kit.tokenizer import bpe, counts, merge_loop
from kit.config.tokenizer import TokenizerSpec
bpe._SMALL_TEXT = 0
bpe.train(counts.chunks({"ab": 3, "abc": 2, "bc": 1}), TokenizerSpec(vocab_size=263), 1)
assert Path(merge_loop.__file__).is_relative_to(sys.argv[1]), merge_loop.__file__
for function in (merge_loop.merge, merge_loop.hash_tokens):
    print(sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values()))
"""


def merge_in(run: Run) -> list[str]:
    """Hits and misses of numba's cache, of the two functions that are called."""
    done = subprocess.run(
        [sys.executable, "-c", _MERGE, str(run.root.resolve())],
        capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(run.code.resolve()), "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    return done.stdout.splitlines()


def test_another_run_compiles_nothing(workdir: Workdir) -> None:
    runs = [
        directory.prepare(resolve.load(workdir.recipe_file, [f"name={n}"])) for n in ("one", "two")
    ]
    merge_in(runs[0])  # compiles, where nobody has before
    assert merge_in(runs[1]) == ["1 0", "1 0"]
