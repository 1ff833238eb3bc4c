"""Programs that the kit is measured against, each as its users write it; one process a rank."""

from __future__ import annotations

import json
import time
from pathlib import Path


class Rows:
    """A file of rows, one JSON object a line, as the kit's ledger is one."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115  as long as the program

    def add(self, kind: str, **fields: float) -> None:
        """Append a row, with the Unix time."""
        self._file.write(json.dumps({"kind": kind, "time": time.time(), **fields}) + "\n")
        self._file.flush()
