"""Filters by words that a document may not hold, and the filters of HojiChar."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from kit.data import word_lists
from kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.config.filters import Filters, HojiChar, WordList
    from kit.corpus.filters.facts import Facts

_KATAKANA = re.compile("[ァ-ヴー]+")


def checks(filters: Filters) -> dict[str, Callable[[Facts], bool]]:
    """A check for each list of words and each filter of HojiChar, by its key.

    Raises InputError for a list that cannot be read and for a filter that HojiChar does not have.
    """
    lists = {f"words.{name}": _contains(name, rule) for name, rule in filters.words.items()}
    return lists | {
        f"hojichar.{name}": _hojichar(name, rule) for name, rule in filters.hojichar.items()
    }


def pattern(words: list[str]) -> re.Pattern[str]:
    """A pattern of any of the words; one of katakana only counts where no further katakana touch it.

    So that a list with アダルト does not find it in ヤングアダルト, as in HojiChar's NgWordsFilterJa.
    """
    whole = [re.escape(word) for word in words if _KATAKANA.fullmatch(word)]
    others = [re.escape(word) for word in words if not _KATAKANA.fullmatch(word)]
    bounded = [f"(?<![ァ-ヴー])(?:{'|'.join(whole)})(?![ァ-ヴー])"] if whole else []
    return re.compile("|".join([*others, *bounded]))


def _contains(name: str, rule: WordList) -> Callable[[Facts], bool]:
    words = pattern(word_lists.read(name, rule.file))
    return lambda facts: len(words.findall(facts.text)) > rule.max


def _hojichar(name: str, rule: HojiChar) -> Callable[[Facts], bool]:
    key = f"corpus.filters.hojichar.{name}"
    try:
        from hojichar import Document
        from hojichar.filters import document_filters
    except ImportError:
        raise InputError(
            f"{key}: HojiChar is not installed; pip install 'ekiden[hojichar]'"
        ) from None
    kind: Any = getattr(document_filters, rule.filter, None)
    if kind is None:
        raise InputError(f"{key}.filter={rule.filter}: HojiChar has no such filter of documents")
    _refuse_unknown(key, kind, rule)
    try:
        check = kind(**rule.arguments)
    except (TypeError, ValueError, OSError) as error:
        raise InputError(f"{key}.arguments: {rule.filter} refuses them ({error})") from None

    def refuses(facts: Facts) -> bool:
        document = check.apply(Document(facts.text))
        if document.text != facts.text:
            raise InputError(
                f"{key}.filter={rule.filter}: changes a document; use filters that only refuse them"
            )
        return bool(document.is_rejected)

    return refuses


def _refuse_unknown(key: str, kind: type, rule: HojiChar) -> None:
    """Raise InputError for an argument that the filter would take and never look at."""
    own = [vars(base)["__init__"] for base in kind.__mro__[:-1] if "__init__" in vars(base)]
    known = {name for init in own for name in inspect.signature(init).parameters}
    if unknown := sorted(rule.arguments.keys() - known):
        raise InputError(f"{key}.arguments.{unknown[0]}: {rule.filter} has no such argument")
