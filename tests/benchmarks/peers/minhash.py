"""datatrove's MinHash deduplication over n-grams of characters, in one process.

datatrove has no tokenizer of characters: it is given one.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from datatrove.data import Document
from datatrove.pipeline.dedup import minhash

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class _Characters:
    def word_tokenize(self, text: str) -> list[str]:
        return [letter for letter in text if not letter.isspace()]


def clusters(texts: Sequence[str], folder: Path) -> list[list[int]]:
    """The documents of each cluster of two or more, by number; `folder` takes the files between."""
    minhash.load_word_tokenizer = lambda _: _Characters()
    config = minhash.MinhashConfig(n_grams=5, num_buckets=20, hashes_per_bucket=10)
    signatures, pairs, found = (str(folder / name) for name in ("signatures", "pairs", "found"))
    documents = (Document(text=text, id=str(number)) for number, text in enumerate(texts))
    minhash.MinhashDedupSignature(signatures, config).run(documents)
    for bucket in range(config.num_buckets):
        minhash.MinhashDedupBuckets(signatures, pairs, config=config).run(None, bucket, 20)
    cluster = minhash.MinhashDedupCluster(pairs, found, config=config, save_cluster_id=True)
    cluster.run(None, 0, 1)
    members: dict[int, list[int]] = {}
    for path in folder.glob("found/*.clusters"):
        for document, number in struct.iter_unpack("<2I", path.read_bytes()):
            members.setdefault(number, []).append(document)
    return sorted(members.values())
