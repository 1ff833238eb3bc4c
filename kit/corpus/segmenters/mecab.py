"""Words by MeCab with JumanDIC, in this process.

MeCab accepts a line of any length, at a cost: its lattice takes 1.6 kB of memory per character of plain
text, which is never freed, and time that grows with the square of a run of Latin letters or katakana
(1.6 s for 64,000). So a chunk longer than `LONGEST` is cut, which bounds memory to 12 MB.

The words of recent chunks are kept: what recurs, such as the words of Latin script between spaces, is
looked up. In text where little does, that takes a fiftieth of MeCab's time.

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
_KEPT = 1 << 20  # characters of chunks whose words are kept: some 10 MB


class MeCab:
    """See segment.Segmenter. Makes the dictionary in `cache` if it is missing."""

    def __init__(self, cache: Path) -> None:
        self.unsegmented: Counter[str] = Counter()
        self._parse = _parser(jumandic.folder(cache))
        self._known: dict[str, str] = {}  # the words of recent chunks
        self._size = 0  # characters of these chunks

    def __enter__(self) -> MeCab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See segment.Segmenter."""

    def stream(self, batches: Iterable[Sequence[str]]) -> Iterator[list[str]]:
        """See segment.Segmenter."""
        for batch in batches:
            self._learn(batch)
            known = self._known
            try:
                words = [*map(known.__getitem__, batch)]
            except KeyError:  # a chunk that is cut, and counted each time
                words = [known.get(text) or self._in_chunks(text) for text in batch]
            yield words

    def _learn(self, batch: Sequence[str]) -> None:
        """Segment the chunks of a batch that are not known."""
        if self._size > _KEPT:
            self._known.clear()
            self._size = 0
        new = [text for text in dict.fromkeys(batch) if text not in self._known]
        words = self._all_at_once(new) or map(self._answer, new)
        pairs = zip(new, words, strict=True)
        self._known.update((text, answer) for text, answer in pairs if answer is not None)
        self._size += sum(map(len, new))

    def _all_at_once(self, texts: Sequence[str]) -> list[str] | None:
        """The words of chunks, after one quick check for all; None if one needs a closer look."""
        if not texts or max(map(len, texts)) > LONGEST:
            return None
        try:
            words = [*map(self._parse, texts)]
        except UnicodeError:
            return None
        # Chunks have no line feeds, so equal texts are equal line by line.
        return words if "\n".join(words).replace(" ", "") == "\n".join(texts) else None

    def _answer(self, text: str) -> str | None:
        """MeCab's words, or None if it cannot be asked, or they are not the text, as after a NUL."""
        if len(text) > LONGEST:
            return None
        try:
            words: str = self._parse(text)
        except UnicodeError:  # lone surrogates in, a broken character out
            return None
        return words if words.replace(" ", "") == text else None

    def _in_chunks(self, text: str) -> str:
        """The words of a chunk that MeCab cannot be asked for as a whole."""
        return " ".join(self._words_of_chunks(text))

    def _words_of_chunks(self, text: str) -> Iterator[str]:
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
