"""The house: which part of the kit may know which."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"corpus", "tokenizer", "training", "tracking", "cluster", "release", "relay"}
MODULES = sorted([*(ROOT / "kit").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")])
DOORS = {
    "submitit": "kit/cluster/launch.py",
    "deepspeed": "kit/training/engine.py",
    "mlflow": "kit/tracking/mlflow.py",
    "neologdn": "kit/corpus/normalise/normaliser.py",
    "fugashi": "kit/corpus/words/mecab.py",
    "xz": "kit/corpus/raw/seekable.py",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """The dotted names a module imports, wherever in it; `from a import b` gives a.b."""
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(dotted: str) -> str | None:
    """The room of kit that a dotted name lies in."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "kit" and len(parts) > 1 and parts[1] in ROOMS else None


def may_know(room: str | None) -> set[str]:
    """The rooms that a module of a room (None: of kit itself) may import."""
    if room is None:
        return set()
    if room == "relay":
        return ROOMS
    if room == "release":
        return ROOMS - {"relay"}
    return {room, "tracking"} if room in ("training", "tokenizer", "cluster") else {room}


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 40
    assert "kit.tracking.ledger" in imported(ROOT / "kit/training/attempt.py")


@pytest.mark.parametrize("path", [path for path in MODULES if "kit" in name_of(path)], ids=name_of)
def test_a_module_of_the_kit_imports_no_room_but_those_it_may(path: Path) -> None:
    parts = path.relative_to(ROOT / "kit").parts
    allowed = may_know(parts[0] if len(parts) > 1 else None)
    for dotted in imported(path):
        assert dotted.split(".")[0] != "jobs", dotted
        room = room_of(dotted)
        assert room is None or room in allowed, dotted


@pytest.mark.parametrize(("engine", "door"), DOORS.items())
def test_an_engine_has_one_door(engine: str, door: str) -> None:
    users = {
        name_of(path)
        for path in MODULES
        if any(dotted.split(".")[0] == engine for dotted in imported(path))
    }
    assert users == {door}


def test_the_extractor_under_another_licence_is_never_imported() -> None:
    for path in MODULES:
        assert not any(dotted.split(".")[0] == "wikiextractor" for dotted in imported(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
