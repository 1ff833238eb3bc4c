"""Unit tests start no program: what does has its place in tests/programs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kit.run import commit, directory

if TYPE_CHECKING:
    from collections.abc import Iterator

# matplotlib lists the fonts once per machine.
_NOT_OURS = "fc-list"
_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"}


class _Watch:
    """What a test starts: one hook for all of them, as it stays until the process ends."""

    def __init__(self) -> None:
        self.started: list[str] | None = None  # None between tests
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.started is not None and event in _STARTS and _NOT_OURS not in arguments:
            self.started.append(f"{event} {arguments[0] if arguments else ''}")


_watch = _Watch()


_copy = directory._copy


def _copy_source(source: str, target: str) -> None:
    """Copy a file of Python; what is compiled, half of all, only a program would need."""
    if not source.endswith(".pyc"):
        _copy(source, target)


@pytest.fixture(autouse=True)
def starts_no_program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test that starts one; run directories have no commit, nothing compiled, no sync."""
    monkeypatch.setattr(commit, "_git", lambda *_: "")
    monkeypatch.setattr(directory, "_copy", _copy_source)
    monkeypatch.setattr(
        os, "fsync", lambda _: None
    )  # thousands; no test sees a machine lose its power
    _watch.started = []
    yield
    started, _watch.started = _watch.started, None
    assert not started, f"{started}: a test that starts a program belongs into tests/programs"
