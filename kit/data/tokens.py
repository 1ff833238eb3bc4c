"""Token files, and the order in which training reads them.

A token file is little-endian uint16 (uint32 for vocabularies above 65,535) without a header; a second file
has the offset of each document's first token, as uint64. Training reads the files of all units as one
stream of tokens, cut into blocks; sample g is block feistel(g // N)(g mod N) of N.
"""

from __future__ import annotations

import bisect
import itertools
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kit.config.defaults import NonDefaults
from kit.data import shards
from kit.errors import InputError, StageError
from kit.store import look, manifest, mapped
from kit.store.files import atomic, read_json, text_hash
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np

    from kit.config.recipe import Recipe, Training
    from kit.store.records import Causes

TOKENIZER_VERSION = 3  # raise when the same shards give other words or another tokenizer
VERSION = 2  # raise when the same shards and tokenizer give other bytes

_NOT_A_CAUSE = frozenset({"tasks", "count_mb"})  # of the tokenizer's bytes
_ROUNDS = 4  # Luby and Rackoff (1988): four rounds of a random function are a random permutation


@dataclass(frozen=True)
class TokenUnit:
    """The folder of one unit's tokens, the shard they are made from, and their causes."""

    shard: shards.Shard
    folder: Path
    causes: Causes


@dataclass(frozen=True)
class TokenizerInfo:
    """The size of a vocabulary, and the ids of `<s>` and `</s>`."""

    size: int
    begin: int
    end: int


def tokenizer_info(recipe: Recipe) -> TokenizerInfo:
    """The facts of the workspace's tokenizer. Raises StageError if there is none."""
    folder = Workspace(Path(recipe.workspace)).tokenizer
    facts = manifest.read(folder, "jobs.tokenizer").get("vocabulary")
    if facts is None:
        raise StageError(f"{folder}: made by an older version; run ekiden tokenizer again")
    return TokenizerInfo(**facts)


def tokenizer_causes(recipe: Recipe) -> Causes:
    """The causes of a recipe's tokenizer. Raises StageError if a shard is not done."""
    return look.remember_of(recipe, "causes of the tokenizer", lambda: _tokenizer_causes(recipe))


def _tokenizer_causes(recipe: Recipe) -> Causes:
    inputs = {
        shard.name: manifest.fingerprint(shard.folder, "jobs.preprocess")
        for shard in shards.complete(recipe)
    }
    if (name := picked_candidate(recipe)) is not None:
        inputs["pick"] = name
    return manifest.causes("tokenizer", TOKENIZER_VERSION, tokenizer_section(recipe), inputs)


def tokenizer_section(recipe: Recipe) -> NonDefaults:
    """The part of the recipe that decides the tokenizer's bytes."""
    return NonDefaults(recipe.tokenizer, _NOT_A_CAUSE)


def picked_candidate(recipe: Recipe) -> str | None:
    """The candidate picked by the user with `--pick`, if any. Raises StageError."""
    path = Workspace(Path(recipe.workspace)).pick
    if not path.is_file():
        return None
    try:
        return str(read_json(path)["candidate"])
    except (ValueError, KeyError, TypeError):
        raise StageError(
            f"{path}: damaged; remove it, then pick again with ekiden tokenizer run --pick"
        ) from None


def expected(recipe: Recipe) -> list[TokenUnit]:
    """The token folders of a recipe, whether made or not, in corpus order.

    Raises StageError if a shard or the tokenizer is not done, or if the tokenizer's files have changed.
    """
    workspace = Workspace(Path(recipe.workspace))
    sources = shards.complete(recipe)
    _check_tokenizer(workspace.tokenizer, tokenizer_causes(recipe))
    tokenizer = manifest.fingerprint(workspace.tokenizer, "jobs.tokenizer")
    units = []
    for shard in sources:
        text = manifest.fingerprint(shard.folder, "jobs.preprocess")
        causes = manifest.causes(
            "tokenize", VERSION, {}, {"tokenizer": tokenizer, shard.name: text}
        )
        units.append(TokenUnit(shard, workspace.tokens(shard.name), causes))
    return units


def complete(recipe: Recipe) -> list[TokenUnit]:
    """The token folders of a recipe, all of which must be done. Raises StageError if one is not."""
    units = expected(recipe)
    for unit in units:
        state = manifest.state(unit.folder, unit.causes)
        if state != "done":
            other_tokenizer = (
                state == "stale"
                and _tokenizer_of(unit.folder) != unit.causes["inputs"]["tokenizer"]
            )
            fault = "stale: made with a different tokenizer" if other_tokenizer else state
            raise StageError(f"{unit.folder}: {fault}; run ekiden tokenize first")
    return units


def fingerprint(units: Iterable[TokenUnit]) -> str:
    """One hash of all token files of a corpus, which must not change during a run."""
    return combine_fingerprints(
        manifest.fingerprint(unit.folder, "jobs.tokenize") for unit in units
    )


def combine_fingerprints(fingerprints: Iterable[str]) -> str:
    """One hash of the fingerprints of all units."""
    return f"{text_hash(' '.join(fingerprints)):016x}"


