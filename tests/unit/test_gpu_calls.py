"""The page on calls that a GPU changes names what is there: our functions, lines of libraries, tests."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs/gpu-calls.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]
_NAMED = re.compile(r"`([^`]+)` `([^`]+)`")
_LINE = re.compile(r"`([^`:]+):(\d+)` `([^`]+)`")


@cache
def functions(path: str) -> set[str]:
    """The functions of a file of ours, those of a class with its name."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{f.name}" for f in node.body if isinstance(f, ast.FunctionDef)}
    return found


@cache
def lines(path: str) -> list[str]:
    """The lines of a file of a library, which is not imported."""
    package, _, rest = path.partition("/")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return (Path(spec.submodule_search_locations[0]) / rest).read_text("utf-8").splitlines()


def test_the_page_has_the_versions_that_are_installed() -> None:
    stated = dict(re.findall(r"\b(deepspeed|torch|submitit) (\d+\.\d+\.\d+)", PAGE))
    assert stated == {
        name: importlib.metadata.version(name).partition("+")[0]
        for name in ("deepspeed", "torch", "submitit")
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].replace("`", ""))
def test_a_row_names_a_function_of_ours_a_line_of_the_library_and_a_test(row: list[str]) -> None:
    ours, library, _, held_by = row
    (named,) = _NAMED.findall(ours)
    assert named[1] in functions(named[0])
    ((path, number, words),) = _LINE.findall(library)
    assert words in lines(path)[int(number) - 1]
    if held_by != "computed":
        (test,) = _NAMED.findall(held_by)
        assert test[1] in functions(test[0])


def test_the_page_has_rows() -> None:
    assert len(ROWS) > 30
