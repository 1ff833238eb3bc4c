"""Text in the form in which training saw it: normalised, and segmented into words.

with segment.open(...) as words:
    segmented(["霧浜県の"], recipe.corpus, words)     # sentences of a shard
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from kit.data import shards
from kit.tokenizer import huggingface

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

    from kit.config.recipe import Corpus
    from kit.corpus.segment import Segmenter

_MOST_LINES = 1 << 16  # remembered: the examples of a task stand before each of its questions


def segmented(text: str, corpus: Corpus, words: Segmenter) -> list[str]:
    """A text as sentences of a shard, the last line left open for a model to continue."""
    from kit.corpus import line_ends

    sentences = _sentences(line_ends.split(text, line_ends.of_mode(corpus.mode)), corpus, words)
    return [*sentences[:-1], *(_open(sentence) for sentence in sentences[-1:])]


def spaces_of(tokenizer: Tokenizer) -> str:
    """The value of `tokenizer.spaces` of a released tokenizer, whose file does not name it."""
    from tokenizers.pre_tokenizers import Whitespace

    return "article" if isinstance(tokenizer.pre_tokenizer, Whitespace) else "lossless"


class Encoder:
    """The tokens of texts as training has them, and of a text that continues another."""

    def __init__(self, tokenizer: Tokenizer, corpus: Corpus, words: Segmenter) -> None:
        from kit.corpus import line_ends

        self._tokenizer, self._corpus, self._words = tokenizer, corpus, words
        self._spaces = spaces_of(tokenizer)
        self._ends = line_ends.of_mode(corpus.mode)
        self._line = functools.lru_cache(_MOST_LINES)(self._line_of)

    def whole(self, text: str) -> list[int]:
        """The tokens of a text, whose last line stays open unless a line end follows it."""
        return self.pair("", text)[1]

    def pair(self, before: str, after: str) -> tuple[list[int], list[int]]:
        """The tokens of a text and of its continuation.

        White space between the two belongs to the continuation: a line end, or a space where the
        corpus keeps one. Blank lines are no text of the corpus, and are left out.
        """
        from kit.corpus import line_ends

        before, after = (line_ends.unified(text, self._ends) for text in (before, after))
        head, tail = before.rstrip(), after.lstrip()
        gap = before[len(head) :] + after[: len(after) - len(tail)]
        return self._ids(self._text(head)), self._ids(self._gap(head, gap, tail) + self._text(tail))

    def _text(self, text: str) -> str:
        """A text as in a shard; it keeps the end of its last line if it has one."""
        sentences = [s for line in text.split("\n") for s in self._line(line)]
        if sentences and not text.endswith("\n"):
            sentences[-1] = _open(sentences[-1])
        return shards.document(sentences)

    def _line_of(self, line: str) -> tuple[str, ...]:
        return tuple(_sentences([line], self._corpus, self._words)) if line.strip() else ()

    def _gap(self, head: str, gap: str, tail: str) -> str:
        """The text that a shard has between two others, given the white space there."""
        if not (head and gap):
            return ""
        if "\n" in gap:
            return f"{shards.LINE_END}\n"
        kept = tail and shards.SPACE in "".join(self._line(f"{head[-1]} {tail[0]}"))
        return shards.SPACE if kept else ""

    def _ids(self, text: str) -> list[int]:
        surface = huggingface.surface(text, self._spaces)
        ids: list[int] = self._tokenizer.encode(surface, add_special_tokens=False).ids
        return ids


def _sentences(lines: Sequence[str], corpus: Corpus, words: Segmenter) -> list[str]:
    from kit.corpus.steps import segment_document

    return segment_document(lines, corpus, words)


def _open(sentence: str) -> str:
    """A sentence without the mark of a line end."""
    return sentence.removesuffix(f" {shards.LINE_END}")
