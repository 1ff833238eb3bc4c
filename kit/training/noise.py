"""DeepSpeed's log lines and warnings that mean nothing here, filtered by their exact text."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from kit.output import log

# The engine's AdamW is torch's own with a guard, which ZeRO supports.
_LOGGED = "You are using ZeRO with an untested optimizer"
# The optimizer of ZeRO-1 in bf16 prints the memory of the host six times, each after collecting garbage.
_PRINTING = "deepspeed.runtime.bf16_optimizer"
# DeepSpeed 0.19 uses names that torch 2.13 has deprecated.
_RENAMED = ("all_gather_into_tensor", "reduce_scatter_tensor")


def silence(deepspeed: Any) -> Any:
    """Filter the module's noise and return it; other warnings and errors stay."""
    deepspeed.logger.setLevel("WARNING")
    log.leave_out(deepspeed.logger.name, _LOGGED)
    for name in ("print", "see_memory_usage"):
        setattr(sys.modules[_PRINTING], name, lambda *_, **__: None)
    for function in _RENAMED:
        message = rf"`torch\.distributed\.{function}` is deprecated"
        warnings.filterwarnings("ignore", message, FutureWarning)
    return deepspeed
