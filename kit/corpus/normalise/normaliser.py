"""Normalisation by neologdn, the only door to it; lines whose outcome is certain are spared it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import neologdn

from kit.corpus.normalise import characters, preserve
from kit.data.shards import BOUNDARY, LINE_END, MARKS, SPACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.recipe import Normalise

_WORKED_OUT = (0, 5, 6)  # the version of neologdn that kit/corpus/normalise/characters.py follows
_FEW = 150  # characters; neologdn is the quicker one on less
_WHITE = re.compile(r"\s+")
_SUBSTITUTE = {ord(SPACE): "_", ord(LINE_END): " ", ord(BOUNDARY): None}  # the last is invisible


class Normaliser:
    """Normalises lines as a recipe says.

    In mode `article` a line becomes what `neologdn.normalize(line.rstrip())` gives. In mode `default`
    every white space is a plain one first, and what `options` names is kept (see preserve.py in this room);
    with all options off that is the only difference. In both, the marks of a shard are then
    replaced. With another version of neologdn than the one worked out, all lines go through it.
    A second time changes nothing more, but for byte order marks at the head of a line, spaces that
    marks were replaced by, and in `article` other white space that only a tilde kept from the end.
    """

    def __init__(self, mode: str, options: Normalise) -> None:
        self._default = mode == "default"
        tildes = self._default and (options.keep_ranges or options.keep_url_tildes)
        accents = self._default and options.keep_accent_spaces
        self._options = options if tildes or accents else None
        self._table: characters.CodePointTable | None = None
        if neologdn.VERSION == _WORKED_OUT:
            self._table = characters.CodePointTable(
                white=self._default,
                tildes=characters.HARD if tildes else characters.TILDE,
                latin=preserve.SPACED_SCRIPTS if accents else (),
            )

    def lines(self, lines: Sequence[str]) -> tuple[list[str], int]:
        """The lines normalised, one for each, perhaps empty, and the number of marks replaced.

        Quickest with some 10,000 to 1,000,000 characters at once. Raises UnicodeError for a lone surrogate.
        """
        if not self._default:
            lines = [line.rstrip() for line in lines]
        text = "\n".join(lines)
        if self._table is None or len(text) < _FEW or text.count("\n") != len(lines) - 1:
            return _without_marks([self._line(line) for line in lines])
        normalised, hard = self._table.normalise(text)
        result = normalised.split("\n")
        for number in hard:
            result[number] = self._line(lines[number])
        return _without_marks(result)

    def _line(self, line: str) -> str:
        if not self._default:
            return str(neologdn.normalize(line))
        line = _WHITE.sub(" ", line).rstrip(" ")
        if self._options is None:
            return str(neologdn.normalize(line))
        line, originals = preserve.protect(line, self._options)
        return preserve.restore(neologdn.normalize(line), originals)


def _without_marks(lines: list[str]) -> tuple[list[str], int]:
    text = "\n".join(lines)
    found = sum(map(text.count, MARKS))
    if not found:
        return lines, 0
    marked = [any(mark in line for mark in MARKS) for line in lines]
    return [
        line.translate(_SUBSTITUTE).strip() if has_marks else line
        for line, has_marks in zip(lines, marked, strict=True)
    ], found
