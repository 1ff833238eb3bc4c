"""Measure tokenizers on held-out text: figures to choose among candidates, and plots.

measures = measure(tokenizer, "lossless", documents, counts.read(folder), training_documents)
measures.as_dict()["bits_per_byte"]
plot(measures, "bpe-50000-8000-lossless", folder / "measures.png")
"""

from __future__ import annotations

import itertools
import math
import operator
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from kit.data import shards
from kit.data.tokens import dtype_for
from kit.errors import InputError
from kit.store.files import atomic
from kit.tokenizer import raw_text
from kit.tokenizer.huggingface import END, surface
from kit.tokenizer.word_cache import WordCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from kit.config.tokenizer import TokenizerSpec
    from kit.tokenizer.counts import CountBatch

_CHARACTERS = 1_000_000  # of documents encoded together, at some 100 bytes of memory each
_WORDS = 20_000  # encoded together
_CLASSES = 10.0 ** np.arange(
    20
)  # lower bounds of classes of words, by frequency in the training text
_COMPARED = {
    "fertility": "tokens per word",
    "characters_per_token": "characters per token",
    "bits_per_byte": "bits per byte of a unigram model",
}


@dataclass(frozen=True)
class TokenizerFigures:
    """Figures on the held-out documents, the same on every machine except `tokens_per_second`.

    The END of a document counts as a token only in `bits_per_byte`.
    """

    documents: int
    words: int  # of the segmenter, excluding lone spaces and ends of lines
    tokens: int
    characters: int  # of the plain text
    bytes: int  # of the plain text in UTF-8
    characters_per_token: float
    fertility: float  # tokens per word, excluding ends of lines; a lone space costs its token
    unknown_rate: float  # share of characters encoded as <unk>, even if one <unk> covers several
    exact: float  # share of the documents that decoding restores exactly
    raw_share: float  # share of the sentences whose raw text, not segmented, gets the same ids
    vocabulary_used: float  # share of the entries that occur
    # From the frequency of tokens and ENDs in the training text, plus one each; 8 bits per byte of <unk>.
    bits_per_byte: float
    tokens_per_second: float  # speed of the kit's encoding, starting from an empty cache


@dataclass(frozen=True)
class Measures:
    """The figures, and statistics of the training text."""

    figures: TokenizerFigures
    frequencies: np.ndarray  # of each entry; shape [size]
    words: (
        np.ndarray
    )  # total occurrences of words that occur 1 to 9 times, 10 to 99, ...; shape [20]
    word_tokens: np.ndarray  # the tokens of these occurrences; shape [20]

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self.figures)


def measure(
    tokenizer: Tokenizer,
    spaces: str,
    held_out: Iterable[Sequence[str]],
    words: Iterable[CountBatch],
    documents: int,
) -> Measures:
    """Measure a tokenizer on held-out documents, each a list of segmented sentences.

    `words` are the counts of the training text, and `documents` is the number of its documents. White
    space lost in article mode is not charged in bits per byte: compare only tokenizers that are exact,
    or have the same `spaces`. Raises InputError if no text is held out.
    """
    totals = _HeldOut(tokenizer, spaces)
    for batch in shards.batches(held_out, _CHARACTERS):
        totals.add(batch)
    tokens = int(totals.frequencies.sum())
    if not (totals.words and tokens):
        raise InputError(
            "corpus.held_out: no text is held out to measure tokenizers on; raise it, or add more text"
        )
    frequencies, class_words, class_tokens = _training(tokenizer, words)
    figures = TokenizerFigures(
        documents=totals.documents,
        words=totals.words,
        tokens=tokens,
        characters=totals.characters,
        bytes=totals.bytes,
        characters_per_token=totals.characters / tokens,
        fertility=(tokens - totals.line_end_tokens) / totals.words,
        unknown_rate=totals.unknown / totals.characters,
        exact=totals.exact / totals.documents,
        raw_share=totals.as_raw / totals.sentences,
        vocabulary_used=np.count_nonzero(totals.frequencies) / len(totals.frequencies),
        bits_per_byte=_bits(tokenizer, frequencies, documents, totals) / totals.bytes,
        tokens_per_second=tokens / totals.seconds,
    )
    return Measures(figures, frequencies, class_words, class_tokens)


