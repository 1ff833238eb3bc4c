"""Pairs of documents from equal hashes, and clusters from pairs: pure functions of arrays.

A document is an unsigned integer, its place in the corpus.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def repeated(hashes: Array, documents: Array) -> tuple[Array, Array]:
    """Where a hash differs from the one before it, and pairs, [n, 2], of the others with that first one.

    `hashes` are sorted.
    """
    differs = np.ones(len(hashes), bool)
    differs[1:] = hashes[1:] != hashes[:-1]
    first = np.flatnonzero(differs)
    others = np.flatnonzero(~differs)
    leads = first[np.searchsorted(first, others) - 1]
    return first, np.stack([documents[leads], documents[others]], axis=1)


def clusters(pairs: Array) -> Array:
    """Each document of the pairs, [n, 2], with the first document of its cluster, sorted: [documents, 2].

    A cluster is a connected component. Roots that touch are joined to the smallest, all at once, until
    no pair has two.
    """
    documents, places = np.unique(pairs, return_inverse=True)
    left, right = places.reshape(-1, 2).T
    roots = np.arange(len(documents))
    while len(left):
        left, right = roots[left], roots[right]
        differs = left != right
        left, right = left[differs], right[differs]
        np.minimum.at(roots, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(further := roots[roots], roots):
            roots = further
    return np.stack([documents, documents[roots]], axis=1)


def left_out(found: Array, lengths: Array) -> Array:
    """The documents to leave out, each with the one that stays, sorted: [n, 2].

    `found` is as `clusters` gives it, `lengths` are those of its documents. The longest document of a
    cluster stays, of equally long ones the first.
    """
    documents, leads = found.T
    order = np.lexsort((documents, -lengths.astype(np.int64), leads))
    _, rest = repeated(leads[order], documents[order])
    return rest[np.argsort(rest[:, 1])][:, ::-1]
