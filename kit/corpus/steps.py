"""The steps from a document's lines to segmented sentences: normalise, filter, split, segment.

    steps = Steps(recipe.corpus)
    for document, text in segmented(documents, steps, words):
        ...

A unit is read in batches of some thousand lines. While the segmenter works on one, the next are
prepared; the result does not depend on the boundaries of batches.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kit.config.recipe import Corpus, Filters
from kit.corpus import sentences
from kit.corpus.filters.by_words import WordChain
from kit.corpus.filters.chain import Chain
from kit.corpus.normalise.normaliser import Normaliser
from kit.data import shards
from kit.store.files import text_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from kit.corpus.exclusion import Exclusion
    from kit.corpus.segment import Segmenter

_BATCH = 1 << 18  # characters: large enough for fast paths, small beside a segmenter's memory


@dataclass(slots=True)
class Document:
    """A document on its way through the steps."""

    raw: list[str]
    key: int  # a hash of the lines, 64 bits
    lines: list[str] = field(default_factory=list)  # normalised, none of them blank
    left_out: str | None = None  # the step that dropped it
    repeats: str | None = None  # the filter that says that it repeats another document


class Steps:
    """The steps that change or drop lines and documents, with the counts of each."""

    def __init__(
        self,
        corpus: Corpus,
        repeated: Mapping[int, str] | None = None,
        exclusion: Exclusion | None = None,
    ) -> None:
        """`repeated`: documents of the unit that repeat others, with the filter that says so."""
        self.counts: dict[str, Counter[str]] = {}
        self.lines_dropped: Counter[str] = Counter()
        self.marks_replaced = 0
        self.corpus = corpus
        self._repeated = repeated or {}
        self._number = 0
        self._filters = Chain(corpus.filters)
        self._word_filters = WordChain(corpus.filters)
        self._normaliser = Normaliser(corpus.mode, corpus.normalise)
        self._exclusion = exclusion

    def prepare(self, raw: Sequence[list[str]]) -> list[Document]:
        """Normalise and filter documents, in the order of the unit."""
        self._count("read", raw)
        documents = [*map(self._read, raw)]
        kept = [document for document in documents if document.left_out is None]
        lines = [*itertools.chain.from_iterable(document.raw for document in kept)]
        texts = self._normalised(lines)
        any_blank = not all(map(str.strip, texts))
        first = 0
        for document in kept:
            last = first + len(document.raw)
            document.lines = texts[first:last]
            if any_blank:
                document.lines = [*filter(str.strip, document.lines)]
            first = last
            document.left_out = self._refused_by(document)
        self._count("normalised", [document.lines for document in kept if document.lines])
        if kept:
            self.lines_dropped["empty"] += len(lines) - sum(len(each.lines) for each in kept)
        return documents

    def _read(self, lines: list[str]) -> Document:
        repeats = self._repeated.get(self._number)
        self._number += 1
        document = Document(lines, text_hash("\n".join(lines)), repeats=repeats)
        if self._exclusion is not None:
            document.left_out = self._exclusion.reason(lines, document.key)
        return document

    def _normalised(self, lines: list[str]) -> list[str]:
        """Normalise lines, at most a batch at a time: a document may be longer."""
        texts: list[str] = []
        for some in _of_a_batch(lines):
            normalised, marks = self._normaliser.lines(some)
            texts += normalised
            self.marks_replaced += marks
        return texts

    def _refused_by(self, document: Document) -> str | None:
        if not document.lines:
            return "empty"
        return self._filters.refused_by(document.lines) or document.repeats

    def look_at_words(self, document: Document, text: str) -> None:
        """Leave out a document whose words a filter refuses; `text` are its segmented sentences."""
        if document.left_out is None:
            document.left_out = self._word_filters.refused_by(document.lines, text)

    def _count(self, name: str, documents: Sequence[Sequence[str]]) -> None:
        """Count documents, given as lines, under a step."""
        if not documents:
            return
        lines = [*itertools.chain.from_iterable(documents)]
        step = self.counts.setdefault(name, Counter())
        step["documents"] += len(documents)
        step["lines"] += len(lines)
        step["characters"] += sum(map(len, lines))

    def count_left_out(self, document: Document) -> None:
        """Count a document that was left out, under the step that dropped it."""
        assert document.left_out is not None
        self._count(f"left out: {document.left_out}", [document.lines or document.raw])


def prepared(raw: Iterable[list[str]], steps: Steps) -> Iterator[Document]:
    """Yield each document, in order, as it is before its words are segmented."""
    for batch in shards.batches(raw, _BATCH):
        yield from steps.prepare(batch)


def segmented(
    raw: Iterable[list[str]], steps: Steps, words: Segmenter
) -> Iterator[tuple[Document, str]]:
    """Yield each document, in order, with its segmented sentences, each closed by a line feed.

    A document that was left out has none.
    """
    waiting: deque[tuple[list[_Slice], _Text]] = deque()
    article = steps.corpus.mode == "article"

    def chunks() -> Iterator[list[str]]:
        for batch in shards.batches(raw, _BATCH):
            for slices in _sliced(steps.prepare(batch)):
                text = _Text.from_documents([part.lines for part in slices if part.lines], article)
                waiting.append((slices, text))
                yield text.chunks

    segments: list[str] = []  # of the current document
    for answers in words.stream(chunks()):
        slices, text = waiting.popleft()
        parts = iter(text.segmented(answers))
        for part in slices:
            segments.append(next(parts) if part.lines else "")
            if part.is_last:
                text_of_all = "".join(segments)
                segments.clear()
                steps.look_at_words(part.document, text_of_all)
                yield part.document, "" if part.document.left_out else text_of_all


def segment_document(lines: Sequence[str], corpus: Corpus, words: Segmenter) -> list[str]:
    """Segment a text into the sentences of a shard, without applying the filters."""
    unfiltered = Steps(corpus.model_copy(update={"filters": Filters()}))
    ((_, text),) = segmented([list(lines)], unfiltered, words)
    return text.split("\n")[:-1]


class _Slice(NamedTuple):
    """Lines of a document that are segmented together; none if it was left out."""

    document: Document
    lines: Sequence[str]
    is_last: bool


def _sliced(documents: Sequence[Document]) -> Iterator[list[_Slice]]:
    """Group documents into rows of about a batch, to bound memory: a long one has millions of words."""
    row: list[_Slice] = []
    for document in documents:
        lines = document.lines if document.left_out is None else []
        *parts, last = _of_a_batch(lines) or [lines]
        for part in parts:
            yield [*row, _Slice(document, part, False)]
            row = []
        row.append(_Slice(document, last, True))
    if row:
        yield row


def _of_a_batch(lines: list[str]) -> list[list[str]]:
    """The lines in parts that a last line brings to the size of a batch; the last part may be smaller."""
    if sum(map(len, lines)) < _BATCH:
        return [lines] if lines else []
    ends = [*itertools.accumulate(map(len, lines))]
    parts = []
    first = before = 0
    while first < len(lines):
        last = bisect.bisect_left(ends, before + _BATCH, first) + 1
        parts.append(lines[first:last])
        first, before = last, ends[min(last, len(lines)) - 1]
    return parts


@dataclass(frozen=True)
class _Text:
    """Documents as the chunks between their spaces and sentence ends, and the separator that follows the
    words of each chunk.
    """

    chunks: list[str]
    separators: list[str]
    ends: list[int]  # the number of chunks up to the end of each document

    @classmethod
    def from_documents(cls, documents: Sequence[Sequence[str]], article: bool) -> _Text:
        """The text of documents of lines that are not blank.

        Of the article, sentences as `ssplit` gives them; else all text, and marks at the ends of lines.
        """
        if not documents:
            return cls([], [], [])
        import numpy as np

        lines = [line for document in documents for line in document]
        text, counts = sentences.cut_lines(lines, strip=article)
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        places = np.flatnonzero((codes == ord(" ")) | (codes == ord("\n")))
        closes = np.append(codes[places] == ord("\n"), True)  # which chunks end a sentence
        empty = np.diff(places, prepend=-1, append=len(codes)) == 1
        last = np.flatnonzero(closes)
        line_ends = last[np.cumsum(counts) - 1]
        separators = np.full(len(closes), f" {shards.SPACE}", object)
        first = np.append(0, last[:-1] + 1)
        separators[first[empty[first]]] = shards.SPACE  # no word precedes it
        separators[last] = "\n"
        if not article:
            separators[line_ends] = f" {shards.LINE_END}\n"
        ends = line_ends[np.cumsum([len(lines) for lines in documents]) - 1] + 1
        return cls(text.replace(" ", "\n").split("\n"), separators.tolist(), ends.tolist())

    def segmented(self, words: Sequence[str]) -> Iterator[str]:
        """Yield each document, given the words of each chunk."""
        row = [""] * (2 * len(self.chunks))
        row[::2] = words
        row[1::2] = self.separators
        begin = 0
        for end in self.ends:
            yield "".join(row[2 * begin : 2 * end])
            begin = end
