"""Templates of an article replaced by their text, as the table and the recipe say.

templates = Templates({"駅名": "{1}駅"})
templates.expand("{{仮リンク|駅|en|Station}}は{{駅名|霧浜}}。", page)  # "駅は霧浜駅。"

A template without an entry leaves the mark UNKNOWN, one whose text only the wiki knows VALUE, each with the
number of its name; `article` decides about the sentence. One pass from the inside out; the time is
proportional to the text and its depth, which is bounded.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.config.template_pattern import Field, Part, Pattern, parse
from kit.corpus.dump import computed, marks
from kit.corpus.dump.countries import NAMES
from kit.corpus.dump.languages import LANGUAGES
from kit.corpus.dump.template_table import GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_DEPTH = 100  # of nested templates; MediaWiki allows 100
_NAME = 100  # characters of a name to keep; what is longer is a text in braces
_BRACES = re.compile(r"(\{\{|\}\})")
_SPACES = re.compile(r"[\s_]+")
_PREFIX = re.compile(r"(?:template|テンプレート|subst|safesubst)\s*:\s*", re.IGNORECASE)
_NAMED = re.compile(r"\s*([^\[\]<>{}=\n]{1,40}?)\s*=(.*)", re.DOTALL)
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class PageFacts:
    """What templates know of the page that they stand on."""

    title: str
    revised: computed.Date | None


@dataclass(frozen=True)
class _Entry:
    """What a template gives; no pattern: its text is not known, and `mark` stands for it."""

    name: str
    pattern: Pattern | None
    mark: str = marks.UNKNOWN


class Templates:
    """The table with the additions of a recipe, and the names met that it has not."""

    def __init__(self, additions: Mapping[str, str | None]) -> None:
        self.names: list[str] = []  # by the number in a mark
        self._numbers: dict[str, int] = {}
        self._entries: dict[str, _Entry] = {}  # by name as written
        added = [(pattern, name) for name, pattern in additions.items()]
        self._exact, self._families = _table()
        exact, families = _compiled(added)
        self._exact = self._exact | exact
        self._families = families + self._families

    def expand(self, text: str, page: PageFacts) -> str:
        """The text with its templates replaced; braces without a partner stay."""
        if "{{" not in text:
            return text
        open_: list[list[str]] = [[]]
        for number, piece in enumerate(_BRACES.split(text)):
            if number % 2 == 0:
                open_[-1].append(piece)
            elif piece == "{{":
                open_.append([])
            elif len(open_) == 1:
                open_[-1].append(piece)
            else:
                body = "".join(open_.pop())
                too_deep = len(open_) > _DEPTH
                open_[-1].append(self._mark("too deep") if too_deep else self._value(body, page))
        rest = "{{".join("".join(parts) for parts in open_)
        return rest.replace(marks.PIPE, "|")

    def _value(self, body: str, page: PageFacts) -> str:
        head, _, rest = body.partition("|")
        if ":" in head and (function := _FUNCTIONS.get(head.partition(":")[0].strip().lower())):
            return function(head.partition(":")[2], _arguments(rest))
        entry = self._entries.get(head)
        if entry is None:
            entry = self._find(head)
            if len(head) <= _NAME:
                self._entries[head] = entry
        if entry.pattern is None:
            return self._mark(entry.name, entry.mark)
        if not entry.pattern:
            return marks.NOTE
        if entry.name in _MAGIC:
            return page.title
        text = _filled(entry.pattern, _parameters(rest), page.revised)
        if text is None:
            return self._mark(entry.name, marks.VALUE)
        if text.strip("\n"):
            return text
        optional = all(part.optional for part in entry.pattern)
        return marks.NOTE if optional else self._mark(entry.name)

    def _find(self, head: str) -> _Entry:
        name = _canonical(head)
        if name in _MAGIC:
            return _Entry(name, parse(name))
        if name.startswith("#"):
            return _Entry(name.partition(":")[0], None, marks.VALUE)
        if name in self._exact:
            return self._exact[name]
        return next(
            (entry for family, entry in self._families if family.fullmatch(name)),
            _Entry(name.partition(":")[0] if ":" in name else name, None),
        )

    def _mark(self, name: str, mark: str = marks.UNKNOWN) -> str:
        name = name[:_NAME]
        number = self._numbers.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return f"{mark}{number}{marks.END}"


_Compiled = tuple[dict[str, _Entry], list[tuple[re.Pattern[str], _Entry]]]
_MAGIC = frozenset({"PAGENAME", "FULLPAGENAME", "SUBPAGENAME", "BASEPAGENAME", "PAGENAMEE"})


@functools.cache
def _table() -> _Compiled:
    rows = [(pattern, name) for pattern, names in GROUPS for name in names.split(", ")]
    for code, (language, short) in LANGUAGES.items():
        rows += [("(?{1})", code), (f"{language}: {{1}}", f"lang-{code}")]
        rows.append((f"{short}: {{1}}", f"lang-{code}-short"))
    rows += [(name, code) for code, name in NAMES.items()]
    exact, families = _compiled(rows)
    return exact | {"!": _Entry("!", parse(marks.PIPE))}, families


def _compiled(rows: Iterable[tuple[str | None, str]]) -> _Compiled:
    exact, families = {}, []
    for pattern, written in rows:
        name = _canonical(written)
        entry = _Entry(name, None if pattern is None else parse(pattern), marks.VALUE)
        if "*" in name:
            parts = [re.escape(part) for part in name.split("*")]
            families.append((re.compile(".*".join(parts), re.DOTALL), entry))
        else:
            exact[name] = entry
    return exact, families


def _canonical(name: str) -> str:
    """The name of a template's page: first letter in upper case, single spaces."""
    name = _SPACES.sub(" ", name.replace(marks.NOTE, "")).strip()
    plain = _PREFIX.sub("", name, count=1)
    return plain[:1].upper() + plain[1:]


