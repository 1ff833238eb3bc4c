"""Recipes and cluster files from YAML, with overrides of the command line.

`section.key=value` overrides a key of the recipe, `cluster.section.key=value` one of the cluster; the
elements of a list are its keys 0, 1, and so on. The value is text as the shell hands it over where the key
takes text, `null` where it may be null, else YAML without comments. A run directory stands for the recipe
and the cluster in it.

    recipe, cluster = load(Path("configs/demo.yaml"), ["cluster.arrays.parallel=1"], "local")
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic_core import to_jsonable_python

from kit.config import no_effect, presets, written
from kit.config.cluster import Cluster
from kit.config.fields import dotted_keys, field_at, takes, type_at
from kit.config.recipe import Recipe, is_remote, named_kind
from kit.config.run import run_of
from kit.config.section import SectionT, read_resolved, validate
from kit.errors import ConfigError
from kit.store.files import read_json
from kit.store.paths import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.config.section import Section

_CLUSTER = "cluster."  # the prefix of overrides that are for the cluster
_EITHER = (("training.steps", "training.epochs"), ("training.epochs", "training.steps"))
# Where a text lies, which may change in mid-run: see kit/config/relocation.py.
_PLACE = re.compile(r"corpus\.(downloads|sources\.[^=]+\.(location|index))=")


def load(path: Path, overrides: list[str], cluster: str | None) -> tuple[Recipe, Cluster]:
    """The recipe and the cluster of a command line. Raises ConfigError with the mistakes of both."""
    try:
        recipe = load_recipe(path, overrides)
    except ConfigError as error:
        try:
            load_cluster(cluster, path, overrides)
        except ConfigError as other:
            raise ConfigError(*error.args, *other.args) from None
        raise
    return recipe, load_cluster(cluster, path, overrides)


def load_recipe(path: Path, overrides: list[str]) -> Recipe:
    """The recipe in a YAML file with `section.key=value` overrides (those of `cluster.` are left out).

    `path` may be a recipe's name. Relative paths in a file are relative to that file, those of overrides to
    the current directory: `workspace`, `corpus.downloads`, `location` and `index` of a source,
    `training.deepspeed`; the first two, which are made, as `presets.home` has it. The result holds absolute
    paths, and the text of the DeepSpeed file. Of a run directory it is the recipe that stands there, as it
    is. Raises ConfigError.
    """
    path = presets.recipe(path)
    if path.is_dir():
        return _recipe_of(path, overrides)
    home = presets.home(path)
    tree = _read_yaml(path, Recipe)
    workspace = tree.get("workspace")
    _make_absolute(tree, path.parent, home)
    recipe, origin = _overridden(Recipe, tree, str(path), _of_recipe(overrides))
    lines = [*_of_other_kinds(recipe, origin, str(path))]
    if "workspace" not in origin and home == path.parent:
        lines += _workspace_elsewhere(recipe, str(workspace), str(path))
    place = origin.get("training.deepspeed", str(path))
    try:
        recipe = _with_deepspeed(recipe, place, home)
    except ConfigError as mistake:
        lines += mistake.args
    if lines:
        raise ConfigError(*lines)
    return recipe


def load_cluster(name: str | None, recipe: Path, overrides: list[str]) -> Cluster:
    """The cluster of that name in `cluster/` beside the recipe, in ./configs or the kit's, or in the file.

    Without a name: that of the run directory, where the recipe is one, else `local`.
    Raises ConfigError.
    """
    recipe = presets.recipe(recipe)
    if name is None and recipe.is_dir():
        own = Run(recipe).cluster
        if not own.is_file():
            raise ConfigError(f"{recipe}: there is no {own.name} in it; name one by --cluster")
        return changed_cluster(read_resolved(own, Cluster), overrides)
    name = name or "local"
    known = presets.clusters(presets.home(recipe))
    path = Path(name) if name.endswith((".yaml", ".yml")) else known.get(name)
    if path is None or not path.is_file():
        raise ConfigError(
            f"--cluster {name}: there is no {path or f'cluster {name}'}; known clusters: "
            f"{', '.join(sorted(known))}; name one of them, or a YAML file"
        )
    tree = _read_yaml(path, Cluster)
    return _overridden(Cluster, tree, str(path), _of_cluster(overrides))[0]


def changed_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A resolved recipe with the overrides that are not for the cluster. Raises ConfigError."""
    tree = recipe.model_dump(mode="json")
    changed, origin = _overridden(Recipe, tree, None, _of_recipe(overrides))
    return _with_deepspeed(changed, origin.get("training.deepspeed", "recipe"), Path("configs"))


