"""Token files, and the order in which training reads them.

A token file is little-endian uint16 (uint32 for vocabularies above 65,535) without a header; beside
it stands a file of uint64 offsets, one for each document's first token. Training sees the files of
all units as one row of tokens, cut into blocks; sample g is block feistel(g // N)(g mod N) of N.
"""

from __future__ import annotations

import bisect
import itertools
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kit.config.defaults import NonDefaults
from kit.data import shards
from kit.errors import InputError, StageError
from kit.store import manifest
from kit.store.files import atomic, read_json, text_hash
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kit.config.recipe import Recipe, Training
    from kit.store.records import Causes

TOKENIZER_VERSION = 3  # raise when the same shards come to give other words or another tokenizer
VERSION = 2  # raise when the same shards and tokenizer come to give other bytes

_NO_CAUSE = frozenset({"tasks", "count_mb"})  # of the tokenizer's bytes
_ROUNDS = 4  # Luby and Rackoff (1988): four rounds of a random function are a random permutation


@dataclass(frozen=True)
class TokenUnit:
    """The folder of one unit's tokens, the shard they are made from, and their causes."""

    shard: shards.Shard
    folder: Path
    causes: Causes


@dataclass(frozen=True)
class TokenizerInfo:
    """What a run has to know of its tokenizer: the number of entries, and the ids of `<s>` and `</s>`."""

    size: int
    begin: int
    end: int


def tokenizer_info(recipe: Recipe) -> TokenizerInfo:
    """That of the workspace's tokenizer. Raises StageError where there is none."""
    folder = Workspace(Path(recipe.workspace)).tokenizer
    facts = manifest.read(folder, "jobs.tokenizer").get("vocabulary")
    if facts is None:
        raise StageError(f"{folder}: made by an older version; run jobs.tokenizer again")
    return TokenizerInfo(**facts)


def tokenizer_causes(recipe: Recipe) -> Causes:
    """What the tokenizer of a recipe is made from. Raises StageError while a shard is missing."""
    made = shards.complete(recipe)
    inputs = {shard.name: manifest.fingerprint(shard.folder, "jobs.preprocess") for shard in made}
    if (name := picked(recipe)) is not None:
        inputs["pick"] = name
    return manifest.causes("tokenizer", TOKENIZER_VERSION, tokenizer_section(recipe), inputs)


def tokenizer_section(recipe: Recipe) -> NonDefaults:
    """What of the recipe decides the tokenizer's bytes."""
    return NonDefaults(recipe.tokenizer, _NO_CAUSE)


def picked(recipe: Recipe) -> str | None:
    """The candidate that a user has picked to be the tokenizer, if one has. Raises StageError."""
    path = Workspace(Path(recipe.workspace)).pick
    if not path.is_file():
        return None
    try:
        return str(read_json(path)["candidate"])
    except (ValueError, KeyError, TypeError):
        raise StageError(
            f"{path}: damaged; remove it, and pick again with jobs.tokenizer run --pick"
        ) from None


def expected(recipe: Recipe) -> list[TokenUnit]:
    """The token folders of a recipe, made or not, in the order of the corpus.

    Raises StageError while a shard or the tokenizer is missing, or where the tokenizer's files are
    not those that were made.
    """
    workspace = Workspace(Path(recipe.workspace))
    made = shards.complete(recipe)
    _check_tokenizer(workspace.tokenizer, tokenizer_causes(recipe))
    tokenizer = manifest.fingerprint(workspace.tokenizer, "jobs.tokenizer")
    found = []
    for shard in made:
        text = manifest.fingerprint(shard.folder, "jobs.preprocess")
        causes = manifest.causes(
            "tokenize", VERSION, {}, {"tokenizer": tokenizer, shard.name: text}
        )
        found.append(TokenUnit(shard, workspace.tokens(shard.name), causes))
    return found


def complete(recipe: Recipe) -> list[TokenUnit]:
    """The same, all made; raises StageError where one is not."""
    found = expected(recipe)
    for unit in found:
        state = manifest.state(unit.folder, unit.causes)
        if state != "done":
            other = (
                state == "stale"
                and _tokenizer_of(unit.folder) != unit.causes["inputs"]["tokenizer"]
            )
            what = "made with another tokenizer than the workspace holds now" if other else state
            raise StageError(f"{unit.folder}: {what}; run jobs.tokenize first")
    return found


def fingerprint(units: Iterable[TokenUnit]) -> str:
    """One string for all token files of a corpus, which a run keeps to from start to end."""
    return combined(manifest.fingerprint(unit.folder, "jobs.tokenize") for unit in units)


def combined(fingerprints: Iterable[str]) -> str:
    """The same from the fingerprints of the units."""
    return f"{text_hash(' '.join(fingerprints)):016x}"


def token_file(folder: Path, part: str) -> Path:
    """The tokens of one part of a unit."""
    return folder / f"{part}.tokens"


