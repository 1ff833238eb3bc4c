"""The tasks of several jobs in one process, one after the other: what they import, they import once.

    python -m kit.cluster.turns PIPE '[[FOLDER, LOG, {"SUBMITIT_LOCAL_JOB_ID": "evaluate-0", ...}], ...]'

Each has its own log, environment and result, as in a process of its own. A byte goes into the pipe for
each that is done; the first that fails ends the process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from kit.cluster import launch


def main(told: int, turns: list[tuple[str, str, dict[str, str]]]) -> None:
    """Do the tasks."""
    for folder, log, environment in turns:
        with Path(log).open("ab") as stream:
            for descriptor in (1, 2):
                os.dup2(stream.fileno(), descriptor)
        os.environ |= environment
        launch.run_local(Path(folder))
        os.write(told, b".")


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
