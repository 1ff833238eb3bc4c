"""Words by MeCab with JumanDIC, in this process.

MeCab accepts a line of any length, at a cost: its lattice takes 1.6 kB of memory per character of plain
text, which is never freed, and time that grows with the square of a run of Latin letters or katakana
(1.6 s for 64,000). So a chunk longer than `LONGEST` is cut, which bounds memory to 12 MB.

After some text, code that numba compiles takes the place of MeCab (lattice.py): the same words in half the
time. It is kept for other processes, which have it at once.

The words of recent chunks are kept: what recurs, such as the words of Latin script between spaces, is
looked up. Where little does, as in articles of Wikipedia, most batches are asked for without a look.

fugashi never frees a tagger, which takes 45 MB: a process makes one, and all units of its task use it.
"""

from __future__ import annotations

import functools
import shlex
from collections import Counter
from typing import TYPE_CHECKING

from kit.corpus.segmenters import jumandic
from kit.output import log
from kit.store import machine_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from kit.corpus.segmenters.lattice import Lattice

LONGEST = 4096  # characters: 10 ms at worst
LONGEST_RUN = 1000  # of a text that is cut anyway: a run of a kilobyte is not a word
_KEPT = 1 << 20  # characters of chunks whose words are kept: some 10 MB
_PER_CHUNK = 4  # what one more chunk costs MeCab, in characters
_WORTH_IT = 0.2  # the share that has to recur, or looking takes as long as it saves
_LOADING = 1 << 17  # characters after which compiled code is used: loading it takes as long
_COMPILING = 1 << 23  # characters after which it is compiled, if nobody has: that takes as long
_SEARCH = "kit.corpus.segmenters.search"
_UNSEEN = 7  # batches to ask for without a look, until the next shows whether that is still right


def prepare() -> None:
    """Compile the code that takes MeCab's place, unless the cache has it."""
    machine_code.function(_SEARCH, "segment")


class MeCab:
    """See segment.Segmenter. Makes the dictionary in `cache` if it is missing."""

    def __init__(self, cache: Path) -> None:
        self.unsegmented: Counter[str] = Counter()
        self._engine = _engine(jumandic.folder(cache))
        self._known: dict[str, str] = {}  # the words of recent chunks
        self._size = 0  # characters of these chunks
        self._unseen = 0  # batches to come that are asked for without a look

    def __enter__(self) -> MeCab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See segment.Segmenter."""

    def stream(self, batches: Iterable[Sequence[str]]) -> Iterator[list[str]]:
        """See segment.Segmenter."""
        for batch in batches:
            yield self._without_a_look(batch) or self._looked_up(batch)

    def _without_a_look(self, batch: Sequence[str]) -> list[str] | None:
        """The words of a batch in which little recurs, if that is to be expected."""
        if not self._unseen:
            return None
        self._unseen -= 1
        return self._all_at_once(batch)

    def _looked_up(self, batch: Sequence[str]) -> list[str]:
        self._learn(batch)
        known = self._known
        try:
            return [*map(known.__getitem__, batch)]
        except KeyError:  # a chunk that is cut, and counted each time
            return [known.get(text) or self._in_chunks(text) for text in batch]

    def _learn(self, batch: Sequence[str]) -> None:
        """Segment the chunks of a batch that are not known."""
        if self._size > _KEPT:
            self._known.clear()
            self._size = 0
        new = [text for text in dict.fromkeys(batch) if text not in self._known]
        if words := self._all_at_once(new):
            self._known.update(zip(new, words, strict=True))
        else:
            pairs = zip(new, map(self._answer, new), strict=True)
            self._known.update((text, answer) for text, answer in pairs if answer is not None)
        self._size += sum(map(len, new))
        if _work(new) > (1 - _WORTH_IT) * _work(batch):
            self._unseen = _UNSEEN

    def _all_at_once(self, texts: Sequence[str]) -> list[str] | None:
        """The words of chunks, after one quick check for all; None if one needs a closer look."""
        if not texts or max(map(len, texts)) > LONGEST:
            return None
        try:
            return self._engine.words(texts)
        except UnicodeError:
            return None

    def _answer(self, text: str) -> str | None:
        """MeCab's words, or None if it cannot be asked, or they are not the text, as after a NUL."""
        if len(text) > LONGEST:
            return None
        try:
            words: str = self._engine.parse(text)
        except UnicodeError:  # lone surrogates in, a broken character out
            return None
        return words if words.replace(" ", "") == text else None

    def _in_chunks(self, text: str) -> str:
        """The words of a chunk that MeCab cannot be asked for as a whole."""
        return " ".join(self._words_of_chunks(text))

    def _words_of_chunks(self, text: str) -> Iterator[str]:
        from kit.corpus.segmenters.chunking import chunks  # few texts need its tables

        for piece, reason in chunks(text, LONGEST, LONGEST_RUN):
            words = None if reason else self._answer(piece)
            if words is None:
                self.unsegmented[reason or "changed"] += 1
            yield piece if words is None else words


def _work(texts: Sequence[str]) -> int:
    """What it takes to ask for chunks, in characters."""
    return sum(map(len, texts)) + _PER_CHUNK * len(texts)


class _Engine:
    """MeCab, and the compiled code once it is worth while."""

    def __init__(self, dictionary: Path) -> None:
        self._dictionary = dictionary
        self._asked = 0  # characters
        self._lattice: Lattice | None = None

    def words(self, texts: Sequence[str]) -> list[str] | None:
        """The words of chunks of at most `LONGEST` characters; None if they are not the text of each.

        Raises UnicodeError.
        """
        before, self._asked = self._asked, self._asked + sum(map(len, texts))
        if before <= _LOADING < self._asked:
            self._lattice = self._opened(machine_code.cached)
        if before <= _COMPILING < self._asked and self._lattice is None:
            self._lattice = self._opened(machine_code.function)
        if self._lattice is None:
            return self._parsed(texts)
        words = self._lattice.words(texts)
        left = [number for number, found in enumerate(words) if not found and texts[number]]
        if left:
            parsed = self._parsed([texts[number] for number in left])
            if parsed is None:
                return None
            for number, found in zip(left, parsed, strict=True):
                words[number] = found
        return words

    def _parsed(self, texts: Sequence[str]) -> list[str] | None:
        words = [*map(self.parse, texts)]
        # Chunks have no line feeds, so equal texts are equal line by line.
        return words if "\n".join(words).replace(" ", "") == "\n".join(texts) else None

    @functools.cached_property
    def parse(self) -> Callable[[str], str]:
        """MeCab's function."""
        import fugashi

        arguments = f"-Owakati -r /dev/null -d {shlex.quote(str(self._dictionary))}"
        parse: Callable[[str], str] = fugashi.GenericTagger(arguments).parse
        return parse

    def _opened(self, load: Callable[[str, str], Callable[..., int] | None]) -> Lattice | None:
        """The compiled code; None if `load` has none, or the dictionary is of another format."""
        from kit.corpus.segmenters import dictionary, lattice

        try:
            found, segment = dictionary.read(self._dictionary), load(_SEARCH, "segment")
        except machine_code.NotCompiled as error:
            log.warning(f"{error}: MeCab searches for words itself, in twice the time")
            return None
        return lattice.Lattice(found, segment, LONGEST) if found and segment else None


_engine = functools.cache(_Engine)
