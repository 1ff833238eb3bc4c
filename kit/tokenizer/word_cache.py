r"""A cache from words to token ids: no token crosses a word, so each word is encoded once.

cache = WordCache(tokenizer, "lossless", np.dtype("<u2"))
packed = cache.document("東京 は 広い 。 ␤\n")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kit.data.shards import LINE_END
from kit.tokenizer.huggingface import surface

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenizers import Tokenizer

_CAPACITY = 500_000  # words: 100 MB, since most have only a few characters
_LONGEST = 64  # characters of a cached word: with `_CAPACITY` it bounds the memory
_BATCH = 10_000  # words encoded together: the library needs a kilobyte for each


class WordCache:
    """The packed ids of the words so far; a full cache is cleared."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        spaces: str,
        dtype: np.dtype[np.unsignedinteger],
        capacity: int = _CAPACITY,
    ) -> None:
        """Cache up to `capacity` words of a tokenizer from tokenizer_file.load."""
        self._tokenizer, self._spaces, self.dtype = tokenizer, spaces, dtype
        self._capacity = capacity
        # Always a separate piece; in article mode it would merge with other signs.
        self._mark = tokenizer.token_to_id(LINE_END) if spaces == "lossless" else None
        self._ids: dict[str, bytes] = {}
        self._clear()

    def document(self, text: str) -> bytes:
        """Encode segmented sentences, each closed by a line feed, as packed ids."""
        words = text.replace("\n", " ").split(" ")
        try:
            return b"".join(map(self._ids.__getitem__, words))
        except KeyError:
            fresh = [word for word in set(words) if word not in self._ids]
        self._ids.update(self._encoded(fresh))
        packed = b"".join(map(self._ids.__getitem__, words))
        self._evict(fresh)
        return packed

    def _encoded(self, words: list[str]) -> Iterable[tuple[str, bytes]]:
        for start in range(0, len(words), _BATCH):
            batch = words[start : start + _BATCH]
            yield from zip(batch, self._joined(batch) or self._one_by_one(batch), strict=True)

    def _joined(self, words: Sequence[str]) -> list[bytes] | None:
        """Encode words as one text, at half the cost; returns the packed ids of each.

        A line end after each word separates the ids; None if it is not a token, or occurs in a word.
        """
        if self._mark is None:
            return None
        text = LINE_END.join([*words, ""])
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids = np.array(encoding.ids, self.dtype)
        ends = np.flatnonzero(ids == self._mark)
        if len(ends) != len(words):
            return None
        packed, size = ids.tobytes(), self.dtype.itemsize
        starts = [0, *(ends[:-1] + 1).tolist()]
        return [packed[size * a : size * b] for a, b in zip(starts, ends.tolist(), strict=True)]

    def _one_by_one(self, words: Sequence[str]) -> list[bytes]:
        texts = [surface(word, self._spaces) for word in words]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, self.dtype).tobytes() for encoding in encodings]

    def _evict(self, fresh: list[str]) -> None:
        """Drop the new words that are too long to keep; all words if the cache is over capacity."""
        if len(self._ids) > self._capacity:
            self._clear()
            return
        for word in fresh:
            if len(word) > _LONGEST:
                del self._ids[word]

    def _clear(self) -> None:
        self._ids = {"": b""}  # the empty word between two spaces, and after the last line feed