def _arguments(rest: str) -> list[str]:
    """The parts between pipes that do not stand in a link."""
    parts = rest.split("|")
    if "[[" not in rest:
        return parts
    joined: list[str] = []
    open_ = 0
    for part in parts:
        if open_ > 0:
            joined[-1] += f"|{part}"
        else:
            joined.append(part)
            open_ = 0
        open_ += part.count("[[") - part.count("]]")
    return joined


def _parameters(rest: str) -> dict[str, str]:
    """The parameters by name; those without are numbered from 1."""
    parameters: dict[str, str] = {}
    unnamed = 0
    for part in _arguments(rest):
        named = _NAMED.fullmatch(part) if "=" in part else None
        if named:
            parameters[named[1]] = named[2].strip()
        else:
            unnamed += 1
            parameters[str(unnamed)] = part.strip()
    return parameters


def _filled(
    pattern: Pattern, parameters: Mapping[str, str], revised: computed.Date | None
) -> str | None:
    """The text of a pattern; None if a value cannot be computed."""
    texts = []
    for part in pattern:
        text = _part(part, parameters, revised)
        if text is None:
            return None
        texts.append(text)
    return "".join(texts)


def _part(part: Part, parameters: Mapping[str, str], revised: computed.Date | None) -> str | None:
    texts = []
    for piece in part.pieces:
        text = piece if isinstance(piece, str) else _field(piece, parameters, revised)
        if text is None and not part.optional:
            return None
        if not text and part.optional and isinstance(piece, Field):
            return ""
        texts.append(text or "")
    return "".join(texts)


def _field(
    field: Field, parameters: Mapping[str, str], revised: computed.Date | None
) -> str | None:
    if field.computed:
        return computed.value(field.computed, parameters, revised)
    if field.first:
        numbers = sorted(int(key) for key in parameters if _DIGITS.fullmatch(key))
        unnamed = (parameters[str(n)] for n in numbers if n >= field.first and str(n) in parameters)
        return field.joiner.join(text for text in unnamed if text)
    return next((parameters[key] for key in field.keys if parameters.get(key)), "")


# Parser functions and magic words with an argument: https://www.mediawiki.org/wiki/Help:Magic_words
def _formatnum(argument: str, _: list[str]) -> str:
    number = argument.strip().replace(",", "")
    whole, point, fraction = number.partition(".")
    if not re.fullmatch(r"-?[0-9]+", whole):
        return argument.strip()
    return f"{int(whole):,}{point}{fraction}"


def _if(condition: str, branches: list[str]) -> str:
    return _branch(0 if condition.strip() else 1, branches)


def _ifeq(left: str, rest: list[str]) -> str:
    return _branch(0 if rest and left.strip() == rest[0].strip() else 1, rest[1:])


def _branch(number: int, branches: list[str]) -> str:
    return branches[number].strip() if number < len(branches) else ""


def _nothing(_: str, __: list[str]) -> str:
    return ""


_FUNCTIONS: dict[str, Callable[[str, list[str]], str]] = {
    "formatnum": _formatnum,
    "#if": _if,
    "#ifeq": _ifeq,
    "#tag": _nothing,
    "lc": lambda argument, _: argument.strip().lower(),
    "uc": lambda argument, _: argument.strip().upper(),
} | dict.fromkeys(
    ("defaultsort", "defaultsortkey", "displaytitle", "デフォルトソート", "表示タイトル"), _nothing
)
