"""Documents in and out of shards, and the marks that keep a shard lossless.

A shard is zstd-compressed UTF-8: one sentence a line, an empty line closes a document, a space
stands between words. A space of the text itself is `SPACE` before the word that follows it, the end
of a source line is the word `LINE_END`. For a tokenizer, to which a space is a space, `BOUNDARY` stands
between words. Normalisation takes the three marks out of the text beforehand.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kit.config import relocation
from kit.config.defaults import NonDefaults
from kit.data import duplicates
from kit.errors import InputError, StageError
from kit.store import manifest
from kit.store.files import zstd_reader, zstd_writer
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from kit.config.recipe import Recipe
    from kit.store.records import Causes, Piece

    Lines = TypeVar("Lines", bound=Sequence[str])

VERSION = 4  # raise when the same documents come to give other bytes: a golden test watches
_NO_CAUSE = frozenset({"sources", "downloads", "unit_mb", "tasks"})  # of a shard's bytes
_DECIDES = ("kind", "xxh3", "start", "end", "header_end", "title", "text_key")

SPACE = "▁"  # U+2581
LINE_END = "␤"  # U+2424
BOUNDARY = "\u2063"  # in place of the space between words, where a space is a space
MARKS = (SPACE, LINE_END, BOUNDARY)
TRAIN, HELD_OUT = "train", "held-out"
PARTS = (TRAIN, HELD_OUT)
_BLOCK = 1 << 20  # characters


@dataclass(frozen=True)
class Shard:
    """The folder of one unit's documents, the piece of raw text it is made from, and its causes."""

    name: str
    folder: Path
    piece: Piece
    causes: Causes


def expected(recipe: Recipe) -> list[Shard]:
    """The shards of a recipe, made or not, in the order of the corpus: one for each raw piece.

    Raises StageError before the download is complete.
    """
    workspace = Workspace(Path(recipe.workspace))
    found = pieces(recipe)
    inputs: list[dict[str, Any]] = [piece_causes(piece) for piece in found]
    if recipe.corpus.filters.duplicates:
        lists = duplicates.lists(recipe, [piece["name"] for piece in found])
        for made_from, digest in zip(inputs, duplicates.digests(lists, len(found)), strict=True):
            made_from["duplicates"] = digest
    corpus = section(recipe)  # once for all shards
    return [
        Shard(
            piece["name"],
            workspace.shard(piece["name"]),
            piece,
            manifest.causes("preprocess", VERSION, corpus, made_from),
        )
        for piece, made_from in zip(found, inputs, strict=True)
    ]


def section(recipe: Recipe) -> NonDefaults:
    """What of the recipe decides the bytes of shards."""
    return NonDefaults(recipe.corpus, _NO_CAUSE)


def pieces(recipe: Recipe) -> list[Piece]:
    """The pieces of raw text, in the order of the corpus: as kit/corpus/download.py describes them.

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
    """What decides the documents of a piece."""
    values: Mapping[str, Any] = piece
    return {piece["name"]: {key: values[key] for key in _DECIDES if key in values}}


def complete(recipe: Recipe) -> list[Shard]:
    """The same, all made; raises StageError where one is not."""
    found = expected(recipe)
    for shard in found:
        state = manifest.state(shard.folder, shard.causes)
        if state != "done":
            raise StageError(f"{shard.folder}: {state}; run jobs.preprocess first")
    return found


def part_file(folder: Path, part: str) -> Path:
    """The shard of one part (`TRAIN` or `HELD_OUT`) of a unit."""
    return folder / f"{part}.txt.zst"


@contextlib.contextmanager
def writer(path: Path) -> Iterator[Callable[[str], None]]:
    """Yields a function that adds one document: its segmented sentences, each closed by a line feed."""
    with zstd_writer(path) as stream:

        def add(document: str) -> None:
            stream.write(f"{document}\n")

        yield add


def document(sentences: Iterable[str]) -> str:
    """A document from its segmented sentences, as `writer` takes it."""
    return "".join(f"{sentence}\n" for sentence in sentences)


def texts(path: Path) -> Iterator[str]:
    """The documents of a shard as they were given to `writer`: sentences, each closed by a line feed.

    Raises InputError where the last document is not closed.
    """
    held: list[str] = []  # of a document that began in a block before
    with zstd_reader(path) as stream:
        while block := stream.read(_BLOCK) + stream.readline():  # whole lines
            at = 0
            while at < len(block):
                if not block.startswith("\n", at):
                    end = block.find("\n\n", at) + 1
                    if end == 0:
                        held.append(block[at:])
                        break
                    held.append(block[at:end])
                    at = end
                yield "".join(held)  # here stands the empty line that closes it
                held.clear()
                at += 1
    if held:
        raise InputError(f"{path}: its last document is not closed; run jobs.preprocess again")


def read(path: Path) -> Iterator[list[str]]:
    """The documents of a shard, each a list of segmented sentences. Raises InputError as `texts`."""
    for text in texts(path):
        yield text.split("\n")[:-1]


def batches(documents: Iterable[Lines], characters: int) -> Iterator[list[Lines]]:
    """Documents, each a row of lines, in batches that end with the one that reaches so many characters."""
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
    """The text of segmented sentences: the inverse of segmentation."""
    text = "".join(sentence.replace(" ", "") for sentence in sentences)
    return text.replace(SPACE, " ").replace(LINE_END, "\n")
