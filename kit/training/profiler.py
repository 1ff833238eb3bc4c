"""A profile of a few steps: a trace that Perfetto (https://ui.perfetto.dev) opens, and a table by part.

Create the file PROFILE in the run directory, and rank 0 profiles its next steps; a number in the file is
the first step to profile. The other ranks go on, and wait for it as for any slow rank.
"""

from __future__ import annotations

import functools
import gzip
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from kit.output import log
from kit.store.files import atomic, write_json
from kit.training.spans import Span, exclusive, outermost

if TYPE_CHECKING:
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.records import Profile, ProfilePart
    from kit.training.device import Device

STEPS = 3  # profiled, after one in which the profiler warms up
WHOLE = "step"
# What a step consists of; the loop and the engine mark them by `part`.
PARTS = ("data", "agreement", "forward", "backward", "reduction", "update", "ledger")
REDUCTION = "reduction"  # within the backward pass, from which its time is taken
part = record_function  # costs some microseconds while nothing is profiled


def mark(owner: Any, method: str, name: str) -> None:
    """Let calls of an object's method count as a part."""
    function = getattr(owner, method)

    @functools.wraps(function)
    def marked(*given: Any, **named: Any) -> Any:
        with part(name):
            return function(*given, **named)

    setattr(owner, method, marked)


class StepProfiler:
    """Profiles steps of rank 0 on request."""

    def __init__(self, run: Run, attempt: Attempt, device: Device, rank: int) -> None:
        self._request = run.profile if rank == 0 else None
        self._folder = attempt.root
        self._activities = [ProfilerActivity.CPU]
        if device.is_gpu:
            self._activities.append(ProfilerActivity.CUDA)
        self._profile: Any = None
        self._first = 0

    def step_begins(self, step: int) -> None:
        """Start to profile if a user asks for it; `step` counts from 1."""
        if self._profile is not None or self._request is None or not self._request.exists():
            return
        if step < _number(self._request):
            return
        self._request.unlink(missing_ok=True)
        log.info(f"PROFILE file found: profiling {STEPS} steps from step {step + 1:,} on")
        schedule = torch.profiler.schedule(wait=0, warmup=1, active=STEPS, repeat=1)
        self._profile = profile(activities=self._activities, schedule=schedule)
        self._profile.start()
        self._first = step + 1

    def step_ended(self, step: int) -> None:
        """Count a step; after the last one of a profile, write it."""
        if self._profile is None:
            return
        if step < self._first + STEPS - 1:
            self._profile.step()
            return
        running, self._profile = self._profile, None
        began = time.monotonic()
        running.stop()
        path = self._folder / f"trace-{self._first:08d}.json.gz"
        try:
            _write_trace(running, path)
            write_json(
                path.with_name(f"profile-{self._first:08d}.json"), self._record(running, path)
            )
        except OSError as error:  # training goes on
            log.warning(f"{path}: not written ({error.strerror})")
            return
        log.info(f"profile written in {time.monotonic() - began:.1f} s: {path}")

    def _record(self, running: Any, trace: Path) -> Profile:
        spans = [
            Span(event.time_range.start, event.time_range.end, event.name)
            for event in running.events()
            if event.name in (WHOLE, *PARTS) and event.device_type == DeviceType.CPU
        ]
        on_device = {event.key: event.device_time_total for event in running.key_averages()}
        times = exclusive([span for span in spans if span.name != WHOLE])
        times[WHOLE] = sum(span.end - span.begin for span in spans if span.name == WHOLE)
        parts: list[ProfilePart] = [
            {
                "name": name,
                "calls": outermost([span for span in spans if span.name == name]) // STEPS,
                "seconds": times[name] / 1e6 / STEPS,
                "device_seconds": on_device[name] / 1e6 / STEPS,
            }
            for name in (WHOLE, *PARTS)
            if name in times
        ]
        return {"step": self._first, "steps": STEPS, "trace": trace.name, "parts": parts}


def _write_trace(running: Any, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "trace.json"
        running.export_chrome_trace(str(plain))
        with plain.open("rb") as raw, atomic(path) as out, gzip.open(out, "wb") as packed:
            shutil.copyfileobj(raw, packed)


def _number(request: Path) -> int:
    """The step in a request; 0 if it has none."""
    try:
        return int(request.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
