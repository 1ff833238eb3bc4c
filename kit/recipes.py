"""Recipes and cluster files from YAML, with overrides of the command line.

`section.key=value` overrides a key of the recipe, `cluster.section.key=value` one of the cluster.
A run directory stands for the recipe and the cluster in it.

    recipe = load_recipe(Path("configs/demo.yaml"), ["training.steps=20"])
    cluster = load_cluster("local", Path("configs/demo.yaml"), ["cluster.arrays.parallel=1"])
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kit.config import Cluster, Recipe, Source, is_remote, named_kind
from kit.errors import ConfigError
from kit.files import read_json
from kit.sections import read_resolved, validate
from kit.workspace import Run, Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLUSTER = "cluster."  # the prefix of overrides that are for the cluster


def load_recipe(path: Path, overrides: list[str]) -> Recipe:
    """The recipe in a YAML file with `section.key=value` overrides (those of `cluster.` are left out).

    Relative paths in the file are relative to the file, those of overrides, `workspace` and
    `corpus.downloads` to the current directory; the result holds absolute paths, and
    the text of the DeepSpeed file. Of a run directory it is the recipe that stands there, as it is.
    Raises ConfigError.
    """
    if path.is_dir():
        return _recipe_of(path, overrides)
    tree = _read_yaml(path)
    for source in _section(_section(tree, "corpus"), "sources").values():
        for key in ("location", "index") if isinstance(source, dict) else ():
            if isinstance(source.get(key), str):
                source[key] = _absolute(source[key], path.parent)
    training = _section(tree, "training")
    if isinstance(training.get("deepspeed"), str):
        training["deepspeed"] = _absolute(training["deepspeed"], path.parent)
    origin = _override(tree, [o for o in overrides if not o.startswith(_CLUSTER)])
    recipe = validate(Recipe, tree, str(path), origin)
    sources = {name: _located(source) for name, source in recipe.corpus.sources.items()}
    for name, source in sources.items():
        _refuse_other_kind(name, source, origin, str(path))
    downloads = recipe.corpus.downloads and _absolute(recipe.corpus.downloads, Path.cwd())
    resolved = {
        "workspace": _absolute(recipe.workspace, Path.cwd()),
        "corpus": recipe.corpus.model_copy(update={"sources": sources, "downloads": downloads}),
    }
    return _with_deepspeed(recipe.model_copy(update=resolved), str(path))


def load_cluster(name: str | None, recipe: Path, overrides: list[str]) -> Cluster:
    """The cluster of that name in `cluster/` beside the recipe or in ./configs, or in the file named.

    Without a name: that of the run directory, where the recipe is one, else `local`.
    Raises ConfigError.
    """
    if name is None and recipe.is_dir():
        own = Run(recipe).cluster
        if not own.is_file():
            raise ConfigError(f"{recipe}: there is no {own.name} in it; name one by --cluster")
        return changed_cluster(read_resolved(own, Cluster), overrides)
    name = name or "local"
    folders = [recipe.parent / "cluster", Path("configs/cluster")]
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        places = [folder / f"{name}.yaml" for folder in folders]
        path = next((place for place in places if place.is_file()), places[0])
    if not path.is_file():
        known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
        raise ConfigError(
            f"--cluster {name}: there is no {path}; known clusters: {', '.join(known) or 'none'}; "
            "name one of them, or a YAML file"
        )
    tree = _read_yaml(path)
    origin = _override(tree, [o for o in overrides if o.startswith(_CLUSTER)])
    return validate(Cluster, tree, str(path), origin)


def changed_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A resolved recipe with the overrides that are not for the cluster. Raises ConfigError."""
    tree = recipe.model_dump(mode="json")
    origin = _override(tree, [o for o in overrides if not o.startswith(_CLUSTER)])
    return _with_deepspeed(validate(Recipe, tree, "recipe", origin), "recipe")


