"""Relocation: recorded paths are adjusted when a workspace has been moved.

A resolved recipe and the manifests of raw text hold absolute paths from the time of writing. On reading, a
path in the workspace is moved to the present workspace, as the run directory shows it; a local text is
looked up at the location in the recipe, a downloaded one in the folder of the downloads.

    recipe = read_resolved(run.recipe, Recipe)      # with present paths
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import ConfigError
from kit.output import redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kit.store.records import Manifest, Piece

Tree = dict[str, Any]
_RUNS = "runs"  # the folder of the run directories in a workspace
_PATHS_OF_SOURCE = ("location", "index")
_LISTS = ("words", "urls")  # filters whose rules name a file
_FETCHED = "fetched-"  # prefix of a downloaded file's folder, see kit/corpus/raw/fetch.py
_PART = ".zst"  # compressed text is cut into parts; text that is read in place never ends in this


def relocate(tree: Tree, file: Path) -> Tree:
    """A configuration read from `file`; the paths of a recipe follow its run directory."""
    old = tree.get("workspace")
    run = next((f for f in _folders_of(file) if f.parent.name == _RUNS), None)
    if run is None or not isinstance(old, str) or _is_same(Path(old, _RUNS, run.name), run):
        return tree
    new = str(run.parents[1].resolve())
    return _with_paths(tree, lambda path: rebase(path, old, new))


def rebase(path: str, old: str, new: str) -> str:
    """Move a path from the folder `old` to the folder `new`; any other path is unchanged."""
    return new + path.removeprefix(old) if f"{path}/".startswith(f"{old}/") else path


def differing_heads(old: str, new: str) -> tuple[str, str]:
    """Two paths without the tail that they share: `/a/x/t` and `/b/t` give `/a/x` and `/b`."""
    left, right = old.split("/"), new.split("/")
    while left and right and left[-1] == right[-1]:
        left.pop()
        right.pop()
    return "/".join(left), "/".join(right)


def without_paths(tree: Tree) -> Tree:
    """A recipe with all paths blanked: the location of a text does not affect the result."""
    blank = _with_paths(tree, lambda _: "")
    if blank is not tree:  # a recipe, in which the folder of the downloads may be null
        blank["corpus"] |= {"downloads": ""}
    return blank


def without_secrets(tree: Tree) -> Tree:
    """A recipe to show: URLs without credentials, and no section `alerts`: its addresses are secrets."""
    shown: Tree = _without_credentials(
        {key: section for key, section in tree.items() if key != "alerts"}
    )
    return shown


def for_release(tree: Tree) -> Tree:
    """A recipe to publish: without secrets; of paths the last part, of a local tracking URI `workspace`."""
    tree = without_secrets(tree)
    tracking = dict(tree["tracking"])
    if (tracking["mlflow"] or "http").partition(":")[0] not in ("http", "https"):
        tracking["mlflow"] = "workspace"
    return _with_paths(tree, lambda path: Path(path).name) | {"tracking": tracking}


def pieces(manifest: Manifest, folder: Path, location: str, downloads: str | None) -> list[Piece]:
    """The pieces of a raw text from its manifest in `folder`, with the present paths of their files.

    `location` and `downloads` are the recipe's. A file that is in neither place keeps its path.
    """
    recorded = manifest["causes"].get("section", {}).get("location", location)
    old, new = differing_heads(recorded, location)
    download_folders = [folder, *([Path(downloads)] if downloads else [])]
    paths: dict[str, str] = {}

    def present(path: str) -> str:
        name, parent = os.path.basename(path), os.path.basename(os.path.dirname(path))  # noqa: PTH119, PTH120
        if parent.startswith(_FETCHED):
            places = [str(place / parent / name) for place in download_folders]
        elif name.endswith(_PART):
            places = [str(folder / name)]
        else:
            places = [rebase(path, old, new)]
        return path if path in places else next(filter(os.path.exists, places), path)

    rows = manifest["pieces"]
    for row in rows:
        if row["path"] not in paths:
            paths[row["path"]] = present(row["path"])
    if all(path == now for path, now in paths.items()):
        return rows
    return [row | {"path": paths[row["path"]]} for row in rows]


def refuse_broken_links(folders: Iterable[Path]) -> None:
    """Raises ConfigError for a dangling link, which is left if its target was moved."""
    for link in folders:
        if link.is_symlink() and not link.exists():
            raise ConfigError(
                f"{link}: dangling link to {link.readlink()}; point it to the new place with "
                f"{shlex.join(['ln', '-sfn', 'PLACE', str(link)])}, or remove the link to have its files "
                "made again"
            )


def _folders_of(file: Path) -> list[Path]:
    """The folder of a file, with links in its path kept, and with all of them resolved."""
    return [Path(os.path.abspath(file)).parent, file.resolve().parent]  # noqa: PTH100  links stay


def _is_same(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()


def _with_paths(tree: Tree, change: Callable[[str], str]) -> Tree:
    """A recipe with its absolute paths changed; any other configuration is returned unchanged."""
    if "workspace" not in tree or "corpus" not in tree:
        return tree

    def changed(section: Tree, *keys: str) -> Tree:
        values = {key: section.get(key) for key in keys}
        return section | {
            key: change(value)
            for key, value in values.items()
            if isinstance(value, str) and value.startswith("/")
        }

    corpus = changed(tree["corpus"], "downloads", "remove")
    corpus["sources"] = {
        name: changed(source, *_PATHS_OF_SOURCE) for name, source in corpus["sources"].items()
    }
    filters = corpus.get("filters") or {}
    for key in _LISTS:
        if rules := filters.get(key):
            filters |= {key: {name: changed(rule, "file") for name, rule in rules.items()}}
            corpus["filters"] = filters
    moved = changed(tree, "workspace") | {"corpus": corpus}
    if release := tree.get("release"):
        release = changed(release, "tasks_data")
        if tasks := release.get("tasks"):
            release["tasks"] = [change(task) if task.startswith("/") else task for task in tasks]
        moved["release"] = release
    return moved


def _without_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return redaction.without_credentials(value)
    if isinstance(value, dict):
        return {key: _without_credentials(item) for key, item in value.items()}
    return [_without_credentials(item) for item in value] if isinstance(value, list) else value
