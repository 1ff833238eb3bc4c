"""What a tokenizer does to text it has not seen: figures to choose among candidates by, and plots.

found = measure(tokenizer, "lossless", documents, counts.read(folder), training_documents)
found.as_dict()["bits_per_byte"]
plot(found, "bpe-50000-8000-lossless", folder / "measures.png")
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
from kit.tokenizer.huggingface import END, surface
from kit.tokenizer.word_cache import WordCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from kit.config.tokenizer import TokenizerSpec
    from kit.tokenizer.counts import CountBatch

_CHARACTERS = 1_000_000  # of documents encoded together: some 100 bytes each meanwhile
_WORDS = 20_000  # encoded together
_CLASSES = 10.0 ** np.arange(20)  # of words, by how often they stand in the training text
_COMPARED = {
    "fertility": "tokens per word",
    "characters_per_token": "characters per token",
    "bits_per_byte": "bits per byte of a unigram model",
}


@dataclass(frozen=True)
class TokenizerFigures:
    """On the held-out documents. All but `tokens_per_second` are the same on every machine.

    A document's END is no token here, but where bits are counted.
    """

    documents: int
    words: int  # of the segmenter; a space by itself and the end of a line are none
    tokens: int
    characters: int  # of the plain text
    bytes: int  # of the same in UTF-8
    characters_per_token: float
    fertility: float  # tokens per word; ends of lines left out, a space by itself costs its token
    unknown_rate: float  # share of the characters that are no entries: <unk>, however many in one
    exact: float  # share of the documents that come back when their tokens are decoded
    vocabulary_used: float  # share of the entries that occur
    # By the frequency of tokens and ENDs in the training text, plus one each; and 8 for a byte of <unk>.
    bits_per_byte: float
    tokens_per_second: float  # how quickly the kit encodes them, with an empty table at first


@dataclass(frozen=True)
class Measures:
    """The figures, and what the training text shows."""

    figures: TokenizerFigures
    frequencies: np.ndarray  # of each entry; shape [size]
    words: np.ndarray  # that stand there 1 to 9 times, 10 to 99, ...: all they are; shape [20]
    word_tokens: np.ndarray  # of the same words; shape [20]

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

    `words` are the counts of the training text and `documents` is the number of its documents. The
    white space that article mode loses costs no bits: compare bits per byte among tokenizers that are
    exact, or treat spaces the same. Raises InputError where nothing is held out.
    """
    seen = _HeldOut(tokenizer, spaces)
    for batch in shards.batches(held_out, _CHARACTERS):
        seen.add(batch)
    tokens = int(seen.found.sum())
    if not (seen.words and tokens):
        raise InputError(
            "corpus.held_out: no text is held out, and a tokenizer is measured on that; raise it, or "
            "give more text"
        )
    frequencies, class_words, class_tokens = _training(tokenizer, words)
    figures = TokenizerFigures(
        documents=seen.documents,
        words=seen.words,
        tokens=tokens,
        characters=seen.characters,
        bytes=seen.bytes,
        characters_per_token=seen.characters / tokens,
        fertility=(tokens - seen.line_end_tokens) / seen.words,
        unknown_rate=seen.unknown / seen.characters,
        exact=seen.exact / seen.documents,
        vocabulary_used=np.count_nonzero(seen.found) / len(seen.found),
        bits_per_byte=_bits(tokenizer, frequencies, documents, seen) / seen.bytes,
        tokens_per_second=tokens / seen.seconds,
    )
    return Measures(figures, frequencies, class_words, class_tokens)


def plot(measures: Measures, name: str, path: Path) -> None:
    """How rare the entries of a vocabulary are, and what words cost that are rare, as a PNG."""
    figure = _figure(2)
    figure.suptitle(name)
    ranks, costs = figure.subplots(1, 2)
    frequencies = np.sort(measures.frequencies[measures.frequencies > 0])[::-1]
    never = len(measures.frequencies) - len(frequencies)
    ranks.loglog(np.arange(1, len(frequencies) + 1), frequencies)
    ranks.set_title(f"{len(measures.frequencies):,} entries; {never:,} never used in training text")
    ranks.set_xlabel("rank of the entry")
    ranks.set_ylabel("times in the training text")
    ranks.grid(alpha=0.3)
    (classes,) = np.nonzero(measures.words)
    per_word = measures.word_tokens[classes] / measures.words[classes]
    bars = costs.bar([f"$10^{{{power}}}$" for power in classes], per_word)
    shares = measures.words[classes] / measures.words.sum()
    costs.bar_label(bars, [f"{share:.1%}" for share in shares], padding=2)
    costs.set_title("above the bar: share of the training text's words")
    costs.set_xlabel("times the word stands in the training text, from")
    costs.set_ylabel("tokens per word")
    costs.margins(y=0.1)
    with atomic(path) as out:
        _save(figure, out)