def text_bytes(folders: Iterable[Path], part: str) -> int:
    """The UTF-8 bytes of the text of one part of a corpus; 0 if an older version did not count them.

    Raises StageError if a unit is not done.
    """
    records = (manifest.read(folder, "jobs.tokenize").get("counts", {}) for folder in folders)
    return sum(counts.get(part, {}).get("bytes", 0) for counts in records)


def token_file(folder: Path, part: str) -> Path:
    """The token file of one part of a unit."""
    return folder / f"{part}.tokens"


def dtype_for(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """The data type of a token on disk."""
    import numpy as np

    return np.dtype("<u2") if vocab_size <= 65_535 else np.dtype("<u4")


def offsets_file(path: Path) -> Path:
    """The file of offsets that belongs to a token file."""
    return path.with_suffix(".offsets")


def write(path: Path, documents: Iterable[bytes], dtype: np.dtype[np.unsignedinteger]) -> int:
    """Write documents of packed tokens to `path`, and the file of their offsets.

    Returns the number of tokens.
    """
    import numpy as np

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
    """The location of a token: its file, and the document in that file, from 0."""

    file: Path
    document: int


@dataclass(frozen=True)
class TokenStream:
    """The token files of all units, in order, as one stream of tokens."""

    files: tuple[np.ndarray, ...]
    starts: tuple[int, ...]  # position of each file's first token, then the length of the stream
    paths: tuple[Path, ...] = ()  # of the files; needed only to locate documents

    def __len__(self) -> int:
        return self.starts[-1]

    def slice(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int64, shape [stop - start], or less at the end of the stream."""
        import numpy as np

        tokens = np.empty(max(0, min(stop, len(self)) - start), np.int64)
        file = bisect.bisect_right(self.starts, start) - 1
        done = 0
        while done < len(tokens):
            first = start + done - self.starts[file]
            part = self.files[file][first : first + len(tokens) - done]
            tokens[done : done + len(part)] = part  # one copy, out of the map
            done += len(part)
            file += 1
        return tokens

    def locate(self, position: int) -> TokenLocation:
        """Locate the token at a position, by the offsets of its file.

        Raises InputError if the offsets do not fit the file.
        """
        import numpy as np

        assert 0 <= position < len(self)
        file = bisect.bisect_right(self.starts, position) - 1
        path = self.paths[file]
        offsets = np.fromfile(offsets_file(path), "<u8")
        document = int(np.searchsorted(offsets, position - self.starts[file], side="right")) - 1
        if document < 0 or offsets[-1] >= len(self.files[file]):
            raise InputError(f"{offsets_file(path)}: damaged; run ekiden tokenize again")
        return TokenLocation(path, document)

    def blocks(self, length: int) -> int:
        """The number of full blocks of `length` tokens that are followed by one more token."""
        return max(0, (len(self) - 1) // length)

    def block(self, index: int, length: int) -> np.ndarray:
        """Block `index` and the token after it, shape [length + 1]."""
        return self.slice(index * length, (index + 1) * length + 1)


def open_part(units: Iterable[TokenUnit], part: str, recipe: Recipe) -> TokenStream:
    """Open one part (`shards.TRAIN` or `HELD_OUT`) of a corpus as one stream."""
    paths = [token_file(unit.folder, part) for unit in units]
    return open_stream(paths, dtype_for(tokenizer_info(recipe).size))


def open_stream(paths: Iterable[Path], dtype: np.dtype[np.unsignedinteger]) -> TokenStream:
    """Map token files into memory. Raises InputError for a file that ends in half a token."""
    files: dict[Path, np.ndarray] = {}
    for path in paths:
        size = path.stat().st_size
        if size % dtype.itemsize:
            raise InputError(f"{path}: {size} bytes end in half a token; run ekiden tokenize again")
        if size:
            files[path] = mapped.array(path, dtype)
    starts = (0, *itertools.accumulate(map(len, files.values())))
    return TokenStream(tuple(files.values()), starts, tuple(files))


def ends(recipe: Recipe) -> Callable[[Training], int]:
    """A function from other training settings to the last step over this recipe's tokens."""
    return lambda training: steps_over(recipe.model_copy(update={"training": training}))


def steps_over(recipe: Recipe) -> int:
    """The last step of the run. Raises StageError if it depends on tokens that are missing."""
    if recipe.training.steps is not None:
        return recipe.training.steps
    stream = open_part(complete(recipe), shards.TRAIN, recipe)
    return recipe.training.steps_over(stream.blocks(recipe.model.n_positions))


def sample_block(sample: int, blocks: int, seed: int) -> int:
    """The block of sample number `sample` of a run.

    A Feistel network over the smallest even number of bits that holds `blocks`, repeated while the value
    is out of range (cycle walking: Black and Rogaway 2002); each epoch has its own permutation. The cost is
    the same for every sample.
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
        raise StageError(f"{folder}: {state}; run ekiden tokenizer first")
    manifest.verified(folder, "jobs.tokenizer")


def _tokenizer_of(folder: Path) -> Any:
    """The fingerprint, in a folder's manifest, of the tokenizer that made its tokens."""
    return manifest.read(folder, "jobs.tokenize")["causes"].get("inputs", {}).get("tokenizer")
