"""Slurm's address of this node, for ranks on other nodes: see kit/run/addresses.py."""

from __future__ import annotations

import contextlib
import os
import re

from kit.cluster import state
from kit.errors import ClusterError
from kit.run.addresses import NODE_ADDRESS


def publish() -> None:
    """Put it into the environment of this process if the job has several nodes and Slurm answers."""
    node = os.environ.get("SLURMD_NODENAME")
    if node is None or os.environ.get("EKIDEN_NODES", "1") == "1":
        return
    with contextlib.suppress(ClusterError):
        shown = state.slurm("scontrol", "--oneliner", "show", "node", node)
        if address := re.search(r"\bNodeAddr=(\S+)", shown):
            os.environ[NODE_ADDRESS] = address[1]
