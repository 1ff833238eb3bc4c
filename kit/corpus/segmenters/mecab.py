"""Words by MeCab with JumanDIC, in this process.

MeCab takes a line of any length, but its lattice does not: 1.6 kB of memory a character of plain
text, which it never gives back, and a time that grows with the square of a run of Latin letters or
katakana (1.6 s for 64,000). So a chunk longer than `LONGEST` is cut, and 12 MB are its bound.
"""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING

from kit.corpus.segmenters import jumandic
from kit.corpus.segmenters.chunking import chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

LONGEST = 4096  # characters: 10 ms at the worst
LONGEST_RUN = 1000  # of what is cut anyway: a word of a kilobyte is none


class MeCab:
    """See segment.Segmenter. The dictionary is made in `cache` where it is not there yet."""

    def __init__(self, cache: Path) -> None:
        import fugashi

        self.kept_whole: Counter[str] = Counter()
        dictionary = shlex.quote(str(jumandic.folder(cache)))
        self._parse = fugashi.GenericTagger(f"-Owakati -r /dev/null -d {dictionary}").parse

    def __enter__(self) -> MeCab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See segment.Segmenter."""

    def stream(self, batches: Iterable[Sequence[str]]) -> Iterator[list[str]]:
        """See segment.Segmenter."""
        for batch in batches:
            yield self._all_at_once(batch) or [self._words(text) for text in batch]

    def _all_at_once(self, batch: Sequence[str]) -> list[str] | None:
        """The words of a batch, or None where a chunk needs a closer look: one check for all is quick."""
        if not batch or max(map(len, batch)) > LONGEST:
            return None
        parse = self._parse
        try:
            words: list[str] = [parse(text) for text in batch]
        except UnicodeError:
            return None
        # No chunk holds a line feed, so equal texts are equal line by line.
        return words if "\n".join(words).replace(" ", "") == "\n".join(batch) else None

    def _words(self, text: str) -> str:
        words = self._answer(text) if len(text) <= LONGEST else None
        return " ".join(self._apart(text)) if words is None else words

    def _answer(self, text: str) -> str | None:
        """MeCab's words, or None where they are not the text: after a NUL nothing comes back."""
        try:
            words: str = self._parse(text)
        except UnicodeError:  # lone surrogates in, a broken character out
            return None
        return words if words.replace(" ", "") == text else None

    def _apart(self, text: str) -> Iterator[str]:
        for piece, reason in chunks(text, LONGEST, LONGEST_RUN):
            words = None if reason else self._answer(piece)
            if words is None:
                self.kept_whole[reason or "changed"] += 1
            yield piece if words is None else words
