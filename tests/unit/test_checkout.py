"""Tests do not depend on what lies in the checkout: `make demo` leaves its workspace there."""

from __future__ import annotations

import pytest

from kit.relay import resolve
from tests.relay import DEMO, NOWHERE


def test_a_test_that_loads_the_demo_without_a_workspace_of_its_own_fails() -> None:
    assert resolve.load(DEMO, [NOWHERE]).run.root.name == "demo"
    with pytest.raises(
        AssertionError, match=r"work/demo/runs/demo: a test gives its own workspace"
    ):
        resolve.load(DEMO)
