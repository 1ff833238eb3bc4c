"""The first pass over near-duplicates: the MinHash signature of every document of a unit."""

from __future__ import annotations

import contextlib
import functools
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.cluster import Cluster
from kit.config.defaults import NonDefaults
from kit.config.recipe import Corpus, Recipe
from kit.config.section import read_resolved
from kit.corpus import documents
from kit.corpus.bad_input import BadInput
from kit.data import near_duplicates, shards
from kit.store import manifest
from kit.store.files import atomic
from kit.store.paths import Workspace
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np

    from kit.config.filters import NearDuplicates
    from kit.store.paths import Run
    from kit.store.records import Piece

    Array = np.ndarray[Any, Any]

VERSION = 1  # raise when the same documents give other signatures
_CAUSES = {"mode", "on_bad_input", "wikipedia"}  # keys that decide which documents there are
_BATCH = 1 << 18  # characters that a segmenter is given at a time


def units(_: Run, recipe: Recipe, workers: int = 1) -> list[Unit]:
    """One unit per piece of the raw text; `workers` processes segment its words, if need be.

    Raises StageError until the download is complete.
    """
    workspace = Workspace(Path(recipe.workspace))
    section = _section(recipe)
    return [
        Unit(
            piece["name"],
            workspace.signatures(piece["name"]),
            manifest.causes("signatures", VERSION, section, shards.piece_causes(piece)),
            functools.partial(_make, recipe, piece, workers),
        )
        for piece in shards.pieces(recipe)
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    workers = read_resolved(run.cluster, Cluster).arrays.cpus
    all_units = units(run, read_resolved(run.recipe, Recipe), workers)
    make_units("signatures", all_units, task, tasks)


def hashes(texts: Iterable[str], rule: NearDuplicates) -> Iterator[Array]:
    """Yield the hash of each band, uint64 [bands], of texts of units joined by spaces.

    A text with fewer units than an n-gram has none.
    """
    import numpy as np

    from kit.corpus.dedup import minhash
    from kit.store import numba_cache

    permutations = minhash.permutations(rule.bands * rule.rows)
    for text in texts:
        codes = np.frombuffer(text.encode(), np.uint8)
        yield minhash.band_hashes(codes, rule.ngram, *permutations, rule.bands)
    numba_cache.publish(Path(minhash.__file__))


def _section(recipe: Recipe) -> NonDefaults:
    rule, corpus = near_duplicates.rule(recipe), recipe.corpus
    also: dict[str, Any] = {"near_duplicates": rule.model_dump(mode="json")}
    if rule.unit == "words":
        also["words"] = [corpus.segmenter, corpus.segmenter_version]
    return NonDefaults(corpus, frozenset(Corpus.model_fields.keys() - _CAUSES), also)


def _make(recipe: Recipe, piece: Piece, workers: int, folder: Path) -> Mapping[str, Any]:
    import numpy as np

    corpus, rule = recipe.corpus, near_duplicates.rule(recipe)
    bad_input = BadInput(corpus.on_bad_input)
    lengths, signed, row = array("I"), array("I"), bytearray()

    def texts() -> Iterator[str]:
        for lines in documents.read(piece, bad_input, corpus.mode, corpus.wikipedia):
            text = "\n".join(lines)
            lengths.append(len(text))
            yield text

    with contextlib.ExitStack() as stack:
        for document, found in enumerate(hashes(_of_units(texts(), corpus, workers, stack), rule)):
            if len(found):
                signed.append(document)
                row += found.tobytes()
    table = np.frombuffer(row, "<u8").reshape(-1, rule.bands)
    sizes = _write(
        folder, table, np.frombuffer(signed, np.uint32), np.frombuffer(lengths, np.uint32)
    )
    faults = dict(sorted(bad_input.counts.items()))
    return {"documents": len(lengths), "bands": sizes, "faults": faults}


def _of_units(
    texts: Iterator[str], corpus: Corpus, workers: int, stack: contextlib.ExitStack
) -> Iterator[str]:
    """The texts as units joined by spaces: characters, or the words of the corpus's segmenter."""
    from kit.corpus.dedup import ngrams

    rule = corpus.filters.near_duplicates
    if rule is None or rule.unit == "characters":
        return map(ngrams.characters, texts)
    from kit.corpus import segment

    words = stack.enter_context(segment.open(corpus.segmenter, corpus.segmenter_version, workers))
    return _words(texts, words)


def _words(texts: Iterator[str], words: Any) -> Iterator[str]:
    from collections import deque

    from kit.corpus.dedup import ngrams

    waiting: deque[list[int]] = deque()

    def batches() -> Iterator[list[str]]:
        for batch in shards.batches(([text] for text in texts), _BATCH):
            chunks = [ngrams.simplified(text).split() for (text,) in batch]
            waiting.append([len(row) for row in chunks])
            yield [chunk for row in chunks for chunk in row]

    for answers in words.stream(batches()):
        first = 0
        for count in waiting.popleft():
            joined = " ".join(answers[first : first + count])
            yield " ".join(ngrams.unmarked(joined).split())
            first += count


def _write(folder: Path, table: Array, documents: Array, lengths: Array) -> list[int]:
    """Write the files of a unit; returns the number of different hashes in each band."""
    import numpy as np

    from kit.corpus.dedup.pairs import repeated

    pairs = [np.zeros((0, 2), "<u4")]
    sizes = []
    with (
        atomic(folder / near_duplicates.HASHES) as hash_file,
        atomic(folder / near_duplicates.FIRST) as first_file,
    ):
        for column in table.T:
            order = np.argsort(column, kind="stable")
            values, ordered = column[order], documents[order]
            first, repeats = repeated(values, ordered)
            hash_file.write(values[first].tobytes())
            first_file.write(ordered[first].tobytes())
            pairs.append(repeats)
            sizes.append(len(first))
    with atomic(folder / near_duplicates.WITHIN) as out:
        out.write(np.unique(np.concatenate(pairs), axis=0).tobytes())
    with atomic(folder / near_duplicates.LENGTHS) as out:
        out.write(lengths.tobytes())
    return sizes
