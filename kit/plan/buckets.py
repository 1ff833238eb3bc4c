"""The buckets that the time of a run is split into: every second belongs to one.

`kit/watch/goodput.py` counts them in a run, `kit/plan/simulation` plays them. Their names follow
ml-goodput-measurement (Google).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

BUCKETS: Mapping[str, str] = {
    "kept_steps": "steps that were kept",
    "redone_steps": "steps lost and done again",
    "validation": "validation",
    "saves": "waiting for saves",
    "startup_import": "start-up: imports",
    "startup_ranks": "start-up: waiting for ranks",
    "startup_load": "start-up: model and checkpoint load",
    "startup_first_step": "start-up: first step, beyond a usual one",
    "hang": "hangs",
    "ending": "ending an attempt",
    "queue": "requeue and queue",
    "earlier_stages": "stages before the training",
    "stopped": "stopped by you",
    "failed": "failed, until submitted again",
    "finished": "finished, until it was extended",
    "unknown": "unknown",
}
KEPT, UNKNOWN = "kept_steps", "unknown"
COLOURS: Mapping[str, str] = {  # of a bucket in charts: names of kit.output.charts.chart.COLOURS
    "kept_steps": "blue",
    "redone_steps": "red",
    "validation": "sky",
    "saves": "green",
    "startup_import": "orange",
    "startup_ranks": "orange",
    "startup_load": "orange",
    "startup_first_step": "orange",
    "hang": "black",
    "ending": "purple",
    "queue": "yellow",
    "earlier_stages": "pale",
    "stopped": "grey",
    "failed": "black",
    "finished": "pale",
    "unknown": "grey",
}