def plot(measures: Measures, name: str, path: Path) -> None:
    """Plot the frequency of each entry, and tokens per word by the word's frequency, as a PNG."""
    figure = _figure(2)
    figure.suptitle(name)
    ranks, costs = figure.subplots(1, 2)
    frequencies = np.sort(measures.frequencies[measures.frequencies > 0])[::-1]
    never = len(measures.frequencies) - len(frequencies)
    ranks.loglog(np.arange(1, len(frequencies) + 1), frequencies)
    ranks.set_title(f"{len(measures.frequencies):,} entries; {never:,} unused in the training text")
    ranks.set_xlabel("rank of the entry")
    ranks.set_ylabel("occurrences in the training text")
    ranks.grid(alpha=0.3)
    (classes,) = np.nonzero(measures.words)
    per_word = measures.word_tokens[classes] / measures.words[classes]
    bars = costs.bar([f"$10^{{{power}}}$" for power in classes], per_word)
    shares = measures.words[classes] / measures.words.sum()
    costs.bar_label(bars, [f"{share:.1%}" for share in shares], padding=2)
    costs.set_title("above the bar: share of the training text's words")
    costs.set_xlabel("occurrences of the word in the training text, from")
    costs.set_ylabel("tokens per word")
    costs.margins(y=0.1)
    with atomic(path) as out:
        _save(figure, out)


def compare(candidates: Iterable[tuple[TokenizerSpec, Mapping[str, float]]], path: Path) -> None:
    """Plot the gain of a larger vocabulary, with a line for each kind of candidate, as a PNG.

    Each candidate comes with its figures, from `Measures.as_dict`.
    """
    series = lines(candidates)
    sizes = sorted({size for points in series.values() for size, _ in points})
    figure = _figure(len(_COMPARED))
    for axes, (key, label) in zip(
        figure.subplots(1, len(_COMPARED)), _COMPARED.items(), strict=True
    ):
        for kind, points in series.items():
            axes.plot(
                [size for size, _ in points], [point[key] for _, point in points], "o-", label=kind
            )
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xlabel("entries")
        axes.set_title(label)
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    with atomic(path) as out:
        _save(figure, out)


def lines(
    candidates: Iterable[tuple[TokenizerSpec, Mapping[str, float]]],
) -> dict[str, list[tuple[int, Mapping[str, float]]]]:
    """The sizes and figures of each kind of candidate, smallest first."""
    ordered = sorted(candidates, key=lambda candidate: candidate[0].vocab_size)
    alphabets = {vocabulary.limit_alphabet for vocabulary, _ in ordered}
    series: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
    for vocabulary, figures in ordered:
        kind = f"{vocabulary.algorithm}, {vocabulary.spaces}"
        if len(alphabets) > 1:
            kind += f", {vocabulary.limit_alphabet:,} characters"
        series.setdefault(kind, []).append((vocabulary.vocab_size, figures))
    return dict(sorted(series.items()))


