"""docs/LOG.md: dated entries, newest first, each with a figure and the command that shows it."""

from __future__ import annotations

import re
from datetime import date

import pytest

from tests.markdown import ROOT

TEXT = (ROOT / "docs/LOG.md").read_text(encoding="utf-8")
ENTRIES = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
HEADING = re.compile(r"(\d{4}-\d{2}-\d{2}) (\S.*)")
COMMANDS = (
    "ekiden ",
    "make ",
    "python ",
    "time ",
    ".ci/run",
    "from kit",
    "EKIDEN_",
    "ONEDNN_",
    "ls ",
)


def title(entry: str) -> str:
    return entry.partition("\n")[0]


def test_there_are_fifteen_entries_newest_first() -> None:
    found = [HEADING.fullmatch(title(entry)) for entry in ENTRIES]
    assert all(found), [title(entry) for entry, one in zip(ENTRIES, found, strict=True) if not one]
    days = [date.fromisoformat(one[1]) for one in found if one]
    assert len(days) >= 15
    assert days == sorted(days, reverse=True)
    assert len({one[2] for one in found if one}) == len(days)


@pytest.mark.parametrize("entry", ENTRIES, ids=title)
def test_an_entry_has_a_figure_and_a_command(entry: str) -> None:
    body = entry.partition("\n")[2]
    without_code = re.sub(r"```.*?```|`[^`]*`", "", body, flags=re.DOTALL)
    assert re.search(r"\d", without_code)
    code = re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", body, flags=re.DOTALL)
    assert any(block.startswith(COMMANDS) or word.startswith(COMMANDS) for block, word in code)


@pytest.mark.parametrize("entry", ENTRIES, ids=title)
def test_the_tests_that_an_entry_names_are_there(entry: str) -> None:
    for name, _, wanted in re.findall(r"pytest (tests/[\w/]+\.py)( -k (\w+))?", entry):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not wanted or re.search(rf"def test_\w*{wanted}", text), f"{name} -k {wanted}"
    for module in re.findall(r"-m tests\.([\w.]+)", entry):
        path = ROOT / "tests" / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
