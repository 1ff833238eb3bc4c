"""The plans in docs/planning.md and docs/training.md are what their commands print."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from jobs import plan
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
# A command, and the block of text that follows it.
SHOWN = re.findall(
    r"```sh\nekiden plan ([^\n]+)\n```\n[^`]*```text\n([\s\S]+?)\n```",
    PAGE + (ROOT / "docs" / "training.md").read_text(encoding="utf-8"),
)


def test_there_are_shown_commands() -> None:
    assert len(SHOWN) == 9


@pytest.mark.parametrize(
    ("words", "text"),
    [
        # Seconds of a core, for thousands of runs.
        pytest.param(*shown, marks=[pytest.mark.long] if "--simulate" in shown[0] else [])
        for shown in SHOWN
    ],
    ids=range(len(SHOWN)),
)
def test_the_page_shows_what_the_command_prints(words: str, text: str) -> None:
    done = CliRunner().invoke(plan.app, words.split())
    assert done.exit_code == 0, done.output
    assert without_room(text.strip()) in without_room(done.output)


def without_room(text: str) -> str:
    """The text without the free space of the machine."""
    return re.sub(r"^  free .*$", "  free", text, flags=re.MULTILINE)


def test_the_days_of_the_page_are_those_of_the_command() -> None:
    rows = re.findall(
        r"^\| (\d+) billion \| ([\d.]+)%.*?\|((?: [\d.]+ days \|){3})$", PAGE, re.MULTILINE
    )
    assert len(rows) == 4
    for tokens, mfu, days in rows:
        recipes = ["gpt2-xl-ja-article", "--beside", "gpt2-xl-ja,llama-1b-ja", "--cluster", "mdx"]
        words = [*recipes, "--tokens", f"{tokens}b", "--mfu", str(float(mfu) / 100), "--json"]
        found = json.loads(CliRunner().invoke(plan.app, words).output)["recipes"]
        planned = [f"{one['time']['days']['value']:.1f}" for one in found]
        assert planned == re.findall(r"[\d.]+", days)
