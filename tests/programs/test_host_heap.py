"""Memory that a step frees is there for the next one."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from tests.conftest import ROOT

_STEPS = """
import resource, sys
import torch

def steps(number):
    for _ in range(number):
        model(inputs).sum().backward()
        model.zero_grad()

torch.set_num_threads(1)
if sys.argv[1] == "kept":
    from kit.training import host_heap
    host_heap.keep_freed_memory()
model = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(8)))
inputs = torch.randn(2048, 256)
steps(10)  # now and then a later one has the heap grow, too, until its blocks have found their places
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
steps(30)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 30)
"""


def faults(how: str) -> int:
    """The pages that the kernel zeroes for a step."""
    words = [sys.executable, "-c", _STEPS, how]
    return int(subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="only glibc has such settings"
)
def test_a_step_takes_its_memory_from_what_the_last_one_freed() -> None:
    assert 5 * faults("kept") < faults("default")
