"""The serial script of the article: a line normalised, split, written, then the next one.

    python -m tests.benchmarks.peers.script INPUT OUTPUT

Its loop ended at the first line that came to nothing; here such a line is passed over. Sentences are
split by textformatting where it is installed, else by a plain function that does the same.
"""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

import neologdn

_MARKS = "。．？！♪…?!"
_CUT = re.compile(f"[^{_MARKS}]*[{_MARKS}]|[^{_MARKS}]+")


def main(source: Path, output: Path) -> None:
    """Write the sentences of a text file, one a line."""
    with (
        source.open(encoding="utf-8") as lines,
        output.open("w", encoding="utf-8") as out,
    ):
        for line in lines:
            text = neologdn.normalize(line.rstrip())
            if not text:
                continue
            for sentence in ssplit(text):
                out.write(f"{sentence}\n")


def ssplit(line: str) -> list[str]:
    """The sentences of a line: cut behind marks, merged while brackets stand open, stripped."""
    pieces: list[str] = []
    for piece in _CUT.findall(line):
        if pieces and piece in _MARKS:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    sentences, held = [], ""
    for piece in pieces:
        held += piece
        if _balanced(held):
            sentences.append(held)
            held = ""
    stripped = (sentence.strip() for sentence in [*sentences, held])
    return [sentence for sentence in stripped if sentence]


def _balanced(text: str) -> bool:
    round_ones = text.count("（") + text.count("(") == text.count("）") + text.count(")")
    return round_ones and text.count("「") + text.count("“") == text.count("」") + text.count("”")


with contextlib.suppress(ImportError):
    from textformatting import ssplit  # type: ignore[no-redef]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
