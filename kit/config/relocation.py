"""Where a workspace lies now: what is written down in it follows it when it is moved.

A resolved recipe and the manifests of raw text name absolute paths, as they were on the day. They are
read as of today: a path in the workspace is a path in it still, wherever the run directory lies now;
a text at hand is where the recipe says, and what was fetched is in the folder of the downloads.

    recipe = read_resolved(run.recipe, Recipe)      # its paths are those of now
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
_RUNS = "runs"  # the folder of a workspace in which its run directories lie
_OF_SOURCE = ("location", "index")
_FETCHED = "fetched-"  # how kit/corpus/raw/fetch.py begins the name of a fetched file's folder
_PART = ".zst"  # a packed text is cut into parts; what is read where it lies is never packed so


def follow(tree: Tree, file: Path) -> Tree:
    """A configuration that stands in `file`; the paths of a recipe are those of its run directory now."""
    was = tree.get("workspace")
    run = next((f for f in _folders_of(file) if f.parent.name == _RUNS), None)
    if run is None or not isinstance(was, str) or _is_same(Path(was, _RUNS, run.name), run):
        return tree
    now = str(run.parents[1].resolve())
    return _with_paths(tree, lambda path: moved(path, was, now))


def moved(path: str, was: str, now: str) -> str:
    """A path that is or lies in the folder `was`, as it is in `now`; any other path as it is."""
    return now + path.removeprefix(was) if f"{path}/".startswith(f"{was}/") else path


def heads(was: str, now: str) -> tuple[str, str]:
    """What two paths begin with, up to the end that they share: `/a/x/t` and `/b/t` give `/a/x`, `/b`."""
    left, right = was.split("/"), now.split("/")
    while left and right and left[-1] == right[-1]:
        left.pop()
        right.pop()
    return "/".join(left), "/".join(right)


def without_places(tree: Tree) -> Tree:
    """A recipe in which all paths are alike: where a text lies does not decide what is made of it."""
    alike = _with_paths(tree, lambda _: "")
    if alike is not tree:  # a recipe, which may leave the folder of the downloads open
        alike["corpus"] |= {"downloads": ""}
    return alike


def released(tree: Tree) -> Tree:
    """A recipe for others to read: of each path only its last part, of a database the word `workspace`,
    of each URL no password.
    """
    tracking = dict(tree["tracking"])
    if (tracking["mlflow"] or "http").partition(":")[0] not in ("http", "https"):
        tracking["mlflow"] = "workspace"
    named = _with_paths(tree, lambda path: Path(path).name) | {"tracking": tracking}
    shown: Tree = _without_credentials(named)
    return shown


def pieces(found: Manifest, folder: Path, location: str, downloads: str | None) -> list[Piece]:
    """The pieces of a raw text as its manifest in `folder` has them, with the paths of their files now.

    `location` is the recipe's, as is `downloads`. A file that is in neither place keeps its path.
    """
    noted = found["causes"].get("section", {}).get("location", location)
    was, now = heads(noted, location)
    fetched = [folder, *([Path(downloads)] if downloads else [])]
    paths: dict[str, str] = {}

    def here(path: str) -> str:
        name, parent = os.path.basename(path), os.path.basename(os.path.dirname(path))  # noqa: PTH119, PTH120
        if parent.startswith(_FETCHED):
            places = [str(place / parent / name) for place in fetched]
        elif name.endswith(_PART):
            places = [str(folder / name)]
        else:
            places = [moved(path, was, now)]
        return path if path in places else next(filter(os.path.exists, places), path)

    rows = found["pieces"]
    for row in rows:
        if row["path"] not in paths:
            paths[row["path"]] = here(row["path"])
    return [row | {"path": paths[row["path"]]} for row in rows]


def refuse_broken_links(folders: Iterable[Path]) -> None:
    """Raises ConfigError for a link that leads nowhere, as where only one end of it was moved."""
    for link in folders:
        if link.is_symlink() and not link.exists():
            raise ConfigError(
                f"{link}: is a link to {link.readlink()}, and there is nothing; have it lead to where that "
                f"is now, with {shlex.join(['ln', '-sfn', 'PLACE', str(link)])}, or remove the link to "
                "have its files made again"
            )


def _folders_of(file: Path) -> list[Path]:
    """The folder of a file, as it is named, and as it is behind all links."""
    return [Path(os.path.abspath(file)).parent, file.resolve().parent]  # noqa: PTH100  links stay


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _with_paths(tree: Tree, change: Callable[[str], str]) -> Tree:
    """A recipe with its absolute paths changed; any other configuration as it is."""
    if "workspace" not in tree or "corpus" not in tree:
        return tree

    def changed(section: Tree, *keys: str) -> Tree:
        values = {key: section.get(key) for key in keys}
        return section | {
            key: change(value)
            for key, value in values.items()
            if isinstance(value, str) and value.startswith("/")
        }

    corpus = changed(tree["corpus"], "downloads")
    sources = {name: changed(its, *_OF_SOURCE) for name, its in corpus["sources"].items()}
    return changed(tree, "workspace") | {"corpus": corpus | {"sources": sources}}


def _without_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return redaction.without_credentials(value)
    if isinstance(value, dict):
        return {key: _without_credentials(one) for key, one in value.items()}
    return [_without_credentials(one) for one in value] if isinstance(value, list) else value
