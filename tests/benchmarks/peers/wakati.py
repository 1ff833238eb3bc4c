"""Bare word segmentation, a sentence a line: what `mecab -Owakati` with JumanDIC does.

python -m tests.benchmarks.peers.wakati SENTENCES OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import fugashi
import jumandic


def main(sentences: Path, output: Path) -> None:
    """Segment a file of sentences into another."""
    parse = fugashi.GenericTagger(f"-Owakati {jumandic.MECAB_ARGS}").parse
    with (
        sentences.open(encoding="utf-8", newline="\n") as lines,
        output.open("w", encoding="utf-8") as out,
    ):
        for line in lines:
            try:
                words = parse(line.rstrip("\n"))
            except UnicodeDecodeError:  # the dictionary's two broken entries
                words = line.rstrip("\n")
            out.write(f"{words}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
