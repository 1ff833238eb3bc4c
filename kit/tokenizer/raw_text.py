"""Raw text, which readers encode without a segmenter, beside the segmented text that training saw.

Normalised text before segmentation is the segmented text without its cuts: `shards.plain_text`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kit.data import shards
from kit.tokenizer.huggingface import END

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tokenizers import Tokenizer

    from kit.tokenizer.word_cache import WordCache

_CHARACTERS = 1_000_000  # of documents encoded together


def equal(tokenizer: Tokenizer, cache: WordCache, sentences: Sequence[str]) -> int:
    """The number of segmented sentences whose raw text gets the same ids."""
    raw = tokenizer.encode_batch_fast(
        [shards.plain_text([sentence]) for sentence in sentences], add_special_tokens=False
    )
    return sum(
        np.array(encoding.ids, cache.dtype).tobytes() == cache.document(sentence)
        for encoding, sentence in zip(raw, sentences, strict=True)
    )


def ids(
    tokenizer: Tokenizer, documents: Iterable[Sequence[str]], dtype: np.dtype[np.unsignedinteger]
) -> Iterator[np.ndarray]:
    """The ids of documents as raw text, each closed by END, in arrays of many documents."""
    end = tokenizer.token_to_id(END)
    for batch in shards.batches(documents, _CHARACTERS):
        texts = [shards.plain_text(sentences) for sentences in batch]
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        yield np.array([one for encoding in encoded for one in (*encoding.ids, end)], dtype)
