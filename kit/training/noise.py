"""Lines, warnings and bars of DeepSpeed that mean nothing here."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from kit.output import log

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def silence_printing(module: Any) -> Any:
    """Let a module of DeepSpeed print nothing and show no bars, and return it; its errors stay."""
    module.print = lambda *_, **__: None
    module.tqdm = _without_bar
    return module


def _without_bar(items: Iterable[Any], **_: Any) -> Iterable[Any]:
    return items
