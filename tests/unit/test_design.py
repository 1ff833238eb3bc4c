"""The house: which part of the kit may know which."""

from __future__ import annotations

import ast
import functools
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
# From the bottom up: a module imports from its own room and from levels below, as rooms of one level do not
# know one another. Below them all is kit/errors.py.
LEVELS = (
    {"output"},  # what the kit says
    {"store"},  # what lies on disk
    {"config"},  # what is made and where
    {"models"},  # what an architecture has of its own
    {"data", "plan"},  # what passes between stages; arithmetic
    {"run"},  # the run directory
    {"tracking"},
    {"training", "tokenizer", "corpus", "cluster"},
    {"release"},
    {"relay", "watch"},  # the stages in order; where the time went, and what is wrong
)
# Above them all, for scripts and notebooks: it may know every room, and no room knows it.
LIBRARY = "library.py"
ROOMS = set().union(*LEVELS)
MODULES = sorted([*(ROOT / "kit").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")])
OF_KIT = [path for path in MODULES if path.is_relative_to(ROOT / "kit")]
DOORS = {
    "submitit": "kit/cluster/launch.py",
    "deepspeed": "kit/training/engine.py",
    "mlflow": "kit/tracking/mlflow/client.py",
    "neologdn": "kit/corpus/normalise/normaliser.py",
    "fugashi": "kit/corpus/segmenters/mecab.py",
    "xz": "kit/corpus/raw/seekable.py",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """The dotted names a module imports, wherever in it; `from a import b` gives a.b."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(dotted: str) -> str | None:
    """The room of kit that a dotted name lies in; None for what lies in kit itself or elsewhere."""
    parts = dotted.split(".")
    loose = ("errors", "__init__", "__version__")
    in_room = parts[0] == "kit" and len(parts) > 1 and parts[1] not in loose
    return parts[1] if in_room else None


def may_know(room: str) -> set[str]:
    """The rooms that a module of a room, or one that lies in none, may import from."""
    if room == LIBRARY:
        return ROOMS
    if room not in ROOMS:
        return set()
    level = next(number for number, rooms in enumerate(LEVELS) if room in rooms)
    return {room}.union(*LEVELS[:level])


def graph() -> dict[str, set[str]]:
    """The rooms that each room imports from."""
    arrows: dict[str, set[str]] = {room: set() for room in ROOMS}
    for path in OF_KIT:
        room = path.relative_to(ROOT / "kit").parts[0]
        if room in ROOMS:
            arrows[room] |= {other for name in imported(path) if (other := room_of(name))} - {room}
    return arrows


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 40
    assert "kit.tracking.ledger" in imported(ROOT / "kit/training/attempt.py")
    assert "tracking" in graph()["training"]


def test_every_module_of_the_kit_but_its_errors_and_the_library_has_a_room() -> None:
    assert {path.name for path in (ROOT / "kit").glob("*.py")} == {
        "__init__.py",
        "errors.py",
        LIBRARY,
    }
    assert {
        path.relative_to(ROOT / "kit").parts[0] for path in OF_KIT if path.parent.name != "kit"
    } == ROOMS
    assert len(ROOMS) == sum(map(len, LEVELS))


@pytest.mark.parametrize("path", OF_KIT, ids=name_of)
def test_a_module_imports_from_its_own_room_and_from_levels_below(path: Path) -> None:
    room = path.relative_to(ROOT / "kit").parts[0]
    allowed = may_know(room)
    for dotted in imported(path):
        assert dotted.split(".")[0] not in ("jobs", "typer"), dotted
        assert room_of(dotted) in (None, *allowed), dotted


def test_no_room_may_know_the_library() -> None:
    assert room_of("kit.library.tokens") == "library"
    assert all("library" not in may_know(room) for room in ROOMS)


def test_the_rooms_have_no_circle() -> None:
    tuple(TopologicalSorter(graph()).static_order())  # raises CycleError


def test_no_modules_import_one_another_in_a_circle() -> None:
    names = {name_of(path).removesuffix(".py").replace("/", "."): path for path in MODULES}
    arrows = {
        name: {
            module
            for dotted in imported(path)
            for module in (dotted, dotted.rpartition(".")[0])
            if module in names
        }
        - {name}
        for name, path in names.items()
    }
    assert "kit.cluster.decisions" in arrows["kit.cluster.requeue"]
    tuple(TopologicalSorter(arrows).static_order())  # raises CycleError


@pytest.mark.parametrize(("engine", "door"), DOORS.items())
def test_an_engine_has_one_door(engine: str, door: str) -> None:
    users = {
        name_of(path)
        for path in MODULES
        if any(dotted.split(".")[0] == engine for dotted in imported(path))
    }
    assert users == {door}


def test_only_the_room_of_the_cluster_tells_schedulers_apart() -> None:
    for path in MODULES:
        if name_of(path).startswith(("kit/cluster/", "kit/config/")):
            continue
        compared = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Compare)]
        told = {
            ast.literal_eval(n)
            for c in compared
            for n in ast.walk(c)
            if isinstance(n, ast.Constant)
        }
        assert not told & {"slurm", "local"}, name_of(path)


def test_the_extractor_under_another_licence_is_never_imported() -> None:
    for path in MODULES:
        assert not any(dotted.split(".")[0] == "wikiextractor" for dotted in imported(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


def listed(folder: str) -> list[str]:
    """What docs/files.md lists in a folder: modules, and packages with a slash."""
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    tree = page.partition(f"\n## {folder}/\n")[2].partition("\n## ")[0]
    return [line.split()[0] for line in tree.splitlines() if line.startswith("  ")]


def test_the_page_of_modules_has_a_line_for_each() -> None:
    told = set(listed("jobs")) | set(listed("kit"))
    for path in MODULES:
        top, *inside = path.relative_to(ROOT).parts
        name = "/".join(inside)
        folders = {f"{'/'.join(inside[:depth])}/" for depth in range(1, len(inside))}
        assert path.name == "__init__.py" or name in told or folders & told, f"{top}/{name}"


@pytest.mark.parametrize("folder", ["jobs", "kit"])
def test_the_page_of_modules_lists_only_what_exists(folder: str) -> None:
    names = listed(folder)
    assert len(names) == len(set(names))
    for name in names:
        assert (ROOT / folder / name).exists(), name
