"""Read recipes and cluster files from YAML, with overrides from the command line.

`section.key=value` overrides a key of the recipe, `cluster.section.key=value` one of the cluster; the
elements of a list have the keys 0, 1, and so on. If the key takes text, the value is the text as the shell
passes it on, except for `null` if the key may be null; else it is YAML without comments. A run directory
can be given in place of a recipe: it holds a recipe and a cluster.

    recipe, cluster = load(Path("configs/demo.yaml"), ["cluster.arrays.parallel=1"], "local")
"""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from kit.config import (
    contradictions,
    deepspeed_file,
    no_effect,
    presets,
    secrets,
    written,
    yaml_file,
)
from kit.config.cluster import Cluster
from kit.config.fields import dotted_keys, field_at, takes, type_at
from kit.config.recipe import Recipe, is_remote, named_kind
from kit.config.run import run_of
from kit.config.section import SectionT, override_of, read_resolved, validate
from kit.errors import ConfigError
from kit.output import program
from kit.store.files import read_json
from kit.store.paths import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.config.section import Section

_LOCAL = "local"  # the cluster if none is named
_DEEPSPEED = ("training", "deepspeed")
_CLUSTER = "cluster."  # the prefix of overrides that are for the cluster
_EXCLUSIVE = (("training.steps", "training.epochs"), ("training.epochs", "training.steps"))
# The path of a text may change during a run: see kit/config/relocation.py.
_PATH_OF_TEXT = re.compile(r"corpus\.(downloads|sources\.[^=]+\.(location|index))=")


def load(path: Path, overrides: list[str], cluster: str | None) -> tuple[Recipe, Cluster]:
    """Load the recipe and the cluster of a command line. Raises ConfigError with the mistakes of both."""
    try:
        recipe = load_recipe(path, overrides)
    except ConfigError as error:
        if path.is_dir() and not Run(path).recipe.is_file():
            raise  # it has no cluster either
        try:
            load_cluster(cluster, path, overrides)
        except ConfigError as other:
            raise ConfigError(*error.args, *other.args) from None
        raise
    return recipe, load_cluster(cluster, path, overrides, run_of(recipe))


def load_recipe(path: Path, overrides: list[str]) -> Recipe:
    """Load the recipe in a YAML file with `section.key=value` overrides (those of `cluster.` are ignored).

    `path` may also be the name of a recipe, or a run directory, whose recipe is returned unchanged.
    Relative paths in a file are relative to that file, in overrides to the current directory: `workspace`,
    `corpus.downloads`, `location` and `index` of a source, `file` of a list of words or URLs,
    `corpus.remove`, `training.deepspeed`, `release.tasks` and `release.tasks_data`; the first two, which
    are created, are relative to `presets.base_folder`. The result holds absolute paths, and the text of the
    DeepSpeed file.
    Raises ConfigError.
    """
    path = presets.recipe(path)
    if path.is_dir():
        return _recipe_of_run(path, overrides)
    base = presets.base_folder(path)
    tree = yaml_file.read(path, Recipe)
    workspace = tree.get("workspace")
    _make_absolute(tree, path.parent, base)
    recipe, origin = _overridden(Recipe, tree, str(path), _of_recipe(overrides))
    lines = [*_wrong_kinds(recipe, origin, str(path))]
    if "workspace" not in origin and base == path.parent:
        lines += _workspace_elsewhere(recipe, str(workspace), str(path))
    place = override_of(_DEEPSPEED, origin) or str(path)
    try:
        recipe = deepspeed_file.in_recipe(recipe, place, base)
        contradictions.refuse(recipe, origin, str(path))
    except ConfigError as mistake:
        lines += mistake.args
    if lines:
        raise ConfigError(*lines)
    return recipe


def load_cluster(
    name: str | None, recipe: Path, overrides: list[str], run: Run | None = None
) -> Cluster:
    """Load a cluster by name from `cluster/` beside the recipe, in ./configs or in the kit, or from a file.

    Without a name it is the cluster of the run directory, if the recipe is one, else the one to which its
    `run` was submitted, else `local`. Raises ConfigError.
    """
    recipe = presets.recipe(recipe)
    if name is None and recipe.is_dir():
        own = Run(recipe).cluster
        if not own.is_file():
            raise ConfigError(f"{recipe}: has no {own.name}; name a cluster with --cluster")
        return changed_cluster(read_resolved(own, Cluster), overrides)
    if name is None and run is not None and _was_submitted_elsewhere(run):
        return changed_cluster(read_resolved(run.cluster, Cluster), overrides)
    name = name or _LOCAL
    clusters = presets.clusters(presets.base_folder(recipe))
    path = Path(name) if name.endswith((".yaml", ".yml")) else clusters.get(name)
    if path is None or not path.is_file():
        raise ConfigError(
            f"--cluster {name}: no such {'file' if path else 'cluster'}; known clusters: "
            f"{', '.join(sorted(clusters))}; name one of them, or a YAML file"
        )
    tree = yaml_file.read(path, Cluster)
    return _overridden(Cluster, tree, str(path), _of_cluster(overrides))[0]


