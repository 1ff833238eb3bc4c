"""Reading and writing shards of documents, and the marks that make a shard lossless.

A shard is zstd-compressed UTF-8: one sentence per line, words separated by a space, and an empty line after
each document. A space of the original text becomes `SPACE` before the next word, the end of an original
line becomes the word `LINE_END`. Tokenizers that encode spaces get `BOUNDARY` between words. Normalisation
removes these three marks from the original text.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kit.config import relocation
from kit.config.defaults import NonDefaults
from kit.data import duplicates, near_duplicates, removal, url_lists, word_lists
from kit.errors import InputError, StageError
from kit.store import look, manifest
from kit.store.files import zstd_reader, zstd_writer
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from kit.config.recipe import Recipe
    from kit.store.records import Causes, Piece

    Lines = TypeVar("Lines", bound=Sequence[str])

VERSION = 6  # raise when the same documents give other bytes: a golden test watches
_NOT_A_CAUSE = frozenset({"sources", "downloads", "unit_mb", "tasks"})  # of a shard's bytes
_CAUSES_OF_PIECE = ("kind", "xxh3", "start", "end", "header_end", "title", "text_key")

SPACE = "▁"  # U+2581
LINE_END = "␤"  # U+2424
BOUNDARY = "\u2063"  # between words, for tokenizers that encode spaces
MARKS = (SPACE, LINE_END, BOUNDARY)
TRAIN, HELD_OUT = "train", "held-out"
PARTS = (TRAIN, HELD_OUT)
_BLOCK = 1 << 20  # characters


@dataclass(frozen=True)
class Shard:
    """The folder of a unit's documents, the piece of raw text it is made from, and its causes."""

    name: str
    folder: Path
    piece: Piece
    causes: Causes


def expected(recipe: Recipe) -> list[Shard]:
    """The shards of a recipe, whether made or not, in corpus order: one for each piece of raw text.

    Raises StageError before the download is complete.
    """
    return look.remember_of(recipe, "shards", lambda: _expected(recipe))


def _expected(recipe: Recipe) -> list[Shard]:
    workspace = Workspace(Path(recipe.workspace))
    raw = pieces(recipe)
    inputs: list[dict[str, Any]] = [piece_causes(piece) for piece in raw]
    if recipe.corpus.filters.duplicates:
        lists = duplicates.lists(recipe, [piece["name"] for piece in raw])
        for made_from, digest in zip(inputs, duplicates.digests(lists, len(raw)), strict=True):
            made_from["duplicates"] = digest
    if recipe.corpus.filters.near_duplicates is not None:
        removed = [near_duplicates.removed(recipe)]
        for made_from, digest in zip(inputs, duplicates.digests(removed, len(raw)), strict=True):
            made_from["near_duplicates"] = digest
    if recipe.corpus.filters.words:
        hashes = word_lists.fingerprints(recipe.corpus.filters)
        for made_from in inputs:
            made_from["words"] = hashes
    if named := _named(recipe):
        for made_from in inputs:
            made_from["named"] = named
    corpus = section(recipe)  # once for all shards
    return [
        Shard(
            piece["name"],
            workspace.shard(piece["name"]),
            piece,
            manifest.causes("preprocess", VERSION, corpus, made_from),
        )
        for piece, made_from in zip(raw, inputs, strict=True)
    ]


def section(recipe: Recipe) -> NonDefaults:
    """The part of the recipe that decides the bytes of shards.

    A list of words or URLs, or the documents to remove, count by their content, which is an input, not by
    their paths.
    """
    corpus = recipe.corpus
    lists: dict[str, dict[str, Any]] = {"words": corpus.filters.words, "urls": corpus.filters.urls}
    blank = {
        key: {name: rule.model_copy(update={"file": ""}) for name, rule in rules.items()}
        for key, rules in lists.items()
    }
    remove = None if corpus.remove is None else ""
    changes = {"filters": corpus.filters.model_copy(update=blank), "remove": remove}
    return NonDefaults(corpus.model_copy(update=changes), _NOT_A_CAUSE)


