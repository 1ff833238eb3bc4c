"""Filters over the words of a segmented document, measured as by datatrove (0.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.corpus.filters.segmented import Segmented

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.filters import Filters, Maximum, MinimumShare, StopWords, WordCount, WordLength


def word_count(facts: Segmented, rule: WordCount) -> bool:
    """Whether it has too few or too many words, without those of punctuation alone."""
    number = facts.words.longer
    return number < rule.min or (rule.max is not None and number > rule.max)


def word_length(facts: Segmented, rule: WordLength) -> bool:
    """Whether the mean of its words is too short or too long, without those of punctuation alone."""
    if not facts.words.longer:
        return False
    mean = facts.words.characters / facts.words.longer
    return mean < rule.min_mean or (rule.max_mean is not None and mean > rule.max_mean)


def words_with_letters(facts: Segmented, rule: MinimumShare) -> bool:
    """Whether too few of its words have a letter."""
    return facts.words.with_letters / facts.words.number < rule.min_share


def stop_words(facts: Segmented, rule: StopWords) -> bool:
    """Whether too few of the stop words occur."""
    return not facts.holds(rule.words, rule.min)


def hashes_per_word(facts: Segmented, rule: Maximum) -> bool:
    """Whether it has too many # for its words."""
    return facts.text.count("#") / facts.words.number > rule.max


def ellipses_per_word(facts: Segmented, rule: Maximum) -> bool:
    """Whether it has too many ellipses for its words."""
    return (facts.text.count("...") + facts.text.count("…")) / facts.words.number > rule.max


def line_ends_per_word(facts: Segmented, rule: Maximum) -> bool:
    """Whether it has too many line ends for its words."""
    return facts.line_ends / facts.words.number > rule.max


_FILTERS: dict[str, Callable[[Segmented, Any], bool]] = {
    "line_ends_per_word": line_ends_per_word,
    "word_count": word_count,
    "word_length": word_length,
    "hashes_per_word": hashes_per_word,
    "ellipses_per_word": ellipses_per_word,
    "words_with_letters": words_with_letters,
    "stop_words": stop_words,
}


class WordChain:
    """The filters of a recipe that look at words."""

    def __init__(self, filters: Filters) -> None:
        given = {name: getattr(filters, name) for name in _FILTERS}
        self._rules = {name: rule for name, rule in given.items() if rule is not None}
        self._ngrams = _ngrams(filters)
        self._is_on = bool(self._rules or self._ngrams)
        if self._is_on:
            from kit.corpus.filters import word_bounds

            word_bounds.prepare()

    def refused_by(self, lines: Sequence[str], segmented: str) -> str | None:
        """Name the first filter that drops a document of these non-empty lines; None keeps it.

        `segmented` is its text as a shard has it.
        """
        if not self._is_on:
            return None
        facts = Segmented(lines, segmented)
        for name, rule in self._rules.items():
            if _FILTERS[name](facts, rule):
                return name
        return self._ngrams(facts) if self._ngrams else None


def _ngrams(filters: Filters) -> Callable[[Segmented], str | None] | None:
    """A check of the n-grams of words: the filter that refuses a document, or None."""
    if not filters.top_word_ngrams and not filters.repeated_word_ngrams:
        return None
    from kit.corpus.filters import ngram_counts

    ngram_counts.prepare()
    top = ngram_counts.shares(filters.top_word_ngrams)
    repeated = ngram_counts.shares(filters.repeated_word_ngrams)
    names = {
        ngram_counts.TOP: "top_word_ngrams",
        ngram_counts.REPEATED: "repeated_word_ngrams",
    }

    def refused_by(facts: Segmented) -> str | None:
        words = facts.words
        return names.get(
            ngram_counts.excessive_words(words.codes, words.bounds, len(facts.text), top, repeated)
        )

    return refused_by
