"""The history of a document: from its position in a shard back to its source, and the text after each step.

    found = history.read(recipe, "news-00000", 3)
    found.url, found.license, found.raw

Nothing is stored for it: the piece of raw text that a shard is made from is read again, up to the
document, with the steps that made the shard. Sentences and words are those of the shard.
"""

from __future__ import annotations

import contextlib
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.corpus import documents, identity
from kit.corpus.bad_input import BadInput
from kit.corpus.exclusion import Exclusion
from kit.corpus.preprocess import is_held_out, repeated
from kit.corpus.steps import Steps, prepared
from kit.data import shards
from kit.errors import ConfigError, InputError, StageError
from kit.output import quantities
from kit.output.progress import progress_bar
from kit.store import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.config.recipe import Recipe
    from kit.corpus.steps import Document
    from kit.data.shards import Shard


@dataclass(frozen=True)
class History:
    """A document of a shard, its source, and its text after each step."""

    shard: str
    part: str  # shards.TRAIN or HELD_OUT
    document: int  # counted from 0 in the part
    documents: int  # of the part
    source: str
    kind: str
    file: str
    raw_document: int  # counted from 0 in the piece of the file
    license: str | None
    url: str | None
    id: str | None
    hash: str  # of the raw lines, 16 hexadecimal digits, for corpus.remove
    raw: list[str]  # lines
    normalised: list[str]  # lines
    sentences: list[str]
    words: list[str]  # the sentences as the shard has them


def read(recipe: Recipe, name: str, number: int, part: str = shards.TRAIN) -> History:
    """The history of document `number`, counted from 0, in one part of the shard `name`.

    Raises ConfigError if there is no such document, StageError unless the shard is done, InputError if the
    raw text is missing, has changed, or does not give the document of the shard.
    """
    index, shard = _shard(recipe, name)
    count = _count(shard, number, part)
    words = _nth(shards.read(shards.part_file(shard.folder, part)), number)
    raw_number, document = _remade(recipe, index, shard, number, part)
    sentences = [shards.plain_text([sentence]).removesuffix("\n") for sentence in words]
    _check(shard, number, document, words)
    piece, names = shard.piece, identity.of(document.raw)
    return History(
        shard=shard.name,
        part=part,
        document=number,
        documents=count,
        source=piece["source"],
        kind=piece["kind"],
        file=piece["path"],
        raw_document=raw_number,
        license=recipe.corpus.sources[piece["source"]].license,
        url=names.url,
        id=None if names.id is None else f"{piece['source']}:{names.id}",
        hash=f"{document.key:016x}",
        raw=list(document.raw),
        normalised=document.lines,
        sentences=sentences,
        words=words,
    )


def _shard(recipe: Recipe, name: str) -> tuple[int, Shard]:
    """A shard that is done, with its number in the corpus."""
    expected = shards.expected(recipe)
    for index, shard in enumerate(expected):
        if shard.name == name:
            state = manifest.state(shard.folder, shard.causes)
            if state != "done":
                raise StageError(f"{shard.folder}: {state}; run ekiden preprocess first")
            return index, shard
    names = [shard.name for shard in expected]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"they are {names[0]} to {names[-1]}"
    raise ConfigError(f"shard {name!r:.80}: there is none of this name; {hint}")


def _count(shard: Shard, number: int, part: str) -> int:
    """The number of documents in a part. Raises ConfigError unless `number` is one of them."""
    if part not in shards.PARTS:
        raise ConfigError(f"--part {part}: the parts are {' and '.join(shards.PARTS)}")
    counts = manifest.read(shard.folder, "jobs.preprocess")["counts"][part]
    count: int = counts.get("documents", 0)
    if not 0 <= number < count:
        remedy = f"give 0 to {count - 1}" if count else "name another shard or part"
        raise ConfigError(
            f"document {number}: {shard.name} has {quantities.count(count, 'document')} in {part}; {remedy}"
        )
    return count


def _remade(
    recipe: Recipe, index: int, shard: Shard, number: int, part: str
) -> tuple[int, Document]:
    """A document of a part, made again from the raw text, with its number in the piece."""
    corpus, piece = recipe.corpus, shard.piece
    source = corpus.sources[piece["source"]]
    steps = Steps(corpus, repeated(recipe, index), Exclusion(corpus, piece["source"]))
    raw = documents.read(
        piece,
        BadInput(corpus.on_bad_input),
        corpus.mode,
        corpus.wikipedia,
        keys=identity.keys(source),
    )
    position = 0
    with contextlib.closing(raw), progress_bar(shard.name, number, "document") as advance:
        for raw_number, document in enumerate(prepared(raw, steps)):
            held_out = is_held_out(document.key, corpus.held_out)
            if document.left_out is None and held_out == (part == shards.HELD_OUT):
                if position == number:
                    return raw_number, document
                position += 1
                advance(position)
    raise _other(shard, number)


def _check(shard: Shard, number: int, document: Document, words: list[str]) -> None:
    """Raise InputError unless the shard has the text that was made again, white space aside."""
    made, kept = "".join(document.lines), shards.plain_text(words)
    if "".join(made.split()) != "".join(kept.split()):
        raise _other(shard, number)


def _other(shard: Shard, number: int) -> InputError:
    return InputError(
        f"{shard.folder}: document {number} differs from what its raw text gives here; run "
        "ekiden preprocess with --verify, with the packages that made the shard"
    )


def _nth(found: Iterator[list[str]], number: int) -> list[str]:
    for position, words in enumerate(found):
        if position == number:
            return words
    raise AssertionError("the manifest counts the documents of the shard")
