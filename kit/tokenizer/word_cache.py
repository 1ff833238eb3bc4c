r"""Words to token ids by looking them up: as no token crosses a word, each is encoded once.

table = Table(tokenizer, "lossless", np.dtype("<u2"))
packed = table.document("東京 は 広い 。 ␤\n")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kit.data.shards import LINE_END
from kit.tokenizer.huggingface import surface

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenizers import Tokenizer

_ROOM = 500_000  # words: 100 MB, as most are of a few characters
_LONGEST = 64  # characters of a word that is kept: with `_ROOM` a bound on all that is
_BATCH = 10_000  # words encoded together: the library holds a kilobyte for each meanwhile


class WordCache:
    """The packed ids of the words met so far; when it is full it is begun anew."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        spaces: str,
        dtype: np.dtype[np.unsignedinteger],
        room: int = _ROOM,
    ) -> None:
        """`tokenizer` as assemble.load gives it; `room` is the number of words that are kept."""
        self._tokenizer, self._spaces, self._dtype, self._room = tokenizer, spaces, dtype, room
        # A piece by itself wherever it stands; in article mode it would cling to other signs.
        self._mark = tokenizer.token_to_id(LINE_END) if spaces == "lossless" else None
        self._known: dict[str, bytes] = {}
        self._begin()

    def document(self, text: str) -> bytes:
        """The packed ids of segmented sentences, each closed by a line feed."""
        words = text.replace("\n", " ").split(" ")
        try:
            return b"".join(map(self._known.__getitem__, words))
        except KeyError:
            fresh = [word for word in set(words) if word not in self._known]
        self._known.update(self._encoded(fresh))
        packed = b"".join(map(self._known.__getitem__, words))
        self._forget(fresh)
        return packed

    def _encoded(self, words: list[str]) -> Iterable[tuple[str, bytes]]:
        for start in range(0, len(words), _BATCH):
            batch = words[start : start + _BATCH]
            yield from zip(batch, self._joined(batch) or self._one_by_one(batch), strict=True)

    def _joined(self, words: Sequence[str]) -> list[bytes] | None:
        """The packed ids of words that are encoded as one text, at half the cost.

        A line end behind each tells where its ids end; None where that is no token, or stands in a word.
        """
        if self._mark is None:
            return None
        text = LINE_END.join([*words, ""])
        (found,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids = np.array(found.ids, self._dtype)
        ends = np.flatnonzero(ids == self._mark)
        if len(ends) != len(words):
            return None
        packed, size = ids.tobytes(), self._dtype.itemsize
        starts = [0, *(ends[:-1] + 1).tolist()]
        return [packed[size * a : size * b] for a, b in zip(starts, ends.tolist(), strict=True)]

    def _one_by_one(self, words: Sequence[str]) -> list[bytes]:
        given = [surface(word, self._spaces) for word in words]
        found = self._tokenizer.encode_batch_fast(given, add_special_tokens=False)
        return [np.array(encoding.ids, self._dtype).tobytes() for encoding in found]

    def _forget(self, fresh: list[str]) -> None:
        """Of the words just met those that are too long to stay; all, where there is no room for them."""
        if len(self._known) > self._room:
            self._begin()
            return
        for word in fresh:
            if len(word) > _LONGEST:
                del self._known[word]

    def _begin(self) -> None:
        self._known = {"": b""}  # what stands between two spaces, and behind the last line feed
