"""The README is short, and shows its pictures."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 130


@pytest.mark.parametrize("name", ["demo.svg", "loss.svg", "loss-dark.svg"])
def test_a_picture_is_shown_and_small(name: str) -> None:
    assert f"docs/pictures/{name}" in README
    assert (ROOT / "docs" / "pictures" / name).stat().st_size < 100_000