def _was_submitted_elsewhere(run: Run) -> bool:
    """Whether the run has jobs on another cluster than `local`, whose file may be edited at any time."""
    if not (run.jobs.is_file() and run.cluster.is_file()):
        return False
    return bool(read_json(run.cluster).get("name") != _LOCAL)


def changed_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A resolved recipe with overrides applied, except those for the cluster. Raises ConfigError."""
    tree = recipe.model_dump(mode="json")
    changed, origin = _overridden(Recipe, tree, None, _of_recipe(overrides))
    changed = deepspeed_file.in_recipe(changed, override_of(_DEEPSPEED, origin), Path("configs"))
    contradictions.refuse(changed, origin, None)
    return changed


def changed_cluster(cluster: Cluster, overrides: Sequence[str]) -> Cluster:
    """A resolved cluster with the overrides of `cluster.` applied. Raises ConfigError."""
    tree = cluster.model_dump(mode="json")
    return _overridden(Cluster, tree, None, _of_cluster(overrides))[0]


def _recipe_of_run(path: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe of a run directory; the only overrides allowed are new paths of its texts."""
    run = Run(path)
    if not run.recipe.is_file():
        raise ConfigError(
            f"{path}: not a run directory, it has no {run.recipe.name}; "
            + (
                yaml_file.runs_at(path)
                or "name a recipe, such as configs/demo.yaml, or a folder of WORKSPACE/runs"
            )
        )
    for override in overrides:
        if not (override.startswith(_CLUSTER) or _PATH_OF_TEXT.match(override)):
            raise ConfigError(
                f"override '{override}': the recipe of a run directory is fixed; use "
                f"{program.command('train', 'amend')} or fork"
            )
    recipe = read_resolved(run.recipe, Recipe)
    own = run_of(recipe).root
    if own.resolve() != path.resolve():
        raise ConfigError(
            f"{path}: this run directory was moved: its recipe belongs to WORKSPACE/runs/{recipe.name}; "
            f"move it back to {own}, or pass the recipe file"
        )
    return changed_recipe(recipe, overrides)


def _of_recipe(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if not override.startswith(_CLUSTER)]


def _of_cluster(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if override.startswith(_CLUSTER)]


def _overridden(
    kind: type[SectionT], tree: dict[str, Any], place: str | None, overrides: Sequence[str]
) -> tuple[SectionT, dict[str, str]]:
    """Apply overrides to a tree and validate it; also returns the override of each dotted key they set.

    Without a `place`, a file, the tree is an already resolved configuration. Raises ConfigError with all
    mistakes of both.
    """
    origin: dict[str, str] = {}
    mistakes = []
    own = None if place else copy.deepcopy(tree)
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
    for key, other in _EXCLUSIVE:  # an override of one replaces the other
        if key in origin and other not in origin:
            _section(tree, "training").pop(other.removeprefix("training."), None)
    _make_absolute(tree, Path.cwd(), Path.cwd())
    try:
        section = _validated(kind, tree, place, origin, own)
    except ConfigError as error:
        mistakes += error.args
    if mistakes:
        raise ConfigError(*mistakes)
    no_effect.refuse(no_effect.idle_keys(section), tree, origin, place)
    if isinstance(section, Cluster):
        secrets.refuse(section, origin, place)
    return section, origin


def _validated(
    kind: type[SectionT],
    tree: dict[str, Any],
    place: str | None,
    origin: dict[str, str],
    own: dict[str, Any] | None,
) -> SectionT:
    """A tree with overrides as a section; `own` is a resolved configuration without them.

    The latter was valid when its run began: later rules refuse nothing of it. Raises ConfigError.
    """
    name = place or kind.__name__.lower()
    try:
        return validate(kind, tree, name, origin, _every_key())
    except ConfigError as error:
        if own is None or not (old := _mistakes(kind, own, name)):
            raise
        if new := [line for line in error.args if line not in old]:
            raise ConfigError(*new) from None
    return validate(kind, tree, name, origin, _every_key(), recorded=True)


def _mistakes(kind: type[Section], tree: dict[str, Any], name: str) -> tuple[str, ...]:
    try:
        validate(kind, tree, name, {}, _every_key())
    except ConfigError as error:
        return error.args
    return ()