def dtype_for(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """The type of a token on disk."""
    return np.dtype("<u2") if vocab_size <= 65_535 else np.dtype("<u4")


def offsets_file(path: Path) -> Path:
    """The offsets beside a token file."""
    return path.with_suffix(".offsets")


def write(path: Path, documents: Iterable[bytes], dtype: np.dtype[np.unsignedinteger]) -> int:
    """Write documents of packed tokens to `path`, and their offsets beside it.

    Returns the number of tokens.
    """
    starts, size = array("Q"), 0
    with atomic(path) as stream:
        for packed in documents:
            stream.write(packed)
            starts.append(size)
            size += len(packed)
    with atomic(offsets_file(path)) as stream:
        stream.write((np.array(starts, "<u8") // dtype.itemsize).tobytes())
    return size // dtype.itemsize


class TokenLocation(NamedTuple):
    """Where a token of a row stands: its file, and the document in it, counted from 0."""

    file: Path
    document: int


@dataclass(frozen=True)
class TokenStream:
    """The token files of all units, in their order, as one row."""

    files: tuple[np.ndarray, ...]
    starts: tuple[int, ...]  # the position of each file's first token, then the length of the row
    paths: tuple[Path, ...] = ()  # of the files, where documents are asked for

    def __len__(self) -> int:
        return self.starts[-1]

    def slice(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int64, shape [stop - start]; the row may be shorter."""
        found = np.empty(max(0, min(stop, len(self)) - start), np.int64)
        at = bisect.bisect_right(self.starts, start) - 1
        done = 0
        while done < len(found):
            first = start + done - self.starts[at]
            part = self.files[at][first : first + len(found) - done]
            found[done : done + len(part)] = part  # one copy, out of the map
            done += len(part)
            at += 1
        return found

    def locate(self, position: int) -> TokenLocation:
        """Where the token at a position stands, by the offsets beside its file.

        Raises InputError where they do not belong to the file.
        """
        assert 0 <= position < len(self)
        at = bisect.bisect_right(self.starts, position) - 1
        path = self.paths[at]
        offsets = np.fromfile(offsets_file(path), "<u8")
        document = int(np.searchsorted(offsets, position - self.starts[at], side="right")) - 1
        if document < 0 or offsets[-1] >= len(self.files[at]):
            raise InputError(f"{offsets_file(path)}: damaged; run jobs.tokenize again")
        return TokenLocation(path, document)

    def blocks(self, length: int) -> int:
        """The number of whole blocks of `length` tokens that have a token after them."""
        return max(0, (len(self) - 1) // length)

    def block(self, index: int, length: int) -> np.ndarray:
        """Block `index` and the token after it, shape [length + 1]."""
        return self.slice(index * length, (index + 1) * length + 1)


def open_part(units: Iterable[TokenUnit], part: str, recipe: Recipe) -> TokenStream:
    """One part (`shards.TRAIN` or `HELD_OUT`) of a corpus's tokens as one row."""
    paths = [token_file(unit.folder, part) for unit in units]
    return open_stream(paths, dtype_for(tokenizer_info(recipe).size))


def open_stream(paths: Iterable[Path], dtype: np.dtype[np.unsignedinteger]) -> TokenStream:
    """Map token files into memory. Raises InputError for a file that is no row of whole tokens."""
    files: dict[Path, np.ndarray] = {}
    for path in paths:
        size = path.stat().st_size
        if size % dtype.itemsize:
            raise InputError(f"{path}: {size} bytes are no whole tokens; run jobs.tokenize again")
        if size:
            # A plain array over the map: slicing the subclass costs as much as a block.
            files[path] = np.asarray(np.memmap(path, dtype=dtype, mode="r"))
    starts = (0, *itertools.accumulate(map(len, files.values())))
    return TokenStream(tuple(files.values()), starts, tuple(files))


def ends(recipe: Recipe) -> Callable[[Training], int]:
    """Of other settings over the recipe's tokens: the last step, as `steps_over` has it."""
    return lambda training: steps_over(recipe.model_copy(update={"training": training}))


def steps_over(recipe: Recipe) -> int:
    """The run's last step. Raises StageError where it depends on tokens that are not there."""
    if recipe.training.steps is not None:
        return recipe.training.steps
    row = open_part(complete(recipe), shards.TRAIN, recipe)
    return recipe.training.steps_over(row.blocks(recipe.model.n_positions))


def sample_block(sample: int, blocks: int, seed: int) -> int:
    """The block that sample number `sample` of a run is.

    A Feistel network over the smallest even number of bits that holds `blocks`, walking on while
    the value falls outside (Black and Rogaway 2002); each epoch has its own permutation. Costs the
    same at any sample.
    """
    assert sample >= 0
    assert blocks > 0
    epoch, value = divmod(sample, blocks)
    half = max(1, ((blocks - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = value >> half, value & mask
        for step in range(_ROUNDS):
            key = text_hash(f"{seed}.{epoch}.{step}.{right}")
            left, right = right, left ^ (key & mask)
        value = (left << half) | right
        if value < blocks:
            return value


def _check_tokenizer(folder: Path, causes: Mapping[str, Any]) -> None:
    state = manifest.state(folder, causes)
    if state in ("missing", "stale"):
        raise StageError(f"{folder}: {state}; run jobs.tokenizer first")
    manifest.verified(folder, "jobs.tokenizer")


def _tokenizer_of(folder: Path) -> Any:
    """The tokenizer that a folder's tokens were made with, as its manifest names it."""
    return manifest.read(folder, "jobs.tokenize")["causes"].get("inputs", {}).get("tokenizer")
