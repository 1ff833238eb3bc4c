"""CHANGELOG.md, CITATION.cff and the forms on GitHub agree with the code."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from kit import __version__
from tests.markdown import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def versions(path: Path) -> dict[str, int]:
    """The constants of a module that are raised when data has to be made again."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("VERSION", "TOKENIZER_VERSION"):
                found[name] = ast.literal_eval(node.value)
    return found


def test_the_newest_entry_is_of_the_version_of_the_kit() -> None:
    newest = re.findall(r"^## (\S+)", CHANGELOG, re.MULTILINE)[0]
    assert newest == __version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__


def test_the_changelog_has_every_version_that_remakes_data() -> None:
    there = {
        (path.relative_to(ROOT).as_posix(), name): number
        for path in (ROOT / "kit").rglob("*.py")
        for name, number in versions(path).items()
    }
    told = {}
    for cells in re.findall(r"^\| [^|`]+ \| (.+?) \| (\d+) \|", CHANGELOG, re.MULTILINE):
        words = re.findall(r"`([^`]+)`", cells[0])
        name = words[0] if len(words) == 2 else "VERSION"
        told[words[-1], name] = int(cells[1])
    assert told == there


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_a_form_asks_for_what_the_doctor_says(name: str) -> None:
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= {*form}
    fields = {field.get("id"): field for field in form["body"]}
    assert "ekiden pipeline doctor" in fields["doctor"]["attributes"]["description"]
    assert all(field["type"] in ("markdown", "textarea", "dropdown") for field in form["body"])


def test_the_workflow_calls_ci() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run") for step in workflow["jobs"]["all"]["steps"]]
    assert ".ci/run" in steps
