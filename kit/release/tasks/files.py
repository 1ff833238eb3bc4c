"""Task files of lm-evaluation-harness, read without it: with the files that they include, and their data.

    for task in named(recipe.release): ...

A task is a YAML file in the form of lm-evaluation-harness 0.4.13 (its docs/task_guide.md). Its data are
files that `dataset_kwargs.data_files` names, relative to the YAML file, read by one of `BUILDERS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kit.errors import StageError
from kit.store import listing
from kit.store.files import file_hash, text_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BUILDERS = ("json", "parquet", "csv", "text")  # of `datasets`; json reads JSON lines, too
_NAME = re.compile(r"[\w.-]+")  # a task's name is a folder, and part of a metric's name
_HUB = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class TaskFile:
    """A task: its YAML file, and its data by split."""

    name: str
    path: Path
    builder: str
    data_files: dict[str, list[str]]  # absolute
    metric: str | None  # the first of its metrics
    version: str = ""
    hub: tuple[str, str] | None = None  # dataset on the Hub, and the name of the task there
    replaced: dict[str, Any] = field(default_factory=dict)  # keys of the file that no longer hold
    columns: frozenset[str] = frozenset()  # that the data must have, as far as known
    sources: tuple[Path, ...] = ()  # the YAML file, what it includes, and its Python modules

    @property
    def data(self) -> str:
        """A hash of its data."""
        rows = [(s, file_hash(Path(f))) for s, files in self.data_files.items() for f in files]
        return f"{text_hash(repr(rows)):016x}"

    @property
    def definition(self) -> str:
        """A hash of everything else that defines it."""
        rows = [(path.name, file_hash(path)) for path in self.sources]
        return f"{text_hash(repr(rows)):016x}"


def read(key: str) -> list[TaskFile]:
    """The tasks of a file or a folder in `key`, a key with its value (`release.tasks.0=PATH`).

    Of a folder these are the YAML files beside one another, except those whose name begins with `_`.
    Raises StageError for a file that is missing, damaged or no task, or without its data.
    """
    path = Path(key.partition("=")[2])
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if _is_task(p))
        if not files:
            raise StageError(f"{key}: no task in this folder; put its YAML file there")
        return [_of(key, file) for file in files]
    return [_of(key, path)]


def content(key: str, path: Path) -> tuple[dict[str, Any], list[Path]]:
    """The keys of a YAML file with those that it includes, and all files that it consists of.

    Raises StageError.
    """
    return _merged(key, path, ())


def data_files(key: str, given: Any, folder: Path) -> dict[str, list[str]]:
    """The files that `data_files` names, by split, as absolute paths. Raises StageError."""
    if isinstance(given, str | list):
        given = {"train": given}  # as `datasets` calls it
    if not isinstance(given, dict) or not given:
        raise StageError(
            f"{key}: has no dataset_kwargs.data_files; name its data there, by split, for example "
            "{test: test.jsonl}"
        )
    return {str(split): list(_existing(key, files, folder)) for split, files in given.items()}


def _of(key: str, path: Path) -> TaskFile:
    tree, sources = content(key, path)
    where = f"{key}: {path.name}" if path != Path(key.partition("=")[2]) else key
    name = tree.get("task")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise StageError(
            f"{where}: task={name!r} is not the name of a task (letters, digits, '.', '_', '-'); give the "
            "file of a single task, not of a group"
        )
    builder = str(tree.get("dataset_path"))
    if builder not in BUILDERS:
        raise StageError(
            f"{where}: dataset_path={builder} is not on this machine; set it to "
            f"{', '.join(BUILDERS)}, and dataset_kwargs.data_files to the files of the task"
        )
    arguments = tree.get("dataset_kwargs")
    given = arguments.get("data_files") if isinstance(arguments, dict) else None
    return TaskFile(
        name,
        path,
        builder,
        data_files(where, given, path.parent),
        _first_metric(tree),
        version_of(tree),
        _hub_of(tree),
        {"dataset_kwargs": dict(arguments or {})},
        sources=tuple(sources),
    )


def version_of(tree: dict[str, Any]) -> str:
    """The version that a task gives itself; empty if it gives none."""
    metadata = tree.get("metadata")
    return str(metadata.get("version", "")) if isinstance(metadata, dict) else ""


def _hub_of(tree: dict[str, Any]) -> tuple[str, str] | None:
    """The benchmark that a task of the user's names in its metadata: `hub: owner/name`, `hub_task`."""
    metadata = tree.get("metadata")
    hub = metadata.get("hub") if isinstance(metadata, dict) else None
    if not isinstance(hub, str) or not _HUB.fullmatch(hub):
        return None
    return hub, str(metadata.get("hub_task", "default")) if isinstance(
        metadata, dict
    ) else "default"


def _first_metric(tree: dict[str, Any]) -> str | None:
    metrics = tree.get("metric_list")
    first = metrics[0] if isinstance(metrics, list) and metrics else None
    name = first.get("metric") if isinstance(first, dict) else None
    return name.rpartition(".")[2] if isinstance(name, str) else None


def _is_task(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml") and not path.name.startswith(("_", "."))


def _existing(key: str, files: Any, folder: Path) -> Iterator[str]:
    """The absolute paths of files or patterns, each of which leads to something."""
    for name in files if isinstance(files, list) else [files]:
        text = str(folder / Path(str(name)).expanduser()) if "://" not in str(name) else ""
        try:
            found = list(listing.files(text)) if text else []
        except (OSError, listing.SameFile) as error:
            raise StageError(f"{key}: data {name}: {error}") from None
        if not found:
            raise StageError(f"{key}: data {text or name}: no such file; copy it to this machine")
        yield from found


def _merged(key: str, path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], list[Path]]:
    if path in above:
        raise StageError(f"{key}: {path} includes itself")
    modules: list[Path] = []
    tree = _parsed(key, path, modules)
    merged: dict[str, Any] = {}
    sources = [path, *modules]
    for name in _listed(tree.pop("include", [])):
        included, of_it = _merged(key, path.parent / str(name), (*above, path))
        merged |= included
        sources += of_it
    return merged | tree, sources


def _parsed(key: str, path: Path, modules: list[Path]) -> dict[str, Any]:
    """The keys of one file; the Python modules beside it that it names are added to `modules`."""

    class Loader(yaml.SafeLoader):
        """Reads the name of a function, without importing it."""

    def function(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
        name = str(loader.construct_scalar(node))
        module = path.parent / f"{name.rpartition('.')[0].replace('.', '/')}.py"
        if module.is_file():
            modules.append(module)
        return name

    Loader.add_constructor("!function", function)
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506  a SafeLoader
    except OSError as error:
        raise StageError(f"{key}: {path}: {error.strerror}; name the YAML file of a task") from None
    except UnicodeDecodeError as error:
        raise StageError(f"{key}: {path}: byte {error.start} is not valid UTF-8") from None
    except yaml.YAMLError as error:
        raise StageError(f"{key}: {path}: damaged YAML ({_brief(error)}); mend it") from None
    if not isinstance(tree, dict):
        raise StageError(f"{key}: {path}: no keys in it; name the YAML file of a task")
    return tree


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]


def _brief(error: yaml.YAMLError) -> str:
    """The problem, and its line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "not YAML"
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)
