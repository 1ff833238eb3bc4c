"""Cut text that a segmenter cannot handle into chunks, some of which stay unsegmented.

The rule depends on the text alone, so it gives the same chunks on every machine:
- a run of white space, control characters or lone surrogates stays unsegmented (`WHITE_SPACE`);
- a run of one kind of character (hiragana, katakana, kanji, other letters, marks, digits, signs)
  longer than `longest_run` stays unsegmented (`LONG_RUN`);
- text between these that is longer than `longest` is cut: after the last closing punctuation mark
  that fits, otherwise at a change of the kind of character.
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
UNSAFE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # no segmenter returns these unchanged
_CLOSING = frozenset("。．、，！？!?,;；：:…」』）)】］]｝}〉》")
_UNSAFE, _PUNCTUATION = "unsafe", "P"
_SCRIPTS = (  # letters with kinds of their own instead of their Unicode category, by blocks
    ("hiragana", re.compile("[\u3041-\u309f]")),
    ("katakana", re.compile("[\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f]")),
    ("kanji", re.compile("[々〆〇\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")),
)


class Chunk(NamedTuple):
    """A part of a text; `unsegmented` is the reason it stays one word, or empty if it can be segmented."""

    text: str
    unsegmented: str


def chunks(text: str, longest: int, longest_run: int) -> Iterator[Chunk]:
    """Yield the chunks of a text, in order; joined, they are the text. Lengths are in characters.

    `longest_run` must not exceed `longest`.
    """
    piece, mark = "", 0  # the chunk so far, and the end of its last closing punctuation
    for kind, run in _runs(text):
        reason = WHITE_SPACE if kind == _UNSAFE else LONG_RUN if len(run) > longest_run else ""
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
    """Yield the runs of characters of one kind, each after its kind."""
    for kind, characters in itertools.groupby(text, _kind):
        yield kind, "".join(characters)


@functools.lru_cache(maxsize=1 << 16)
def _kind(character: str) -> str:
    if UNSAFE.match(character):
        return _UNSAFE
    for script, pattern in _SCRIPTS:
        if pattern.match(character):
            return script
    return unicodedata.category(character)[0]
