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


def _install(folder: Path) -> None:
    moments = json.loads((folder / "moments.json").read_text())
    left = [n for n in range(len(moments)) if not (folder / f"done-{n}").exists()]
    if not left or moments[left[0]]["rank"] != int(os.environ["SUBMITIT_LOCAL_GLOBALID"]):
        return
    number, moment = left[0], moments[left[0]]
    pattern = re.compile(moment["pattern"])
    seen: set[str] = set()
    armed: int | None = None  # the thread whose next event is the moment

    def end() -> None:
        os.close(os.open(folder / f"done-{number}", os.O_CREAT | os.O_WRONLY))
        os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal armed
        if armed == threading.get_ident():
            armed = None  # what `end` does is an event too
            end()
        if event != moment["event"] or not pattern.search(path := _path(event, arguments)):
            return
        seen.add(path)
        if len(seen) == moment["nth"]:
            if moment["after"]:
                armed = threading.get_ident()
            else:
                end()

    sys.addaudithook(hook)


def _path(event: str, arguments: tuple[Any, ...]) -> str:
    """The path that is made or written; of a rename the new one. Empty where it is read only."""
    if event == "open" and not str(arguments[1] or "r").startswith(("w", "x", "a", "r+")):
        return ""
    path = arguments[1 if event == "os.rename" else 0]
    return os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""


if "EKIDEN_KILLER" in os.environ:
    _install(Path(os.environ["EKIDEN_KILLER"]))