def changed_cluster(cluster: Cluster, overrides: Sequence[str]) -> Cluster:
    """A resolved cluster with the overrides of `cluster.`. Raises ConfigError."""
    tree = cluster.model_dump(mode="json")
    origin = _override(tree, [o for o in overrides if o.startswith(_CLUSTER)])
    return validate(Cluster, tree, "cluster", origin)


def _recipe_of(path: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe of a run directory, which no override changes."""
    run = Run(path)
    if not run.recipe.is_file():
        raise ConfigError(
            f"{path}: cannot be read as a run directory, there is no {run.recipe.name} in it; name a "
            "recipe, as configs/demo.yaml, or a folder of WORKSPACE/runs"
        )
    for override in overrides:
        if not override.startswith(_CLUSTER):
            raise ConfigError(
                f"override '{override}': the recipe of a run directory stands; see jobs.train amend "
                "and fork"
            )
    recipe = read_resolved(run.recipe, Recipe)
    own = Workspace(Path(recipe.workspace)).run(recipe.name).root
    if own.resolve() != path.resolve():
        raise ConfigError(
            f"{path}: its recipe says it is {own}; bring it back there, or name the recipe's file"
        )
    return recipe


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  a SafeLoader
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; name a recipe, as configs/demo.yaml"
        ) from None
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


def _override(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, str]:
    """Put overrides into the tree; returns which override each dotted key came from."""
    origin: dict[str, str] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
            raise ConfigError(f"override '{override}': write section.key=value")
        try:
            value = yaml.load(text, _Loader) if text else ""  # noqa: S506  a SafeLoader
        except yaml.YAMLError:
            value = text
        node = tree
        key = key.removeprefix(_CLUSTER)
        *sections, last = key.split(".")
        for section in sections:
            if node.get(section) is None:  # an empty section is read as null
                node[section] = {}
            child = node[section]
            if not isinstance(child, dict):
                raise ConfigError(f"override '{override}': {section} is a value, not a section")
            node = child
        node[last] = value
        origin[key] = f"override '{override}'"
    return origin


def _section(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of the tree, empty where there is none: whether it is one, validation says."""
    found = tree.get(name)
    return found if isinstance(found, dict) else {}


def _absolute(location: str, base: Path) -> str:
    """A path or pattern as an absolute one; what is to be fetched stays as it is."""
    return location if is_remote(location) else str((base / Path(location).expanduser()).resolve())


def _located(source: Source) -> Source:
    index = source.index and _absolute(source.index, Path.cwd())
    return source.model_copy(
        update={"location": _absolute(source.location, Path.cwd()), "index": index}
    )


def _refuse_other_kind(name: str, source: Source, origin: dict[str, str], place: str) -> None:
    named = named_kind(source.location)
    if named not in (None, source.kind):
        key = f"corpus.sources.{name}"
        where = origin.get(f"{key}.location", origin.get(f"{key}.kind", place))
        raise ConfigError(
            f"{where}: {key}.kind={source.kind!r}: {source.location} is a text of kind {named}; write "
            f"kind: {named}, or ./{source.location} if a file is meant"
        )


def _with_deepspeed(recipe: Recipe, place: str) -> Recipe:
    """The recipe with the text of its DeepSpeed file."""
    value = recipe.training.deepspeed
    if isinstance(value, dict):
        return recipe
    try:
        tree = read_json(Path(value))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{place}: training.deepspeed={value}: not a JSON file ({error})"
        ) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{place}: training.deepspeed={value}: holds no JSON object")
    training = recipe.training.model_copy(update={"deepspeed": tree})
    return recipe.model_copy(update={"training": training})


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: `no` and `24:00:00` are text, `1e-4` is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag.rsplit(":", 1)[-1] in ("null", "merge")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _rule, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", "-+0123456789"),
    (
        "float",
        r"^[-+]?(?:[0-9][0-9_]*)?(?:\.[0-9]*(?:e[-+]?[0-9]+)?|e[-+]?[0-9]+)$",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_rule), list(_first))
