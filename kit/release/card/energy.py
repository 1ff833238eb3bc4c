"""An estimate of the energy of a training and its CO2.

    energy = device hours x power of a device x PUE
    CO2    = energy x carbon intensity of the grid

Device hours are those for which nodes were held, lost steps and start-ups included. The power is the mean
of NVML's readings of the GPUs of rank 0's node; without readings it is the limit of the board, an upper
bound. Processors, memory and network of the nodes are not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.config.devices import ACCELERATORS
from kit.release.card.facts import EnergyFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kit.config.recipe import Release
    from kit.tracking.rows import GpuReading

_HOUR = 3600  # seconds


def estimate(
    held_seconds: float, readings: Iterable[float], accelerator: str | None, release: Release
) -> EnergyFacts | None:
    """The estimate for GPUs that were held for `held_seconds` together; None if their power is unknown.

    `readings` are watts of a device at moments of the run.
    """
    read = [*readings]
    if read:
        watts = sum(read) / len(read)
    elif accelerator is not None:
        watts = ACCELERATORS[accelerator].power
    else:
        return None
    hours = held_seconds / _HOUR
    kwh = hours * watts / 1000 * (release.pue or 1)
    grid = release.grid_gco2_per_kwh
    co2 = None if grid is None else kwh * grid / 1000
    return EnergyFacts(hours, watts, bool(read), release.pue, kwh, grid, co2)


def power(gpus: Sequence[GpuReading], used: int) -> float | None:
    """The mean power of the `used` GPUs of a node that draw most, in watts; None if one is not known.

    A node may have more GPUs than the job: these are idle.
    """
    known = sorted((gpu["power"] for gpu in gpus if gpu["power"] is not None), reverse=True)[:used]
    return sum(known) / used if 0 < used == len(known) else None
