"""URL and id of a document in its source, which travel with its lines.

    keys = identity.keys(recipe.corpus.sources["news"])
    for lines in documents.read(piece, bad_input, mode, keys=keys):
        identity.of(lines).url  # "https://example.org/news/5", or None

They never decide which documents a source has, nor their text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config.recipe import Source

_SURROGATE = re.compile("[\ud800-\udfff]")  # from an escape of JSON, which is no character


class Identity(NamedTuple):
    """URL and id of a document, as far as its source has them."""

    url: str | None = None
    id: str | None = None


class Keys(NamedTuple):
    """The keys or columns that hold URL and id; those of a Wikipedia dump are in its format."""

    url: str | None = None
    id: str | None = None

    def identity(self, record: Mapping[str, Any]) -> Identity:
        """The identity of a record. A value that is neither text nor, as an id, an integer is none."""
        url, own_id = (record.get(key) if key else None for key in self)
        if type(own_id) is int:
            own_id = str(own_id)
        return Identity(_text(url), _text(own_id))


class Identified(list[str]):
    """The lines of a document, with its identity."""

    __slots__ = ("identity",)

    def __init__(self, lines: Sequence[str], identity: Identity) -> None:
        super().__init__(lines)
        self.identity = identity


def keys(source: Source) -> Keys:
    """The keys of a source."""
    return Keys(source.url_key, source.id_key)


def of(lines: Sequence[str]) -> Identity:
    """The identity of a document; one without URL and id if it was read without keys."""
    return lines.identity if isinstance(lines, Identified) else Identity()


def _text(value: Any) -> str | None:
    return _SURROGATE.sub("\ufffd", value).strip() or None if isinstance(value, str) else None
