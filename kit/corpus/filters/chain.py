"""All filters in their order: the cheap ones first, so that the others see fewer documents.

chain = Chain(recipe.corpus.filters)
chain.refused_by(["一行目。", "二行目。"])  # None, or the name of the first filter that refuses it
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from kit.corpus.filters import repetition, scripts, sentences, words
from kit.corpus.filters.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.filters import Filters

_BEFORE_NGRAMS: dict[str, Callable[[Facts, Any], bool]] = {
    "length": sentences.length,
    "japanese": scripts.japanese,
    "symbols": scripts.symbols,
    "kana": scripts.kana,
    "japanese_letters": scripts.japanese_letters,
    "hiragana": scripts.hiragana_share,
    "katakana": scripts.katakana_share,
    "kanji": scripts.kanji_share,
    "sentence_length": sentences.sentence_length,
    "full_stops": sentences.full_stops,
    "ellipses": sentences.ellipses,
    "punctuated_lines": sentences.punctuated_lines,
    "bullet_lines": sentences.bullet_lines,
    "ellipsis_lines": sentences.ellipsis_lines,
    "repeated_lines": repetition.repeated_lines,
    "repeated_sentences": repetition.repeated_sentences,
}


class Chain:
    """The filters of a recipe. Raises InputError for a list of words that cannot be read."""

    def __init__(self, filters: Filters) -> None:
        self._ngrams = repetition.ngrams(filters)
        given = {name: getattr(filters, name) for name in (*_BEFORE_NGRAMS, "compression")}
        self._first: dict[str, Callable[[Facts], bool]] = {
            name: functools.partial(_with, refuses, given[name])
            for name, refuses in _BEFORE_NGRAMS.items()
            if given[name] is not None
        }
        self._last = dict(words.checks(filters))
        if given["compression"] is not None:
            self._last["compression"] = functools.partial(
                _with, sentences.compression, given["compression"]
            )
        self._is_on = bool(self._first or self._ngrams or self._last)

    def refused_by(self, lines: Sequence[str]) -> str | None:
        """Name the first filter that drops a document of these non-empty lines; None keeps it."""
        if not self._is_on:
            return None
        facts = Facts(lines)
        return (
            _first(self._first, facts)
            or (self._ngrams and self._ngrams(facts))
            or _first(self._last, facts)
        )


def _first(checks: dict[str, Callable[[Facts], bool]], facts: Facts) -> str | None:
    return next((name for name, refuses in checks.items() if refuses(facts)), None)


def _with(refuses: Callable[[Facts, Any], bool], rule: Any, facts: Facts) -> bool:
    return refuses(facts, rule)