def changed_cluster(cluster: Cluster, overrides: Sequence[str]) -> Cluster:
    """A resolved cluster with the overrides of `cluster.`. Raises ConfigError."""
    tree = cluster.model_dump(mode="json")
    return _overridden(Cluster, tree, None, _of_cluster(overrides))[0]


def _recipe_of(path: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe of a run directory; overrides may say where its texts lie now, and nothing else."""
    run = Run(path)
    if not run.recipe.is_file():
        raise ConfigError(
            f"{path}: cannot be read as a run directory, there is no {run.recipe.name} in it; name a "
            "recipe, as configs/demo.yaml, or a folder of WORKSPACE/runs"
        )
    for override in overrides:
        if not (override.startswith(_CLUSTER) or _PLACE.match(override)):
            raise ConfigError(
                f"override '{override}': the recipe of a run directory stands; see jobs.train amend "
                "and fork"
            )
    recipe = read_resolved(run.recipe, Recipe)
    own = run_of(recipe).root
    if own.resolve() != path.resolve():
        raise ConfigError(
            f"{path}: is not where a run of its name belongs, WORKSPACE/runs/{recipe.name}; bring it back "
            f"to {own}, or name the recipe's file"
        )
    return changed_recipe(recipe, overrides)


def _read_yaml(path: Path, kind: type[Section]) -> dict[str, Any]:
    try:
        tree = written.read(path.read_text(encoding="utf-8"), kind)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; {_meant(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{path}, line {line}: not YAML ({error.problem})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds no sections")
    return tree


def _meant(path: Path) -> str:
    """What to write in place of a file that is not there."""
    beside = path.with_name(f"{path.name}.yaml")
    if not path.suffix and beside.is_file():
        return f"did you mean {beside}?"
    return f"name a recipe's file, or one of {', '.join(sorted(presets.recipes()))}"


def _of_recipe(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if not override.startswith(_CLUSTER)]


def _of_cluster(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if override.startswith(_CLUSTER)]


def _overridden(
    kind: type[SectionT], tree: dict[str, Any], place: str | None, overrides: Sequence[str]
) -> tuple[SectionT, dict[str, str]]:
    """A tree with overrides as a configuration, and which override each dotted key came from.

    Without a `place`, a file, the tree is a configuration that was resolved before. Raises ConfigError with
    all mistakes of both.
    """
    origin: dict[str, str] = {}
    mistakes = []
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.removeprefix(_CLUSTER)
        try:
            if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
                raise ConfigError("write section.key=value")
            _put(tree, kind, key.split("."), text)
        except ConfigError as mistake:
            mistakes.append(f"override '{override}': {mistake}")
        else:
            origin[key] = f"override '{override}'"
    for key, other in _EITHER:  # on the command line one takes the other's place
        if key in origin and other not in origin:
            _section(tree, "training").pop(other.removeprefix("training."), None)
    _make_absolute(tree, Path.cwd(), Path.cwd())
    try:
        found = validate(kind, tree, place or kind.__name__.lower(), origin, _every_key())
    except ConfigError as error:
        mistakes += error.args
    if mistakes:
        raise ConfigError(*mistakes)
    no_effect.refuse(no_effect.idle(found), tree, origin, place)
    return found, origin


def _put(tree: dict[str, Any], kind: type[Section], keys: list[str], text: str) -> None:
    """Put the value that a text is into a tree. Raises ConfigError where there is no place for it."""
    node: Any = tree
    for depth, key in enumerate(keys[:-1], start=1):
        path = keys[:depth]
        if isinstance(node, list):
            node = node[_index(node, path)]
        else:
            if node.get(key) is None:  # an empty section is read as null
                node[key] = _nothing_yet(kind, path)
            node = node[key]
        if not isinstance(node, dict | list):
            raise ConfigError(f"{key} is a value, not a section")
    at = _index(node, keys) if isinstance(node, list) else keys[-1]
    node[at] = written.value(text, type_at(kind, keys))


def _index(elements: list[Any], path: list[str]) -> int:
    """The last of the keys as the index of an element that is there."""
    *above, last = path
    name, most = ".".join(above), len(elements) - 1
    if not elements:
        raise ConfigError(f"{name} is empty: there is no element {last}")
    if not last.isdecimal() or int(last) > most:
        raise ConfigError(f"{name} has no element {last}; its elements are 0 to {most}")
    return int(last)


def _nothing_yet(kind: type[Section], path: list[str]) -> Any:
    """What stands at a key that the file lacks: a section without keys, or the list that is its default."""
    if not takes(type_at(kind, path), list):
        return {}
    field = field_at(kind, path)
    return to_jsonable_python(field.get_default(call_default_factory=True)) if field else []


def _every_key() -> list[str]:
    """What an override may be of."""
    return [*dotted_keys(Recipe), *dotted_keys(Cluster, _CLUSTER)]


def _make_absolute(tree: dict[str, Any], base: Path, home: Path) -> None:
    """Have the relative paths of a recipe's tree lie under a folder, those of what is made under `home`."""
    corpus, training = _section(tree, "corpus"), _section(tree, "training")
    for section, key in ((tree, "workspace"), (corpus, "downloads")):
        if isinstance(section.get(key), str):
            section[key] = _path(section[key], home)
    for source in _section(corpus, "sources").values():
        for key in ("location", "index") if isinstance(source, dict) else ():
            if isinstance(source.get(key), str):
                source[key] = _absolute(source[key], base)
    deepspeed = training.get("deepspeed")
    if isinstance(deepspeed, str) and not presets.is_name(deepspeed):
        training["deepspeed"] = _path(deepspeed, base)


def _section(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of the tree, empty where there is none: whether it is one, validation says."""
    found = tree.get(name)
    return found if isinstance(found, dict) else {}


def _absolute(location: str, base: Path) -> str:
    """A path or pattern as an absolute one; what is to be fetched stays as it is."""
    return location if is_remote(location) else _path(location, base)


def _path(text: str, base: Path) -> str:
    return str((base / Path(text).expanduser()).resolve()) if text else text


def _workspace_elsewhere(recipe: Recipe, given: str, place: str) -> Iterator[str]:
    """A line where the path was meant for the current directory: a workspace is there."""
    own, other = Path(recipe.workspace), Path(_path(given, Path.cwd()))
    if other != own and other.is_dir() and not own.exists():
        yield (
            f"{place}: workspace={given}: is relative to the recipe, and there is no {own}, but there "
            f"is {other}; write workspace: {os.path.relpath(other, Path(place).parent)}, or make the "
            "former"
        )


def _of_other_kinds(recipe: Recipe, origin: dict[str, str], place: str) -> Iterator[str]:
    """A line for each published text that is of another kind than its source says."""
    for name, source in recipe.corpus.sources.items():
        named = named_kind(source.location)
        if named not in (None, source.kind):
            key = f"corpus.sources.{name}"
            where = origin.get(f"{key}.location", origin.get(f"{key}.kind", place))
            yield (
                f"{where}: {key}.kind={source.kind!r}: {source.location} is a text of kind {named}; write "
                f"kind: {named}, or ./{source.location} if a file is meant"
            )


def _with_deepspeed(recipe: Recipe, place: str, folder: Path) -> Recipe:
    """The recipe with the text of its DeepSpeed file; one of the kit's has a name."""
    value = recipe.training.deepspeed
    if isinstance(value, dict):
        return recipe
    known = presets.deepspeed(folder)
    path = known.get(value, folder / value)
    try:
        tree = read_json(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{place}: training.deepspeed={value}: there is no such file; name a JSON file, or one of "
            f"{', '.join(sorted(known))}"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{place}: training.deepspeed={value}: not a JSON file ({error})"
        ) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{place}: training.deepspeed={value}: holds no JSON object")
    training = recipe.training.model_copy(update={"deepspeed": tree})
    return recipe.model_copy(update={"training": training})