def compare(candidates: Iterable[tuple[TokenizerSpec, Mapping[str, float]]], path: Path) -> None:
    """What a larger vocabulary gains, as a PNG: a line for each kind of candidate.

    With each candidate come its figures, as `Measures.as_dict` has them.
    """
    found = lines(candidates)
    sizes = sorted({size for points in found.values() for size, _ in points})
    figure = _figure(len(_COMPARED))
    for axes, (key, label) in zip(
        figure.subplots(1, len(_COMPARED)), _COMPARED.items(), strict=True
    ):
        for kind, points in found.items():
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
    found: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
    for vocabulary, figures in ordered:
        kind = f"{vocabulary.algorithm}, {vocabulary.spaces}"
        if len(alphabets) > 1:
            kind += f", {vocabulary.limit_alphabet:,} characters"
        found.setdefault(kind, []).append((vocabulary.vocab_size, figures))
    return dict(sorted(found.items()))


class _HeldOut:
    """What the held-out documents hold, summed."""

    def __init__(self, tokenizer: Tokenizer, spaces: str) -> None:
        size = tokenizer.get_vocab_size()
        self._tokenizer, self._spaces, self._dtype = tokenizer, spaces, dtype_for(size)
        self._table = WordCache(tokenizer, spaces, self._dtype)
        self._line_end = len(WordCache(tokenizer, spaces, self._dtype).document(shards.LINE_END))
        self.found = np.zeros(size, np.int64)  # how often each entry occurs
        # Characters that are no entries are unknown, or their bytes.
        self._alphabet = set(tokenizer.get_vocab()) if spaces == "article" else None
        self.documents = self.words = self.characters = self.bytes = self.exact = 0
        self.unknown = self.unknown_bytes = 0
        self.line_end_tokens = 0
        self.seconds = 0.0

    def add(self, documents: Sequence[Sequence[str]]) -> None:
        """Encode some documents, and count."""
        texts = [shards.document(sentences) for sentences in documents]
        began = time.perf_counter()
        packed = b"".join([self._table.document(text) for text in texts])
        self.seconds += time.perf_counter() - began
        tokens = np.frombuffer(packed, self._dtype)
        self.found += np.bincount(tokens, minlength=len(self.found))
        plain = [shards.plain_text(sentences) for sentences in documents]
        self.exact += sum(map(operator.eq, self._there_and_back(texts), plain))
        self.documents += len(documents)
        self.characters += sum(map(len, plain))
        self.bytes += sum(len(text.encode()) for text in plain)
        self._count_unknown("".join(plain))
        for text in texts:
            self._count_words(text)

    def _there_and_back(self, texts: Sequence[str]) -> list[str]:
        """The texts after HF's own encode and decode; an unknown token shows."""
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
    """How often each entry stands in the training text; the words by class, and their tokens."""
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


def _bits(tokenizer: Tokenizer, frequencies: np.ndarray, documents: int, seen: _HeldOut) -> float:
    """The bits of the held-out tokens and ENDs in a unigram model of the training text.

    A character that is no entry is written out as well, or the smallest alphabet would be the best.
    """
    counts, found = frequencies + 1, seen.found.copy()
    end = tokenizer.token_to_id(END)
    counts[end] += documents
    found[end] += seen.documents
    return 8 * seen.unknown_bytes - math.fsum(found * np.log2(counts / counts.sum()))


def _figure(panels: int) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(5 * panels, 4), layout="constrained")


def _save(figure: Any, out: IO[bytes]) -> None:
    """Equal figures give equal bytes."""
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
