"""Tests do not depend on what lies in the checkout: `make demo` leaves its workspace there."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tests.markdown import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULES = sorted((ROOT / "tests").rglob("*.py"))


def loads(module: ast.Module) -> Iterator[ast.Call]:
    """The calls of `load` or `resolve.load` for a recipe of the checkout."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("load", "resolve.load"):
            recipe = ast.unparse(node.args[0]) if node.args else ""
            if recipe == "DEMO" or recipe.startswith("ROOT /"):
                yield node


def has_its_own_workspace(call: ast.Call) -> bool:
    """Whether the overrides name a workspace, or are not all written there."""
    if len(call.args) < 2:
        return False
    overrides = call.args[1]
    return not isinstance(overrides, ast.List) or any(
        isinstance(one, ast.Starred) or re.search("NOWHERE|workspace=", ast.unparse(one))
        for one in overrides.elts
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_recipe_of_the_checkout_is_loaded_with_a_workspace_of_the_test(
    path: Path,
) -> None:
    module = ast.parse(path.read_text(encoding="utf-8"))
    found = [call.lineno for call in loads(module) if not has_its_own_workspace(call)]
    assert not found, f"{path}: lines {found}"
