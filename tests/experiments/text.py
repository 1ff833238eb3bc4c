"""The text of the experiments: a workspace for each kind of tokenizer, made by the kit's own stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from kit.data import index
from kit.errors import ConfigError, StageError
from kit.relay import resolve, submit
from kit.relay.stages import stages_of
from kit.store.files import read_json, write_json
from kit.store.paths import Workspace
from tests.experiments import variants
from tests.relay import DEMO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from kit.config.recipe import Recipe

STAGES = ("download", "preprocess", "tokenizer", "tokenize")


def prepare(folder: Path, files: Sequence[Path], names: Iterable[str]) -> None:
    """Make the workspaces that these variants read, with the texts of the demo if no file is given.

    Raises ConfigError if the folder has the workspace of another text.
    """
    sources = {f"text{number}": _source(path) for number, path in enumerate(files)}
    sources = sources or _of_demo()
    for spaces in sorted({_spaces(name) for name in names}):
        file = _recipe_file(folder, spaces)
        tree = variants.tree(folder.resolve() / spaces, sources)
        tree["tokenizer"]["spaces"] = spaces
        if Workspace(folder / spaces).tokens_index.is_file() and _other(read_json(file), tree):
            raise ConfigError(
                f"{file}: made for another text; give the same --data, or another --folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, tree)
        _make_tokens(file)


def recipe(folder: Path, variant: str, overrides: list[str]) -> Recipe:
    """The recipe of a run, in the workspace of its tokenizer."""
    return resolve.load(_recipe_file(folder, _spaces(variant)), overrides, "local").recipe


def _other(made: dict[str, Any], tree: dict[str, Any]) -> bool:
    """Whether two recipes have other tokens."""
    return any(made[section] != tree[section] for section in ("corpus", "tokenizer"))


def _make_tokens(file: Path) -> None:
    """Run the stages, unless their tokens are there."""
    project = resolve.load(file, [], "local")
    try:
        index.load(project.recipe)
    except (StageError, FileNotFoundError):
        for stage in STAGES:
            submit.run_here(project, stages_of(project.recipe, stage))


def _spaces(variant: str) -> str:
    return "article" if variant == "article" else "lossless"


def _recipe_file(folder: Path, spaces: str) -> Path:
    return folder / f"{spaces}.yaml"


def _source(path: Path) -> dict[str, Any]:
    """A source of a recipe; its kind is told by the name of the file."""
    kinds = {".xml": "wikipedia", ".jsonl": "jsonl", ".parquet": "parquet"}
    kind = next((kinds[suffix] for suffix in path.suffixes if suffix in kinds), "plaintext")
    return {"kind": kind, "location": str(path.resolve())}


def _of_demo() -> dict[str, Any]:
    sources: dict[str, Any] = yaml.safe_load(DEMO.read_text(encoding="utf-8"))["corpus"]["sources"]
    for source in sources.values():
        source["location"] = str(DEMO.parent / source["location"])
    return sources
