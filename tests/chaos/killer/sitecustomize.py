"""Ends its own process by SIGKILL at a chosen moment: on the PYTHONPATH of the ranks of a test alone.

EKIDEN_KILLER names a folder with `moments.json`: a list of {"rank", "event", "pattern", "nth",
"after"}. A moment is an audit event (see Python's sys.audit) of that name in a process of that rank,
for the nth path written to that matches; with `after`, the next event of that thread. They are met one
after the other, each once: an empty file `done-N` says that moment N has been.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

# Of a task: set one after the other, the second after the first.
_RANK, _NODES = "RANK", "EKIDEN_NODES"


def _install(folder: Path) -> None:
    found: list[
        dict[str, Any] | None
    ] = []  # the moment at which this process ends, or that it has none
    seen: set[str] = set()
    armed: int | None = None  # the thread whose next event is the moment

    def end(number: int) -> None:
        os.close(os.open(folder / f"done-{number}", os.O_CREAT | os.O_WRONLY))
        os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal armed
        if not found:
            if _NODES not in os.environ:
                return  # the process from which the ranks are forked
            found.append(None)  # what `_next` does is an event too
            found[0] = _next(folder)
        if (moment := found[0]) is None:
            return
        if armed == threading.get_ident():
            armed = None
            end(moment["number"])
        path = _path(event, arguments) if event == moment["event"] else ""
        if not re.search(moment["pattern"], path):
            return
        seen.add(path)
        if len(seen) == moment["nth"]:
            if moment["after"]:
                armed = threading.get_ident()
            else:
                end(moment["number"])

    sys.addaudithook(hook)


def _next(folder: Path) -> dict[str, Any] | None:
    """The first moment that has not been, if it is one of this rank."""
    for number, moment in enumerate(json.loads((folder / "moments.json").read_text())):
        if not (folder / f"done-{number}").exists():
            return (
                {"number": number, **moment} if moment["rank"] == int(os.environ[_RANK]) else None
            )
    return None


def _path(event: str, arguments: tuple[Any, ...]) -> str:
    """The path that is made or written; of a rename the new one. Empty where it is read only."""
    if event == "open" and not _writes(*arguments[1:3]):
        return ""
    path = arguments[1 if event == "os.rename" else 0]
    return os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""


def _writes(mode: str | None, flags: int) -> bool:
    """Whether a file is opened for writing: by open, or by os.open, which has no mode."""
    if mode is None:
        return bool(flags & (os.O_WRONLY | os.O_RDWR))
    return mode.startswith(("w", "x", "a", "r+"))


if "EKIDEN_KILLER" in os.environ:
    _install(Path(os.environ["EKIDEN_KILLER"]))
