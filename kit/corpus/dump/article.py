"""The lines of an article, from the output of wikiextractor for its simplified text.

A sentence with a formula, or with a template whose text is not known, is left out whole, and so is a
parenthesis with one. Headings stand on lines of their own, those of empty sections are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kit.corpus import line_ends, sentences
from kit.corpus.dump import marks, wikitext

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.config.wikipedia import Wikipedia
    from kit.corpus.dump.tally import Tally

_HOLE = f"[{marks.UNKNOWN}{marks.VALUE}]\\d+{marks.END}|{marks.FORMULA}"
_HOLES = re.compile(_HOLE)
_NUMBERED = re.compile(f"[{marks.UNKNOWN}{marks.VALUE}](\\d+){marks.END}")
_UNKNOWNS = f"(?:{marks.UNKNOWN}\\d+{marks.END})+"
# Where notes stand: before a mark that closes, or at the end, and not after a particle or an opening mark.
_NOTE = re.compile(
    rf"(?<=[^\s「『（(〈《【“:：・、,はがをにでともの{marks.END}]){_UNKNOWNS}(?=[。、．，,）)」』\n]|$)"
    rf"|(?<=[。！？」』）)]){_UNKNOWNS}"
)
_PARENTHESIS = re.compile(rf"[ \u3000]?[（(][^（）()]*(?:{_HOLE})[^（）()]*[）)]")
_NOTHING = re.compile(r"[\s\W_]*")
_ITEM_MARKS = f"{marks.ITEM} *#:;"
_LITERALS = re.compile(f"[{''.join(marks.LITERAL_IN_CODE.values())}]")
_NESTED = 8  # parentheses within one another that are looked into


class Article:
    """Makes lines of extracted texts; `names` are those of the templates, by their numbers."""

    def __init__(self, section: Wikipedia, names: Sequence[str], tally: Tally) -> None:
        self._section, self._names, self._tally = section, names, tally
        self._has_holes = False  # whether the current article has any

    def lines(self, text: str) -> list[str]:
        """The non-empty lines, without remains of markup."""
        text = line_ends.unified(wikitext.unescaped(text), line_ends.UNICODE)
        self._has_holes = bool(_HOLES.search(text))
        kept: list[str] = []
        headings: list[tuple[int, str]] = []  # of sections that have no line yet
        for raw in text.split("\n"):
            if raw[:1] == marks.HEADING and raw[1:2].isdigit():
                level, title = int(raw[1]), wikitext.clean_line(_HOLES.sub("", raw[2:]))
                headings = [each for each in headings if each[0] < level]
                if title:
                    headings.append((level, title))
            elif line := self._line(raw):
                if headings:
                    kept += self._kept(headings)
                    headings = []
                kept.append(line)
        return _plain("\n".join(kept))

    def _kept(self, headings: list[tuple[int, str]]) -> list[str]:
        keep = self._section.headings == "keep"
        self._tally.counts["headings kept" if keep else "headings left out"] += len(headings)
        return [title for _, title in headings] if keep else []

    def _line(self, raw: str) -> str:
        if raw[:1] == marks.CODE:
            return raw.strip(marks.CODE + " ")
        if raw[:1] != marks.ITEM:
            return self._text(raw)
        item = self._text(raw.lstrip(_ITEM_MARKS))
        if not item:
            return ""
        keep = self._section.lists == "keep"
        self._tally.counts["list items kept" if keep else "list items left out"] += 1
        return item if keep else ""

    def _text(self, raw: str) -> str:
        if self._has_holes and _HOLES.search(raw):
            raw = self._without_holes(raw)
        return wikitext.clean_line(raw) if raw else ""

    def _without_holes(self, line: str) -> str:
        """The line without the sentences and parentheses whose text is not known."""
        alone = bool(_NOTHING.fullmatch(_HOLES.sub("", line)))
        counter = self._tally.boxes if alone else self._tally.templates
        for number in map(int, _NUMBERED.findall(line)):
            if number < len(self._names):
                counter[self._names[number]] += 1
        if alone:
            return ""
        line = _NOTE.sub("", line)
        for _ in range(_NESTED):
            line, number = _PARENTHESIS.subn("", line)
            self._tally.counts["parentheses left out"] += number
            if not number:
                break
        return "".join(self._known(line)) if _HOLES.search(line) else line

    def _known(self, line: str) -> Iterator[str]:
        for sentence in sentences.split(line):
            if not _HOLES.search(sentence):
                yield sentence
                continue
            formula = marks.FORMULA in sentence
            reason = "a formula" if formula else "a template without a text"
            self._tally.counts[f"sentences left out with {reason}"] += 1


def _plain(text: str) -> list[str]:
    """The lines as they are written into the corpus."""
    if _LITERALS.search(text):
        text = text.translate(marks.AS_TEXT)
    lines = wikitext.without_controls(text).split("\n")
    return [line for line in lines if line and not line.isspace()]
