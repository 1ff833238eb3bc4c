"""The index of a workspace's tokens, written last by the tokenize stage: `tokens/index.json`.

It records that every unit was done, and the files that a run trains on. With a valid index, an attempt need
not check the whole workspace: it compares the size and time of the manifests behind the index, and reads
none of them. Anything that makes a unit stale (another recipe, tokenizer or shard, a new version of a
stage) or removes its manifest invalidates the index; then every unit is checked, as without an index.
Missing or truncated token files are detected when they are opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from kit.data import duplicates, shards, text_bytes, tokenizer_file, tokens
from kit.errors import StageError
from kit.output import log
from kit.store import manifest
from kit.store.files import read_json, text_hash, write_json
from kit.store.paths import MANIFEST, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kit.config.recipe import Recipe
    from kit.data.tokens import TokenStream, TokenUnit
    from kit.store.records import Causes

VERSION = 2  # of the index alone: raise when its content changes

Stamps = dict[str, list[int]]  # size and time (ns) of files, by their path in the workspace


class Index(TypedDict):
    """`tokens/index.json`."""

    causes: Causes
    units: list[str]  # in corpus order
    sizes: dict[str, list[int]]  # bytes of each unit's file, by part
    held_out_bytes: int
    fingerprint: str
    manifests: Stamps


@dataclass(frozen=True)
class TokenFiles:
    """The complete token files of a workspace, in corpus order."""

    folders: Sequence[Path]
    sizes: dict[str, list[int]]  # bytes of each unit's file, by part
    held_out_bytes: int  # of the held-out text in UTF-8; 0 if unknown
    fingerprint: str  # as `tokens.fingerprint`

    def open(self, part: str, recipe: Recipe) -> TokenStream:
        """Open one part (`shards.TRAIN` or `HELD_OUT`) as one stream.

        Raises StageError if a file is missing or has another size.
        """
        paths = [tokens.token_file(folder, part) for folder in self.folders]
        for path, size in zip(paths, self.sizes[part], strict=True):
            if _size(path) != size:
                raise StageError(f"{path.parent}: broken; run ekiden tokenize first")
        return tokens.open_stream(paths, tokens.dtype_for(tokens.tokenizer_info(recipe).size))

    def tokens_per_byte(self, recipe: Recipe, held_out: TokenStream, blocks: int) -> float | None:
        """Tokens that are predicted in the first held-out blocks per byte of the text of these tokens.

        None if the bytes of the held-out text are unknown.
        """
        if not self.held_out_bytes:
            return None
        tokenizer = tokenizer_file.load(Workspace(Path(recipe.workspace)).tokenizer)
        return text_bytes.tokens_per_byte(
            text_bytes.table(tokenizer),
            held_out,
            blocks,
            recipe.model.n_positions,
            self.held_out_bytes,
            inside=recipe.training.labels == "inside",
        )


def load(recipe: Recipe) -> TokenFiles:
    """The token files of a recipe, from its index or else by checking every unit.

    Raises StageError if a unit is not done. Writes nothing.
    """
    return _indexed(recipe) or _files(tokens.complete(recipe))


def write(recipe: Recipe) -> bool:
    """Write the index if every unit is done; returns whether there is a valid one."""
    if _indexed(recipe):
        return True
    workspace = Workspace(Path(recipe.workspace))
    try:
        stamps = _stamps(workspace.root, _manifests(recipe, workspace))  # before they are read
        files = _files(tokens.complete(recipe))
    except (StageError, FileNotFoundError):
        return False
    index: Index = {
        "causes": _causes(recipe),
        "units": [folder.name for folder in files.folders],
        "sizes": files.sizes,
        "held_out_bytes": files.held_out_bytes,
        "fingerprint": files.fingerprint,
        "manifests": stamps,
    }
    try:
        write_json(workspace.tokens_index, index)
    except OSError as error:
        log.warning(
            f"{workspace.tokens_index}: {error.strerror}; every attempt will check all units"
        )
        return False
    return True


def _indexed(recipe: Recipe) -> TokenFiles | None:
    """The token files from the index; None if there is no valid one."""
    workspace = Workspace(Path(recipe.workspace))
    try:
        index: Index = read_json(workspace.tokens_index)
        valid = manifest.same_causes(_causes(recipe), index["causes"])
        if not valid or _stamps(workspace.root, index["manifests"]) != index["manifests"]:
            return None
        folders = [workspace.tokens(unit) for unit in index["units"]]
        return TokenFiles(folders, index["sizes"], index["held_out_bytes"], index["fingerprint"])
    except (StageError, FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None  # then every unit is checked, and the fault is reported


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _files(units: Sequence[TokenUnit]) -> TokenFiles:
    outputs = [manifest.read(unit.folder, "jobs.tokenize")["outputs"] for unit in units]
    sizes = {
        part: [files[tokens.token_file(Path(), part).name]["size"] for files in outputs]
        for part in shards.PARTS
    }
    fingerprint = tokens.combine_fingerprints(map(manifest.digest, outputs))
    folders = [unit.folder for unit in units]
    return TokenFiles(folders, sizes, tokens.text_bytes(folders, shards.HELD_OUT), fingerprint)


def _causes(recipe: Recipe) -> Causes:
    """The causes of all units that are known without checking the units. Raises StageError."""
    folder = Workspace(Path(recipe.workspace)).tokenizer
    manifest.verified(folder, "jobs.tokenizer")
    pieces = [shards.piece_causes(piece) for piece in shards.pieces(recipe)]
    sections = {"corpus": shards.section(recipe), "tokenizer": tokens.tokenizer_section(recipe)}
    inputs = {
        "pieces": f"{text_hash(repr(pieces)):016x}",
        "pick": tokens.picked_candidate(recipe),
        "tokenizer": manifest.fingerprint(folder, "jobs.tokenizer"),
        "versions": [shards.VERSION, tokens.TOKENIZER_VERSION, tokens.VERSION],
    }
    return manifest.causes("index", VERSION, sections, inputs)


def _manifests(recipe: Recipe, workspace: Workspace) -> list[str]:
    """The manifests that decide the state of the units, as paths relative to the workspace."""
    names = [piece["name"] for piece in shards.pieces(recipe)]
    folders = [
        folder for name in names for folder in (workspace.shard(name), workspace.tokens(name))
    ]
    if recipe.corpus.filters.duplicates:
        buckets = duplicates.buckets(recipe, names)
        folders += [workspace.duplicates(bucket) for bucket in range(buckets)]
    if recipe.corpus.filters.near_duplicates is not None:
        folders.append(workspace.near_duplicates)
    return [f"{folder.relative_to(workspace.root)}/{MANIFEST}" for folder in folders]


def _stamps(root: Path, names: Iterable[str]) -> Stamps:
    """Raises FileNotFoundError."""
    return {name: [(stat := (root / name).stat()).st_size, stat.st_mtime_ns] for name in names}
