"""Filters by repetition within a document: lines, sentences, n-grams of characters.

The measures are those of Swallow's filters (swallow-llm/swallow-corpus), after Gopher's (arXiv 2112.11446,
table A1).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.filters import Filters, Repetition
    from kit.corpus.filters.facts import Facts


def repeated_lines(facts: Facts, rule: Repetition) -> bool:
    """Whether too many of its lines repeat an earlier one."""
    return _repeats(facts.lines, rule)


def repeated_sentences(facts: Facts, rule: Repetition) -> bool:
    """Whether too many of its sentences repeat an earlier one."""
    return _repeats(facts.sentences, rule)


def ngrams(filters: Filters) -> Callable[[Facts], str | None] | None:
    """A check of the n-grams of characters: the filter that refuses a document, or None."""
    if not filters.top_ngrams and not filters.repeated_ngrams:
        return None
    from kit.corpus.filters import ngram_counts

    ngram_counts.prepare()
    top = ngram_counts.shares(filters.top_ngrams)
    repeated = ngram_counts.shares(filters.repeated_ngrams)
    names = {ngram_counts.TOP: "top_ngrams", ngram_counts.REPEATED: "repeated_ngrams"}

    def refused_by(facts: Facts) -> str | None:
        return names.get(ngram_counts.excessive(facts.codes.copy(), top, repeated))

    return refused_by


def _repeats(parts: Sequence[str], rule: Repetition) -> bool:
    again = {part: count - 1 for part, count in Counter(parts).items() if count > 1}
    if not again:
        return False
    characters = sum(len(part) * count for part, count in again.items())
    return (
        sum(again.values()) / len(parts) > rule.max_share
        or characters / sum(map(len, parts)) > rule.max_character_share
    )
