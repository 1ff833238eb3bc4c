"""Objects that every part of an attempt shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.training.collectives import Collectives
    from kit.training.device import Device
    from kit.training.health import Watchdog


@dataclass(frozen=True)
class Context:
    """One rank's context in an attempt: run and recipe, cluster and device, and the other ranks."""

    run: Run
    recipe: Recipe
    cluster: Cluster
    attempt: Attempt
    device: Device
    collectives: Collectives
    watchdog: Watchdog
