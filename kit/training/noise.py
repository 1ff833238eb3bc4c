"""What DeepSpeed has logged and warned of in every log, and means nothing here: left out word by word."""

from __future__ import annotations

import warnings
from typing import Any

from kit.output import log

# The engine's AdamW is torch's own, which asks before it updates: ZeRO knows it.
_LOGGED = "You are using ZeRO with an untested optimizer"
# DeepSpeed 0.19 calls them by the names that torch 2.13 has replaced.
_RENAMED = ("all_gather_into_tensor", "reduce_scatter_tensor")


def leave_out(deepspeed: Any) -> Any:
    """The module of DeepSpeed without it; its other warnings and errors stay."""
    deepspeed.logger.setLevel("WARNING")
    log.leave_out(deepspeed.logger.name, _LOGGED)
    for function in _RENAMED:
        message = rf"`torch\.distributed\.{function}` is deprecated"
        warnings.filterwarnings("ignore", message, FutureWarning)
    return deepspeed
