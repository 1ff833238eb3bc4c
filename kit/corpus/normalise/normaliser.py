"""Normalisation by neologdn, which only this module imports; lines with a certain outcome bypass it."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import neologdn

from kit.corpus.normalise import characters, compose, preserve
from kit.data.shards import BOUNDARY, LINE_END, MARKS, SPACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.recipe import Normalise

_TABLE_VERSION = (0, 5, 6)  # the neologdn that kit/corpus/normalise/characters.py reproduces
_SHORT_TEXT = 150  # characters; neologdn itself is quicker below this
_WHITE = re.compile(r"\s+")
_SUBSTITUTE = {ord(SPACE): "_", ord(LINE_END): " ", ord(BOUNDARY): None}  # the last is invisible


class Normaliser:
    """Normalises lines as a recipe says.

    Mode `article` gives `neologdn.normalize(line.rstrip())`. Mode `default` first turns all white space
    into plain spaces, composes letters (compose.py), and preserves the text that `options` select
    (preserve.py); with all options off there is no other difference. In both, the marks of a shard are then
    replaced. If neologdn has another version than the table, all lines go through it. Normalising twice
    changes nothing more, except byte order marks at the head of a line, spaces that replaced marks, and in
    `article` other white space that was followed only by a tilde.
    """

    def __init__(self, mode: str, options: Normalise) -> None:
        self._default = mode == "default"
        self._compose = options.compose
        self._preserver = preserve.Preserver(options)
        self._known_version = neologdn.VERSION == _TABLE_VERSION
        if not (self._default and self._known_version):
            return
        self._table = characters.CodePointTable(
            white=True,
            latin=preserve.SPACED_SCRIPTS if options.keep_accent_spaces else (),
            kept=preserve.kept(options),
            hard=preserve.hard(options) + compose.MARKS * options.compose,
            spaces=options.keep_spaces,
        )

    def lines(self, lines: Sequence[str]) -> tuple[list[str], int]:
        """Normalise lines, one to one (some may become empty); also returns the number of marks replaced.

        Quickest with some 10,000 to 1,000,000 characters at once. Raises UnicodeError for a lone surrogate.
        """
        if not self._default:
            return _without_marks(self._neologdn([line.rstrip() for line in lines]))
        text = "\n".join(lines)
        if not self._known_version or _is_short(text, lines):
            return _without_marks(self._protected(lines))
        normalised, hard = self._table.normalise(text)
        result = normalised.split("\n")
        for number, line in zip(hard, self._protected([lines[n] for n in hard]), strict=True):
            result[number] = line
        return _without_marks(result)

    def _protected(self, lines: Sequence[str]) -> list[str]:
        """Normalise lines in which characters may have to be protected."""
        result = self._once(lines)
        # Widths, marks and spaces beside a tilde decide about it, and are settled only now.
        pairs = enumerate(zip(result, lines, strict=True))
        again = [number for number, (once, line) in pairs if "~" in once and once != line]
        for number, line in zip(again, self._once([result[n] for n in again]), strict=True):
            result[number] = line
        return result

    def _once(self, lines: Sequence[str]) -> list[str]:
        plain = [_WHITE.sub(" ", line).rstrip(" ") for line in lines]
        if self._compose:
            plain = [*map(compose.composed, plain)]
        protected = [*map(self._preserver.protect, plain)]
        normalised = self._neologdn([line for line, _ in protected])
        restored = [
            preserve.restore(line, originals)
            for line, (_, originals) in zip(normalised, protected, strict=True)
        ]
        # A letter that a space kept apart from its mark meets it only now.
        return [*map(compose.composed, restored)] if self._compose else restored

    def _neologdn(self, lines: Sequence[str]) -> list[str]:
        """The result of neologdn for each line."""
        text = "\n".join(lines)
        if not self._known_version or _is_short(text, lines):
            return [str(neologdn.normalize(line)) for line in lines]
        normalised, hard = self._plain_table.normalise(text)
        result = normalised.split("\n")
        for number in hard:
            result[number] = str(neologdn.normalize(lines[number]))
        return result

    @functools.cached_property
    def _plain_table(self) -> characters.CodePointTable:
        return characters.CodePointTable(white=False)


def _is_short(text: str, lines: Sequence[str]) -> bool:
    """Whether lines, joined to `text`, are to be normalised one by one; also those with line feeds."""
    return len(text) < _SHORT_TEXT or text.count("\n") != len(lines) - 1


def _without_marks(lines: list[str]) -> tuple[list[str], int]:
    text = "\n".join(lines)
    count = sum(map(text.count, MARKS))
    if not count:
        return lines, 0
    marked = [any(mark in line for mark in MARKS) for line in lines]
    return [
        line.translate(_SUBSTITUTE).strip() if has_marks else line
        for line, has_marks in zip(lines, marked, strict=True)
    ], count
