"""What the tests of programs share, those of DeepSpeed above all."""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _ctrl_c() -> None:
    """Of the commands too, where pytest runs in the background of a shell, without it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def alone() -> Iterator[None]:
    """A group of one rank; DeepSpeed keeps to the first it meets in a process."""
    import torch.distributed as dist

    from kit.training import engine

    engine.import_deepspeed("cpu")
    gc.freeze()  # its optimizer for bf16 collects garbage six times, among all that was imported
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
            patch.setenv(name, value)
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        yield
        dist.destroy_process_group()
