"""Filters over the words of a segmented document, measured as by datatrove (0.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.corpus.filters import word_ngrams
from kit.corpus.filters.segmented import Segmented

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.filters import Filters, Maximum, MinimumShare, StopWords, WordCount, WordLength


def word_count(facts: Segmented, rule: WordCount) -> bool:
    """Whether it has too few or too many words, without those of punctuation alone."""
    number = len(facts.lengths)
    return number < rule.min or (rule.max is not None and number > rule.max)


def word_length(facts: Segmented, rule: WordLength) -> bool:
    """Whether the mean of its words is too short or too long, without those of punctuation alone."""
    if not len(facts.lengths):
        return False
    mean = float(facts.lengths.mean())
    return mean < rule.min_mean or (rule.max_mean is not None and mean > rule.max_mean)


def words_with_letters(facts: Segmented, rule: MinimumShare) -> bool:
    """Whether too few of its words have a letter."""
    return facts.with_letters / facts.number < rule.min_share


def stop_words(facts: Segmented, rule: StopWords) -> bool:
    """Whether too few of the stop words occur."""
    return not facts.holds(rule.words, rule.min)


def hashes_per_word(facts: Segmented, rule: Maximum) -> bool:
    """Whether it has too many # for its words."""
    return facts.text.count("#") / facts.number > rule.max


def ellipses_per_word(facts: Segmented, rule: Maximum) -> bool:
    """Whether it has too many ellipses for its words."""
    return (facts.text.count("...") + facts.text.count("…")) / facts.number > rule.max


def line_ends_per_word(facts: Segmented, rule: Maximum) -> bool:
    """Whether it has too many line ends for its words."""
    return facts.line_ends / facts.number > rule.max


_FILTERS: dict[str, Callable[[Segmented, Any], bool]] = {
    "line_ends_per_word": line_ends_per_word,
    "word_count": word_count,
    "word_length": word_length,
    "hashes_per_word": hashes_per_word,
    "ellipses_per_word": ellipses_per_word,
    "words_with_letters": words_with_letters,
    "stop_words": stop_words,
    "top_word_ngrams": word_ngrams.top,
    "repeated_word_ngrams": word_ngrams.repeated,
}


class WordChain:
    """The filters of a recipe that look at words."""

    def __init__(self, filters: Filters) -> None:
        self._rules = [
            (name, refuses, rule)
            for name, refuses in _FILTERS.items()
            for rule in [getattr(filters, name)]
            if rule
        ]

    def refused_by(self, lines: Sequence[str], segmented: str) -> str | None:
        """Name the first filter that drops a document of these non-empty lines; None keeps it.

        `segmented` is its text as a shard has it.
        """
        if not self._rules:
            return None
        facts = Segmented(lines, segmented)
        return next((name for name, refuses, rule in self._rules if refuses(facts, rule)), None)