def _named(recipe: Recipe) -> dict[str, Any]:
    """What leaves documents out by URL or id, and the keys that hold these; empty if nothing does."""
    corpus, found = recipe.corpus, dict[str, Any]()
    if corpus.remove is not None:
        found["remove"] = removal.fingerprint(corpus)
    if corpus.filters.urls:
        found["urls"] = url_lists.fingerprints(corpus.filters)
    if found:
        keys = {name: (source.url_key, source.id_key) for name, source in corpus.sources.items()}
        found["keys"] = {name: list(pair) for name, pair in sorted(keys.items()) if any(pair)}
    return found


def pieces(recipe: Recipe) -> list[Piece]:
    """The pieces of raw text, in corpus order, as described by kit/corpus/download.py.

    Raises StageError before the download is complete.
    """
    workspace, downloads = Workspace(Path(recipe.workspace)), recipe.corpus.downloads
    return [
        piece
        for name, source in sorted(recipe.corpus.sources.items())
        for folder in [workspace.raw(name)]
        for piece in relocation.pieces(
            manifest.read(folder, "jobs.download"), folder, source.location, downloads
        )
    ]


def piece_causes(piece: Piece) -> dict[str, Any]:
    """The facts of a piece that decide its documents."""
    values: Mapping[str, Any] = piece
    return {piece["name"]: {key: values[key] for key in _CAUSES_OF_PIECE if key in values}}


def complete(recipe: Recipe) -> list[Shard]:
    """The shards of a recipe, all of which must be done. Raises StageError if one is not."""
    return look.remember_of(recipe, "complete shards", lambda: _complete(recipe))


def _complete(recipe: Recipe) -> list[Shard]:
    shards = expected(recipe)
    for shard in shards:
        state = manifest.state(shard.folder, shard.causes)
        if state != "done":
            raise StageError(f"{shard.folder}: {state}; run ekiden preprocess first")
    return shards


def part_file(folder: Path, part: str) -> Path:
    """The file of one part (`TRAIN` or `HELD_OUT`) of a shard."""
    return folder / f"{part}.txt.zst"


@contextlib.contextmanager
def writer(path: Path) -> Iterator[Callable[..., None]]:
    """Yields a function that appends documents: segmented sentences, each ended by a line feed."""
    with zstd_writer(path) as stream:

        def add(*documents: str) -> None:
            stream.write("\n".join([*documents, ""]))

        yield add


def document(sentences: Iterable[str]) -> str:
    """Join segmented sentences to a document for `writer`."""
    return "".join(f"{sentence}\n" for sentence in sentences)


def texts(path: Path) -> Iterator[str]:
    """The documents of a shard as given to `writer`: sentences, each ended by a line feed.

    Raises InputError if the last document is incomplete.
    """
    parts: list[str] = []  # of the current document, which may have begun in an earlier block
    with zstd_reader(path) as stream:
        while block := stream.read(_BLOCK) + stream.readline():  # whole lines
            start = 0
            while start < len(block):
                if not block.startswith("\n", start):
                    end = block.find("\n\n", start) + 1
                    if end == 0:
                        parts.append(block[start:])
                        break
                    parts.append(block[start:end])
                    start = end
                yield "".join(parts)  # at `start` is the empty line that ends it
                parts.clear()
                start += 1
    if parts:
        raise InputError(f"{path}: its last document is incomplete; run ekiden preprocess again")


def read(path: Path) -> Iterator[list[str]]:
    """The documents of a shard, each a list of segmented sentences. Raises InputError as `texts` does."""
    for text in texts(path):
        yield text.split("\n")[:-1]


def batches(documents: Iterable[Lines], characters: int) -> Iterator[list[Lines]]:
    """Group documents, each a sequence of lines, into batches of at least this many characters."""
    batch: list[Lines] = []
    size = 0
    for lines in documents:
        batch.append(lines)
        size += sum(map(len, lines))
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def plain_text(sentences: Sequence[str]) -> str:
    """Restore the original text from segmented sentences."""
    text = "".join(sentence.replace(" ", "") for sentence in sentences)
    return text.replace(SPACE, " ").replace(LINE_END, "\n")
