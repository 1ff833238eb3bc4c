"""Collectives that each rank has begun: torch's flight recorder, on disk after a hang or an error.

torch keeps the last 2,000 collectives of a rank in memory (torch 2.13: FlightRecorder.hpp,
TORCH_FR_BUFFER_SIZE). The rank's watchdog writes them when a step hangs, NCCL's own watchdog when a
communicator fails. To see which rank is missing from which collective of NCCL:

    torchfrtrace RUN/attempts/0007 --prefix flight-nccl-rank-
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from kit.store.files import atomic

if TYPE_CHECKING:
    from kit.config.recipe import Health
    from kit.store.attempt_paths import Attempt

# torch reads the first of these that is set.
_DUMP = ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
_HEARTBEAT = "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC"
# Seconds: more than the rank's watchdog and the process beside it need to end the rank.
_LATER = 120


def set_up(attempt: Attempt, rules: Health) -> None:
    """Set what NCCL's process groups read when they are made, unless the cluster file has set it.

    NCCL's monitor ends a process whose CUDA calls are stuck, after eight minutes by default. The rank's
    own watchdog comes first, since it leaves stacks and `hang.json`.
    """
    if not any(name in os.environ for name in _DUMP):
        os.environ[_DUMP[0]] = str(attempt.flight_record("nccl", ""))  # torch appends the rank
    first = max(rules.hang_seconds, rules.start_seconds)
    os.environ.setdefault(_HEARTBEAT, str(round(first) + _LATER))


def write(attempt: Attempt, rank: int) -> None:
    """Write this rank's collectives: those of gloo as JSON, those of NCCL as torchfrtrace reads them.

    It takes seconds, and may block if a GPU is stuck: call it from a thread that may be left behind.
    """
    c10d: Any = importlib.import_module("torch._C._distributed_c10d")
    with atomic(attempt.flight_record("gloo", f"{rank}.json")) as file:
        file.write(c10d._dump_fr_trace_json())
    if (dump := getattr(c10d, "_dump_nccl_trace", None)) is not None:  # in CUDA builds only
        with atomic(attempt.flight_record("nccl", rank)) as file:
            file.write(dump())