def _put(tree: dict[str, Any], kind: type[Section], keys: list[str], text: str) -> None:
    """Put the value of an override into a tree. Raises ConfigError if the path of keys does not exist."""
    node: Any = tree
    for depth, key in enumerate(keys[:-1], start=1):
        path = keys[:depth]
        if isinstance(node, list):
            node = node[_index(node, path)]
        else:
            if node.get(key) is None:  # an empty section is read as null
                node[key] = _empty(kind, path)
            node = node[key]
        if not isinstance(node, dict | list):
            raise ConfigError(f"{key} is a value, not a section")
    last = _index(node, keys) if isinstance(node, list) else keys[-1]
    node[last] = written.value(text, type_at(kind, keys))


def _index(elements: list[Any], path: list[str]) -> int:
    """The last of the keys as the index of an existing element."""
    *above, last = path
    name, maximum = ".".join(above), len(elements) - 1
    if not elements:
        raise ConfigError(f"{name} is empty: it has no element {last}")
    if not last.isdecimal() or int(last) > maximum:
        raise ConfigError(f"{name} has no element {last}; its elements are 0 to {maximum}")
    return int(last)


def _empty(kind: type[Section], path: list[str]) -> Any:
    """The initial value of a key that the file lacks: a section without keys, or the default list."""
    if not takes(type_at(kind, path), list):
        return {}
    field = field_at(kind, path)
    return to_jsonable_python(field.get_default(call_default_factory=True)) if field else []


def _every_key() -> list[str]:
    """The dotted keys that can be overridden."""
    return [*dotted_keys(Recipe), *dotted_keys(Cluster, _CLUSTER)]


def _make_absolute(tree: dict[str, Any], inputs: Path, outputs: Path) -> None:
    """Make the relative paths of a recipe's tree absolute, in the folder for inputs or for outputs."""
    corpus, training = _section(tree, "corpus"), _section(tree, "training")
    for section, key in ((tree, "workspace"), (corpus, "downloads")):
        if isinstance(section.get(key), str):
            section[key] = _path(section[key], outputs)
    for source in _section(corpus, "sources").values():
        for key in ("location", "index") if isinstance(source, dict) else ():
            if isinstance(source.get(key), str):
                source[key] = _absolute(source[key], inputs)
    if isinstance(corpus.get("remove"), str):
        corpus["remove"] = _path(corpus["remove"], inputs)
    filters = _section(corpus, "filters")
    for rule in (*_section(filters, "words").values(), *_section(filters, "urls").values()):
        if isinstance(rule, dict) and isinstance(rule.get("file"), str):
            rule["file"] = _path(rule["file"], inputs)
    deepspeed = training.get("deepspeed")
    if isinstance(deepspeed, str) and not presets.is_name(deepspeed):
        training["deepspeed"] = _path(deepspeed, inputs)
    release = _section(tree, "release")
    if isinstance(release.get("tasks_data"), str):
        release["tasks_data"] = _path(release["tasks_data"], inputs)
    if isinstance(tasks := release.get("tasks"), list):
        release["tasks"] = [
            _path(task, inputs) if isinstance(task, str) and not presets.is_name(task) else task
            for task in tasks
        ]


def _section(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of the tree; empty if it is missing, or no section, which validation reports."""
    section = tree.get(name)
    return section if isinstance(section, dict) else {}


def _absolute(location: str, base: Path) -> str:
    """A path or pattern made absolute; a URL or name unchanged."""
    return location if is_remote(location) else _path(location, base)


def _path(text: str, base: Path) -> str:
    return str((base / Path(text).expanduser()).resolve()) if text else text


def _workspace_elsewhere(recipe: Recipe, given: str, place: str) -> Iterator[str]:
    """A line if the path seems meant relative to the current directory, which has such a workspace."""
    own, other = Path(recipe.workspace), Path(_path(given, Path.cwd()))
    if other != own and other.is_dir() and not own.exists():
        yield (
            f"{place}: workspace={given}: the path is relative to the recipe, but {own} does not exist, "
            f"and {other} does; write workspace: {os.path.relpath(other, Path(place).parent)}, or create "
            "the former"
        )


def _wrong_kinds(recipe: Recipe, origin: dict[str, str], place: str) -> Iterator[str]:
    """A line for each published text whose source gives another kind."""
    for name, source in recipe.corpus.sources.items():
        kind = named_kind(source.location)
        if kind not in (None, source.kind):
            key = f"corpus.sources.{name}"
            where = origin.get(f"{key}.location", origin.get(f"{key}.kind", place))
            yield (
                f"{where}: {key}.kind={source.kind!r}: {source.location} is a text of kind {kind}; write "
                f"kind: {kind}, or ./{source.location} if you mean a file"
            )
