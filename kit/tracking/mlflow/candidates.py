"""The candidates for a tokenizer as runs in MLflow, with their measures and plots."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kit.store import manifest
from kit.store.files import file_hash, text_hash
from kit.tracking.mlflow import client as door
from kit.tracking.mlflow import runs
from kit.tracking.mlflow.address import tracking_uri
from kit.tracking.mlflow.params import within_limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kit.config.recipe import Recipe

_PLOT_TAG = "ekiden.plot"  # the hash of the uploaded plot


def candidate_identity(folder: Path) -> str:
    """A hash of everything that determines a candidate. Raises StageError if it is not done."""
    fingerprint = manifest.fingerprint(folder, "jobs.tokenizer")
    return f"{text_hash(f'{folder.resolve()}:{fingerprint}'):016x}"


def publish_candidate(
    recipe: Recipe,
    name: str,
    identity: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    plot: Path,
) -> str | None:
    """Publish a candidate for the tokenizer as a run; returns a problem in one line, or None.

    A second call with the same `identity` (see `candidate_identity`) updates the run of the first.
    """
    if recipe.tracking.mlflow is None:
        return None
    try:
        client = door.connect(recipe)
        run = runs.with_params(
            client, recipe, runs.CANDIDATE_TAG, identity, name, within_limits(params)
        )
        _finish(client, run, metrics, plot)
    except Exception as error:  # MLflow may raise anything
        return f"{tracking_uri(recipe)}: {door.brief(error)}"
    return None


def _finish(client: Any, run: Any, metrics: Mapping[str, float], plot: Path) -> None:
    """Add to a run the metrics and the plot that it lacks, and end it."""
    identity, now = run.info.run_id, int(time.time() * 1000)
    fresh = [
        door.entities().Metric(key, value, now, 0)
        for key, value in metrics.items()
        if run.data.metrics.get(key) != value
    ]
    if fresh:
        client.log_batch(identity, metrics=fresh)
    digest = file_hash(plot)
    if run.data.tags.get(_PLOT_TAG) != digest:
        client.log_artifact(identity, str(plot))
        client.set_tag(identity, _PLOT_TAG, digest)
    if run.info.status != "FINISHED":
        client.set_terminated(identity, "FINISHED")
