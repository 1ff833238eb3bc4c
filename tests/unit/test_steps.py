"""The steps of a document: it goes through the segmenter in slices, and comes out whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.config.recipe import Corpus
from kit.corpus import segment, steps
from kit.corpus.steps import Steps, segmented

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DOCUMENTS = [
    ["霧の朝。駅に着く。", "ab cd", "次の行"],
    ["。" * 30],
    ["　"],
    ["短い。"] * 40,
    ["終わり"],
]


def corpus(**filters: object) -> Corpus:
    return Corpus.model_validate(
        {
            "sources": {"web": {"kind": "plaintext", "location": "web.txt"}},
            "unit_mb": 1,
            "tasks": 1,
            "held_out": 0.1,
            "segmenter": "mecab",
            "filters": filters,
        }
    )


def texts(recipe: Corpus, documents: list[list[str]]) -> tuple[list[tuple[str, str | None]], int]:
    """Text and fate of each document, and the most characters that the segmenter was given at once."""
    most = 0
    with segment.open(*segment.resolve("mecab"), 1) as words:
        stream = words.stream

        def measured(batches: Iterable[Sequence[str]]) -> Iterator[list[str]]:
            nonlocal most
            for batch in batches:
                most = max(most, sum(map(len, batch)))
                yield from stream([batch])

        words.stream = measured  # type: ignore[method-assign]
        made = [(text, d.left_out) for d, text in segmented(documents, Steps(recipe), words)]
    return made, most


@pytest.mark.parametrize("batch", [1, 2, 7, 50, 100])
def test_what_comes_out_does_not_depend_on_the_size_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    recipe = corpus(repeated_lines={"max_share": 0.5})
    expected, _ = texts(recipe, DOCUMENTS)
    assert [fate for _, fate in expected] == [None, None, "empty", "repeated_lines", None]
    monkeypatch.setattr(steps, "_BATCH", batch)
    assert texts(recipe, DOCUMENTS)[0] == expected


def test_a_long_document_is_segmented_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_BATCH", 100)
    ((text, _),), most = texts(corpus(), [["短い行である。"] * 1000])
    assert text.count("\n") == 1000
    assert most <= 110
