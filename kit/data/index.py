"""The index of a workspace's tokens, which the tokenize stage writes last: `tokens/index.json`.

It says that every unit was done, and which files a run is trained on. An attempt that finds it in force
need not prove the whole workspace anew: it compares size and time of the manifests that the index was
made from, and reads none of them. Whatever makes a unit stale (another recipe, tokenizer or shard, a new
version of a stage) or withdraws its manifest puts the index out of force, and every unit is looked at, as
in a workspace that has no index. Missing or cut token files are found when they are opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.data import duplicates, shards, tokens
from kit.errors import StageError
from kit.output import log
from kit.store import manifest
from kit.store.files import read_json, text_hash, write_json
from kit.store.paths import MANIFEST, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kit.config.recipe import Recipe
    from kit.data.tokens import TokenStream, TokenUnit
    from kit.store.records import Causes

VERSION = 1  # of the index alone: raise when it comes to hold other things

Stamps = dict[str, list[int]]  # size and time (ns) of files, by their path in the workspace


@dataclass(frozen=True)
class TokenFiles:
    """The token files of a workspace, all made, in the order of the corpus."""

    folders: Sequence[Path]
    sizes: Mapping[str, Sequence[int]]  # bytes of each unit's file, by part
    fingerprint: str  # as `tokens.fingerprint`

    def open(self, part: str, recipe: Recipe) -> TokenStream:
        """One part (`shards.TRAIN` or `HELD_OUT`) as one row.

        Raises StageError where a file is gone or of another size.
        """
        paths = [tokens.token_file(folder, part) for folder in self.folders]
        for path, size in zip(paths, self.sizes[part], strict=True):
            if _size(path) != size:
                raise StageError(f"{path.parent}: broken; run jobs.tokenize first")
        return tokens.open_stream(paths, tokens.dtype_for(tokens.tokenizer_info(recipe).size))


def load(recipe: Recipe) -> TokenFiles:
    """The token files of a recipe, by its index or by a look at every unit.

    Raises StageError where one is not done. Writes nothing.
    """
    return _indexed(recipe) or _files(tokens.complete(recipe))


def write(recipe: Recipe) -> bool:
    """Write the index, if every unit is done; returns whether there is one in force."""
    if _indexed(recipe):
        return True
    workspace = Workspace(Path(recipe.workspace))
    try:
        stamps = _stamps(workspace.root, _manifests(recipe, workspace))  # before they are read
        made = tokens.complete(recipe)
    except (StageError, FileNotFoundError):
        return False
    files = _files(made)
    found = {
        "causes": _causes(recipe),
        "units": [folder.name for folder in files.folders],
        "sizes": files.sizes,
        "fingerprint": files.fingerprint,
        "manifests": stamps,
    }
    try:
        write_json(workspace.tokens_index, found)
    except OSError as error:
        log.warning(f"{workspace.tokens_index}: {error.strerror}; every attempt looks at all units")
        return False
    return True


def _indexed(recipe: Recipe) -> TokenFiles | None:
    """By the index; None where there is none in force."""
    workspace = Workspace(Path(recipe.workspace))
    try:
        found = read_json(workspace.tokens_index)
        in_force = manifest.agree(_causes(recipe), found["causes"])
        if not in_force or _stamps(workspace.root, found["manifests"]) != found["manifests"]:
            return None
        folders = [workspace.tokens(unit) for unit in found["units"]]
        return TokenFiles(folders, found["sizes"], found["fingerprint"])
    except (StageError, FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None  # every unit is looked at, and what is wrong is told


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _files(made: Sequence[TokenUnit]) -> TokenFiles:
    outputs = [manifest.read(unit.folder, "jobs.tokenize")["outputs"] for unit in made]
    sizes = {
        part: [one[tokens.token_file(Path(), part).name]["size"] for one in outputs]
        for part in shards.PARTS
    }
    fingerprint = tokens.combined(map(manifest.digest, outputs))
    return TokenFiles([unit.folder for unit in made], sizes, fingerprint)


def _causes(recipe: Recipe) -> Causes:
    """What decides all units, as far as it is known without a look at them. Raises StageError."""
    folder = Workspace(Path(recipe.workspace)).tokenizer
    manifest.verified(folder, "jobs.tokenizer")
    pieces = [shards.piece_causes(piece) for piece in shards.pieces(recipe)]
    sections = {"corpus": shards.section(recipe), "tokenizer": tokens.tokenizer_section(recipe)}
    inputs = {
        "pieces": f"{text_hash(repr(pieces)):016x}",
        "pick": tokens.picked(recipe),
        "tokenizer": manifest.fingerprint(folder, "jobs.tokenizer"),
        "versions": [shards.VERSION, tokens.TOKENIZER_VERSION, tokens.VERSION],
    }
    return manifest.causes("index", VERSION, sections, inputs)


def _manifests(recipe: Recipe, workspace: Workspace) -> list[str]:
    """The manifests that the state of the units depends on, by their path in the workspace."""
    names = [piece["name"] for piece in shards.pieces(recipe)]
    folders = [
        folder for name in names for folder in (workspace.shard(name), workspace.tokens(name))
    ]
    if recipe.corpus.filters.duplicates:
        buckets = duplicates.buckets(recipe, names)
        folders += [workspace.duplicates(bucket) for bucket in range(buckets)]
    return [f"{folder.relative_to(workspace.root)}/{MANIFEST}" for folder in folders]


def _stamps(root: Path, names: Iterable[str]) -> Stamps:
    """Raises FileNotFoundError."""
    return {name: [(found := (root / name).stat()).st_size, found.st_mtime_ns] for name in names}
