"""Blocks that are read ahead are those that would have been read."""

from __future__ import annotations

import numpy as np
import pytest

from kit.data import tokens
from kit.errors import InputError
from kit.training.batches import Batches
from kit.training.device import Device
from kit.training.read_ahead import ReadAhead

LENGTH = 4


def row() -> tokens.TokenStream:
    ids = np.arange(20 * LENGTH + 1, dtype="<u2")
    return tokens.TokenStream((ids,), (0, len(ids)))


def test_reading_ahead_reads_the_same_blocks_in_the_same_order_also_after_a_rollback() -> None:
    source = Batches(row(), LENGTH, 8, 2, 1, 2, 0)
    reader = ReadAhead(source, Device("cpu", 0))
    for sample in (0, 8, 16, 24, 8, 16, 1_000_000):  # back to 8, and on from there
        for micro in range(source.accumulation):
            assert np.array_equal(reader.read(sample, micro).numpy(), source.read(sample, micro))
    reader.close()


class Failing(tokens.TokenStream):
    """A disk that fails from some block on."""

    def block(self, number: int, length: int) -> np.ndarray:
        if self.fails:
            raise InputError("cannot be read")
        return super().block(number, length)

    fails = False


def test_what_fails_while_reading_ahead_is_told_when_it_is_asked_for() -> None:
    stream = Failing(row().files, row().starts)
    reader = ReadAhead(Batches(stream, LENGTH, 8, 4, 0, 1, 0), Device("cpu", 0))
    reader.read(0, 0)
    reader.read(0, 1)
    Failing.fails = True
    try:
        with pytest.raises(InputError, match="cannot be read"):
            [reader.read(sample, 0) for sample in (8, 16)]
    finally:
        Failing.fails = False
        reader.close()
