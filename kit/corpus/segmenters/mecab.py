"""Words by MeCab with JumanDIC, in this process.

MeCab accepts a line of any length, at a cost: its lattice takes 1.6 kB of memory per character of plain
text, which is never freed, and time that grows with the square of a run of Latin letters or katakana
(1.6 s for 64,000). So a chunk longer than `LONGEST` is cut, which bounds memory to 12 MB.

fugashi never frees a tagger, which takes 45 MB: a process makes one, and all units of its task use it.
"""

from __future__ import annotations

import functools
import shlex
from collections import Counter
from typing import TYPE_CHECKING

from kit.corpus.segmenters import jumandic
from kit.corpus.segmenters.chunking import chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

LONGEST = 4096  # characters: 10 ms at worst
LONGEST_RUN = 1000  # of a text that is cut anyway: a run of a kilobyte is not a word


class MeCab:
    """See segment.Segmenter. Makes the dictionary in `cache` if it is missing."""

    def __init__(self, cache: Path) -> None:
        self.unsegmented: Counter[str] = Counter()
        self._parse = _parser(jumandic.folder(cache))

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
        """The words of a batch, after one quick check for all; None if a chunk needs a closer look."""
        if not batch or max(map(len, batch)) > LONGEST:
            return None
        parse = self._parse
        try:
            words: list[str] = [parse(text) for text in batch]
        except UnicodeError:
            return None
        # Chunks have no line feeds, so equal texts are equal line by line.
        return words if "\n".join(words).replace(" ", "") == "\n".join(batch) else None

    def _words(self, text: str) -> str:
        words = self._answer(text) if len(text) <= LONGEST else None
        return " ".join(self._in_chunks(text)) if words is None else words

    def _answer(self, text: str) -> str | None:
        """MeCab's words, or None if they are not the text: after a NUL it returns nothing."""
        try:
            words: str = self._parse(text)
        except UnicodeError:  # lone surrogates in, a broken character out
            return None
        return words if words.replace(" ", "") == text else None

    def _in_chunks(self, text: str) -> Iterator[str]:
        for piece, reason in chunks(text, LONGEST, LONGEST_RUN):
            words = None if reason else self._answer(piece)
            if words is None:
                self.unsegmented[reason or "changed"] += 1
            yield piece if words is None else words


@functools.cache
def _parser(dictionary: Path) -> Callable[[str], str]:
    import fugashi

    arguments = f"-Owakati -r /dev/null -d {shlex.quote(str(dictionary))}"
    parse: Callable[[str], str] = fugashi.GenericTagger(arguments).parse
    return parse
