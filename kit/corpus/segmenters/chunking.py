"""What a segmenter cannot be given: such text is cut into pieces, some of which stay whole.

The rule looks at the text alone, so it gives the same pieces on every machine:
- a run of white space, control characters or lone surrogates stays whole (`WHITE_SPACE`);
- a run of one kind of character (hiragana, katakana, kanji, other letters, marks, digits, signs)
  that is longer than `longest_run` stays whole (`LONG_RUN`);
- what lies between is cut where it is longer than `longest`: after the last closing punctuation
  mark that fits, else where the kind of character changes.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

WHITE_SPACE, LONG_RUN = "white_space", "long_run"
APART = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # no segmenter gives these back
_CLOSING = frozenset("。．、，！？!?,;；：:…」』）)】］]｝}〉》")
_APART, _PUNCTUATION = "apart", "P"
_SCRIPTS = (  # the letters whose kind is not that of their Unicode category; of the Unicode blocks
    ("hiragana", re.compile("[\u3041-\u309f]")),
    ("katakana", re.compile("[\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f]")),
    ("kanji", re.compile("[々〆〇\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")),
)


class Chunk(NamedTuple):
    """A part of a text; `kept_whole` says why it is one word, or is empty: it is to be segmented."""

    text: str
    kept_whole: str


def chunks(text: str, longest: int, longest_run: int) -> Iterator[Chunk]:
    """The pieces of a text, in order; joined, they are the text. Lengths are in characters.

    `longest_run` is not above `longest`.
    """
    piece, mark = "", 0  # what is gathered, and where it was last closed by punctuation
    for kind, run in _runs(text):
        reason = WHITE_SPACE if kind == _APART else LONG_RUN if len(run) > longest_run else ""
        while piece and (reason or len(piece) + len(run) > longest):
            end = len(piece) if reason else mark or len(piece)
            yield Chunk(piece[:end], "")
            piece, mark = piece[end:], 0
        if reason:
            yield Chunk(run, reason)
            continue
        piece += run
        if kind == _PUNCTUATION and run[-1] in _CLOSING:
            mark = len(piece)
    if piece:
        yield Chunk(piece, "")


def has_long_run(text: str, longest_run: int) -> bool:
    """Whether a run of one kind is longer than `longest_run` characters."""
    return len(text) > longest_run and any(len(run) > longest_run for _, run in _runs(text))


def _runs(text: str) -> Iterator[tuple[str, str]]:
    """The text in runs of characters of one kind, each with its kind."""
    for kind, characters in itertools.groupby(text, _kind):
        yield kind, "".join(characters)


@functools.lru_cache(maxsize=1 << 16)
def _kind(character: str) -> str:
    if APART.match(character):
        return _APART
    for script, pattern in _SCRIPTS:
        if pattern.match(character):
            return script
    return unicodedata.category(character)[0]
