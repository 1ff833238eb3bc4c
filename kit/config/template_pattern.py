"""What a template of Wikipedia gives, written as a pattern of its parameters.

parse("{1}（{2}(?、{3})）")  # {{読み仮名|駅伝|えきでん}} gives 駅伝（えきでん）

    {1} {label}    a parameter: the first unnamed one, one by its name; nothing if it is missing
    {label|1}      the first of several that is not empty
    {2*、}         the unnamed ones from the second on, joined by 、
    {=era}         a value computed from the parameters (kit/corpus/dump/computed.py)
    (?、{3})       left out if a parameter in it is missing or empty
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

COMPUTED = frozenset({"era", "years", "age", "died", "born", "date", "country"})
_OPTIONAL = re.compile(r"\(\?([^()]*)\)")
_FIELD = re.compile(r"\{([^{}]*)\}")
_JOINED = re.compile(r"(\d+)\*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Field:
    """A place of a pattern that parameters fill."""

    keys: tuple[str, ...] = ()  # of one parameter, in order of preference
    first: int = 0  # of the unnamed parameters to join, if it is not 0
    joiner: str = ""
    computed: str = ""  # name of a computed value, if it is not empty


@dataclass(frozen=True)
class Part:
    """A run of text and fields."""

    pieces: tuple[str | Field, ...]
    optional: bool  # whether an empty field leaves it out


Pattern = tuple[Part, ...]


@functools.cache
def parse(pattern: str) -> Pattern:
    """The parts of a pattern. Raises ValueError, with the offending part, for an invalid one."""
    texts = _OPTIONAL.split(pattern)  # every second one is optional
    return tuple(
        Part(_pieces(text, pattern), number % 2 == 1) for number, text in enumerate(texts) if text
    )


def _pieces(text: str, pattern: str) -> tuple[str | Field, ...]:
    pieces = _FIELD.split(text)
    plain = pieces[::2]
    if wrong := next((each for each in plain if re.search(r"[{}]|\(\?", each)), None):
        raise ValueError(
            f"{pattern!r}: {wrong!r} has a bracket without its partner; write {{1}}, {{label|1}} or "
            "(?、{2})"
        )
    return tuple(_field(piece, pattern) if i % 2 else piece for i, piece in enumerate(pieces))


def _field(name: str, pattern: str) -> Field:
    if name.startswith("="):
        if name[1:] not in COMPUTED:
            raise ValueError(
                f"{pattern!r}: {{{name}}} is not computed; known are "
                f"{', '.join(f'{{={each}}}' for each in sorted(COMPUTED))}"
            )
        return Field(computed=name[1:])
    if joined := _JOINED.fullmatch(name):
        return Field(first=max(1, int(joined[1])), joiner=joined[2])
    keys = tuple(key.strip() for key in name.split("|"))
    if not all(keys):
        raise ValueError(f"{pattern!r}: {{{name}}} names no parameter; write {{1}} or {{label|1}}")
    return Field(keys)