class _HeldOut:
    """Totals over the held-out documents."""

    def __init__(self, tokenizer: Tokenizer, spaces: str) -> None:
        size = tokenizer.get_vocab_size()
        self._tokenizer, self._spaces, self._dtype = tokenizer, spaces, dtype_for(size)
        self._cache = WordCache(tokenizer, spaces, self._dtype)
        self._line_end = len(WordCache(tokenizer, spaces, self._dtype).document(shards.LINE_END))
        self.frequencies = np.zeros(size, np.int64)  # of each entry
        # In article mode characters outside it are unknown; otherwise they become bytes.
        self._alphabet = set(tokenizer.get_vocab()) if spaces == "article" else None
        self.documents = self.words = self.characters = self.bytes = self.exact = 0
        self.sentences = self.as_raw = 0
        self.unknown = self.unknown_bytes = 0
        self.line_end_tokens = 0
        self.seconds = 0.0

    def add(self, documents: Sequence[Sequence[str]]) -> None:
        """Encode some documents and add their counts."""
        texts = [shards.document(sentences) for sentences in documents]
        started = time.perf_counter()
        packed = b"".join([self._cache.document(text) for text in texts])
        self.seconds += time.perf_counter() - started
        tokens = np.frombuffer(packed, self._dtype)
        self.frequencies += np.bincount(tokens, minlength=len(self.frequencies))
        plain = [shards.plain_text(sentences) for sentences in documents]
        self.exact += sum(map(operator.eq, self._round_trip(texts), plain))
        self.documents += len(documents)
        self.characters += sum(map(len, plain))
        self.bytes += sum(len(text.encode()) for text in plain)
        self._count_unknown("".join(plain))
        sentences = [*itertools.chain.from_iterable(documents)]
        self.sentences += len(sentences)
        self.as_raw += raw_text.equal(self._tokenizer, self._cache, sentences)
        for text in texts:
            self._count_words(text)

    def _round_trip(self, texts: Sequence[str]) -> list[str]:
        """Encode and decode the texts by HF itself; unknown tokens stay visible."""
        encoded = self._tokenizer.encode_batch_fast(
            [surface(text, self._spaces) for text in texts], add_special_tokens=False
        )
        return self._tokenizer.decode_batch(
            [encoding.ids for encoding in encoded], skip_special_tokens=False
        )

    def _count_unknown(self, text: str) -> None:
        if self._alphabet is None:
            return
        for character, times in Counter(text).items():
            if character not in self._alphabet and not character.isspace():
                self.unknown += times
                self.unknown_bytes += times * len(character.encode())

    def _count_words(self, text: str) -> None:
        words = text.replace("\n", " ").split(" ")
        line_ends = words.count(shards.LINE_END)
        self.words += len(words) - line_ends - words.count(shards.SPACE) - words.count("")
        self.line_end_tokens += line_ends * self._line_end // self._dtype.itemsize


def _training(
    tokenizer: Tokenizer, words: Iterable[CountBatch]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The frequency of each entry in the training text; the words of each class, and their tokens."""
    frequencies = np.zeros(tokenizer.get_vocab_size())
    class_words, class_tokens = np.zeros((2, len(_CLASSES)))
    for chunk in words:
        for start in range(0, len(chunk.words), _WORDS):
            encoded = tokenizer.encode_batch_fast(
                chunk.words[start : start + _WORDS], add_special_tokens=False
            )
            ids = [encoding.ids for encoding in encoded]
            lengths = np.fromiter(map(len, ids), np.int64, len(ids))
            flat = np.fromiter(itertools.chain.from_iterable(ids), np.int64, int(lengths.sum()))
            times = np.array(chunk.counts[start : start + _WORDS], np.float64)  # exact to 2**53
            frequencies += np.bincount(flat, np.repeat(times, lengths), len(frequencies))
            classes = np.searchsorted(_CLASSES, times, "right") - 1
            class_words += np.bincount(classes, times, len(_CLASSES))
            class_tokens += np.bincount(classes, times * lengths, len(_CLASSES))
    return frequencies, class_words, class_tokens


def _bits(tokenizer: Tokenizer, frequencies: np.ndarray, documents: int, totals: _HeldOut) -> float:
    """The bits of the held-out tokens and ENDs in a unigram model of the training text.

    The bytes of an unknown character are charged too, or the smallest alphabet would be the best.
    """
    training, held_out = frequencies + 1, totals.frequencies.copy()
    end = tokenizer.token_to_id(END)
    training[end] += documents
    held_out[end] += totals.documents
    return 8 * totals.unknown_bytes - math.fsum(held_out * np.log2(training / training.sum()))


def _figure(panels: int) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(5 * panels, 4), layout="constrained")


def _save(figure: Any, out: IO[bytes]) -> None:
    """Save a figure; equal figures give equal bytes."""
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
