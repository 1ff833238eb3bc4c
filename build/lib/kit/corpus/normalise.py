"""Normalisation by neologdn: the only door to it."""

from __future__ import annotations

import re

import neologdn

from kit.shards import LINE_END, SPACE

_SPACE = re.compile(r"\s")
_SUBSTITUTE = {ord(SPACE): "_", ord(LINE_END): " "}


def normalise(line: str, mode: str) -> tuple[str, int]:
    """A line as neologdn 0.5.6 leaves it, free of the marks of a shard.

    Returns it with the number of marks replaced. In article mode the text is exactly what
    `neologdn.normalize(line.rstrip())` gives; by default every white space is a plain one first.
    """
    if mode == "default":
        line = _SPACE.sub(" ", line)
    text = neologdn.normalize(line.rstrip())
    marks = text.count(SPACE) + text.count(LINE_END)
    return (text.translate(_SUBSTITUTE).strip() if marks else text), marks
