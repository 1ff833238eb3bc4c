"""The steps from a document's lines to segmented sentences: normalise, filter, split, segment.

    steps = Steps(recipe.corpus)
    for document, text in segmented(documents, steps, words):
        ...

A unit is read in batches of some thousand lines. While the segmenter works on one, the next are made
ready; what comes out does not depend on where batches end.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kit import shards
from kit.config import Corpus, Filters
from kit.corpus import sentences
from kit.corpus.filters import refused_by
from kit.corpus.normalise import Normaliser
from kit.files import text_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kit.corpus.segment import Segmenter

_BATCH = 1 << 18  # characters: large enough for fast paths, small beside a segmenter's memory


@dataclass
class Document:
    """A document on its way: what it was, what became of it, and why it was left out, if it was."""

    raw: list[str]
    key: int  # a hash of the lines, 64 bits
    lines: list[str] = field(default_factory=list)  # normalised, none of them empty
    sentences: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # how many sentences each line has
    left_out: str | None = None


class Steps:
    """The steps from a document's lines to its sentences, and what each of them kept and dropped."""

    def __init__(self, corpus: Corpus, again: Iterable[int] = ()) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.lines_dropped: Counter[str] = Counter()
        self.marks_replaced = 0
        self.corpus = corpus
        self._again = iter(again)  # documents that stood in the corpus before, in order
        self._next_again = next(self._again, None)
        self._number = 0
        self._normaliser = Normaliser(corpus.mode, corpus.normalise)

    def prepare(self, raw: Sequence[list[str]]) -> list[Document]:
        """Take documents, in the order of the unit, as far as their sentences."""
        texts = self._normalised([line for lines in raw for line in lines])
        made = []
        at = 0
        for lines in raw:
            document = Document(lines, text_hash("\n".join(lines)))
            normalised = texts[at : at + len(lines)]
            at += len(lines)
            document.lines = [line for line in normalised if line]
            self.lines_dropped["empty"] += len(lines) - len(document.lines)
            self._step("read", lines)
            document.left_out = self._refused(document)
            if document.left_out is None:
                self._split(document)
            made.append(document)
        return made

    def _normalised(self, lines: list[str]) -> list[str]:
        """Normalise lines, not more at a time than a batch: a document may be longer than that."""
        texts: list[str] = []
        first = size = 0
        for last, line in enumerate(lines, 1):
            size += len(line)
            if size >= _BATCH or last == len(lines):
                found, marks = self._normaliser.lines(lines[first:last])
                texts += found
                self.marks_replaced += marks
                first, size = last, 0
        return texts

    def _refused(self, document: Document) -> str | None:
        again = self._number == self._next_again
        if again:
            self._next_again = next(self._again, None)
        self._number += 1
        if not document.lines:
            return "empty"
        self._step("normalised", document.lines)
        refused = refused_by(document.lines, self.corpus.filters)
        return refused or ("duplicates" if again else None)

    def _split(self, document: Document) -> None:
        for line in document.lines:
            pieces = sentences.split(line)
            document.sentences += pieces
            document.ends.append(len(pieces))

    def _step(self, name: str, lines: Sequence[str]) -> None:
        step = self.counts.setdefault(name, Counter())
        step["documents"] += 1
        step["lines"] += len(lines)
        step["characters"] += sum(map(len, lines))

    def dropped(self, document: Document) -> None:
        """Count a document that was left out, under the step that did it."""
        assert document.left_out is not None
        self._step(f"left out: {document.left_out}", document.lines or document.raw)


def segmented(
    raw: Iterable[list[str]], steps: Steps, words: Segmenter
) -> Iterator[tuple[Document, list[str]]]:
    """Each document with its segmented sentences (none where it was left out), in order."""
    waiting: deque[list[Document]] = deque()

    def chunks() -> Iterator[list[str]]:
        for batch in _batches(raw):
            waiting.append(steps.prepare(batch))
            yield [
                chunk
                for document in waiting[-1]
                for sentence in document.sentences
                for chunk in sentence.split(" ")
                if chunk
            ]

    end = f" {shards.LINE_END}" if steps.corpus.mode == "default" else ""
    for found in words.stream(chunks()):
        take = iter(found)
        for document in waiting.popleft():
            yield document, _put_together(document, take, end)


def segment_document(lines: Sequence[str], corpus: Corpus, words: Segmenter) -> list[str]:
    """A text as the sentences of a shard, whatever the filters would say of it."""
    bare = Steps(corpus.model_copy(update={"filters": Filters()}))
    ((_, text),) = segmented([list(lines)], bare, words)
    return text


def _put_together(document: Document, words: Iterator[str], end: str) -> list[str]:
    """The segmented sentences of a document from those of its chunks; `end` closes a source line."""
    made = [
        shards.join_words([next(words) if chunk else "" for chunk in sentence.split(" ")])
        if " " in sentence
        else next(words)
        for sentence in document.sentences
    ]
    if end:
        last = -1
        for count in document.ends:
            last += count
            made[last] += end
    return made


def _batches(raw: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    batch: list[list[str]] = []
    size = 0
    for lines in raw:
        batch.append(lines)
        size += sum(map(len, lines))
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
