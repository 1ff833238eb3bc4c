"""A device in place of a GPU: it computes on the CPU, and records what a GPU would be waited for.

    device = StandIn()
    with device.in_place(monkeypatch), device.watching():
        ...                                 # training steps
    device.log                              # what came, in order

On a GPU the host runs ahead of the device, until it needs a value of a tensor, or copies from memory that
is not page-locked. Every call in which the host would wait is recorded as a `wait`, with its caller. A
stream that waits for another one, or for an event, does so on the device: a `stream`, the host goes on.
DeepSpeed gets an accelerator that runs apart from the host too, with streams and events, and takes the path
of a GPU. Unseen: `tensor.to(device)` of a tensor that was made on the CPU.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from kit.training.device import Device
from kit.training.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

# Methods that give the host a tensor's values; on a CPU they call no operator.
_TO_HOST = {"cpu", "tolist", "numpy", "__array__"}
# Operators whose result or shape depends on values; `item`, `float` and `if tensor:` are the first.
_VALUES = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}
_PACKAGES = ("kit", "deepspeed", "transformers")


@dataclass(frozen=True)
class Event:
    """What came: `what` is wait, or staged, sent, fetched, stream, event, or a mark of the test."""

    what: str
    detail: str = ""
    thread: str = ""
    place: str = ""  # the innermost file of the kit, DeepSpeed or transformers
    function: str = ""  # and its function

    def __str__(self) -> str:
        return f"{self.what} {self.detail} in {self.place}, {self.function}"


class StandIn(Device):
    """The device of a rank, on the CPU; its own memory is any that `send` has made."""

    def __init__(self) -> None:
        super().__init__("cpu", 0)
        object.__setattr__(self, "log", [])
        object.__setattr__(self, "_page_locked", set())

    log: list[Event]
    _page_locked: set[int]

    def add(self, what: str, detail: str = "") -> None:
        """Record something."""
        self.log.append(Event(what, detail, threading.current_thread().name, *_place()))

    def staged(self, tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.clone()
        self._page_locked.add(copy.data_ptr())
        self.add("staged")
        return copy

    def send(self, staged: torch.Tensor) -> torch.Tensor:
        locked = staged.data_ptr() in self._page_locked
        self.add("sent" if locked else "wait", "" if locked else "copy of pageable memory")
        return staged.clone()

    def fetch(self, tensor: torch.Tensor) -> Callable[[], list[float]]:
        self.add("fetched")
        with torch._C.DisableTorchFunction():
            copy = tensor.tolist()

        def values() -> list[float]:
            self.add("wait", "event")
            return copy

        return values

    def stopwatch(self) -> Stopwatch:
        return _Events(self)

    def synchronize(self) -> None:
        self.add("wait", "synchronize")

    @contextmanager
    def in_place(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """DeepSpeed takes this device for its accelerator within the block."""
        from deepspeed.accelerator import real_accelerator

        with patch.context() as inner:
            inner.setattr(real_accelerator, "ds_accelerator", _accelerator(self))
            # torch's own refuses streams that are not torch's.
            inner.setattr(
                torch.Tensor, "record_stream", lambda *_: self.add("stream", "record_stream")
            )
            yield

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record what this thread calls within the block."""
        with _Functions(self), _Operators(self):
            yield

    def between(self, first: str, last: str) -> list[Event]:
        """What came after the mark `first` and before the mark `last`."""
        whats = [event.what for event in self.log]
        begin = whats.index(first)
        return self.log[begin + 1 : whats.index(last, begin)]


class _Events(Stopwatch):
    """A stopwatch by events, which are recorded and not waited for."""

    def __init__(self, device: StandIn) -> None:
        super().__init__()
        self._device = device

    def __enter__(self) -> None:
        self._device.add("event", "begin")

    def __exit__(self, *exception: object) -> None:
        self._device.add("event", "end")

    def take(self) -> float:
        self._device.add("event", "read")
        return 0.0


class _Functions(TorchFunctionMode):
    def __init__(self, device: StandIn) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in _TO_HOST:
            self._device.add("wait", name)
        elif name in ("tensor", "as_tensor") and kwargs.get("device") is not None:
            self._device.add("wait", f"torch.{name}(..., device=)")  # a copy of pageable memory
        elif name == "where" and any(isinstance(one, int | float) for one in args):
            self._device.add("wait", "torch.where(..., a number)")  # the same
        return function(*args, **kwargs)


class _Operators(TorchDispatchMode):
    def __init__(self, device: StandIn) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if (name := function.overloadpacket.__name__) in _VALUES:
            self._device.add("wait", name)
        return function(*args, **(kwargs or {}))


def _place() -> tuple[str, str]:
    frame = sys._getframe(2)
    while frame is not None:
        parts = Path(frame.f_code.co_filename).parts
        for package in _PACKAGES:
            if package in parts[:-1]:
                at = len(parts) - 1 - parts[::-1].index(package)
                return "/".join(parts[at:]), frame.f_code.co_name
        frame = frame.f_back  # type: ignore[assignment]
    return "", ""


class _Stream:
    def __init__(self, device: StandIn) -> None:
        self._device = device

    def wait_stream(self, other: object) -> None:  # on the device: the host goes on
        self._device.add("stream", "wait_stream")

    def wait_event(self, event: object) -> None:
        self._device.add("stream", "wait_event")

    def synchronize(self) -> None:
        self._device.add("wait", "stream")


class _Event:
    def __init__(self, device: StandIn, **_: object) -> None:
        self._device = device

    def record(self, stream: object = None) -> None:
        self._device.add("event", "record")

    def query(self) -> bool:
        self._device.add("event", "query")
        return True

    def synchronize(self) -> None:
        self._device.add("wait", "event")


def _copied(device: StandIn, kind: Any, values: Any) -> Any:
    device.add("wait", f"{kind.__name__}([...])")
    return kind(values)


def _accelerator(device: StandIn) -> Any:
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    current = _Stream(device)

    class Accelerator(CPU_Accelerator):  # type: ignore[misc]
        Stream = property(lambda _: partial(_Stream, device))
        Event = property(lambda _: partial(_Event, device))

        # A number in a list is copied from pageable memory.
        ByteTensor = property(lambda _: partial(_copied, device, torch.ByteTensor))
        FloatTensor = property(lambda _: partial(_copied, device, torch.FloatTensor))

        def is_synchronized_device(self) -> bool:
            return False

        def is_fp16_supported(self) -> bool:
            return True

        def synchronize(self, device_index: object = None) -> None:
            device.add("wait", "synchronize")

        def stream(self, stream: object) -> Any:
            device.add("stream", "enter")
            return nullcontext()

        def current_stream(self, device_index: object = None) -> _Stream:
            return current

        def default_stream(self, device_index: object = None) -> _Stream:
            return current

    return Accelerator()
