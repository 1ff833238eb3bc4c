"""Experiments and runs in MLflow: found by a tag of the kit, restored from the trash, or created.

Two publishers may create a run at the same moment. Each looks again after it has created one: the oldest
counts, and the others lose their tag and go to the trash. Whoever sent rows to one of those finds the
oldest at its next error, and sends the whole ledger there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.tracking import sqlite
from kit.tracking.mlflow import client as door
from kit.tracking.mlflow.address import sqlite_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.config.recipe import Recipe
    from kit.tracking.mlflow.params import Params

TAG, CANDIDATE_TAG = "ekiden.run", "ekiden.candidate"
_DUPLICATE_TAG, _CUT_TAG = "ekiden.duplicate_of", "ekiden.cut"
_AMENDED_TAG = "amended."  # before the name of a parameter
# Makes the page show training runs; without it some versions show traces of language models.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_SOURCE = {"mlflow.source.name": "ekiden", "mlflow.source.type": "JOB"}
_MAX_TAG = 8000  # characters: mlflow/utils/validation.py of 3.17


def with_params(
    client: Any, recipe: Recipe, tag: str, identity: str, name: str, params: Params
) -> Any:
    """MLflow's run with the tag and these parameters: found, restored, or created."""
    experiment = _experiment(client, recipe)
    run = find(client, experiment, tag, identity) or _create(
        client, experiment, tag, identity, name
    )
    has, tags = run.data.params, run.data.tags
    values = params.values
    missing = {key: value for key, value in values.items() if key not in has}
    shown = {key: tags.get(f"{_AMENDED_TAG}{key}", has.get(key, values[key])) for key in values}
    fresh = {f"{_AMENDED_TAG}{key}": values[key] for key in values if shown[key] != values[key]}
    if params.cut:
        text = f"{', '.join(params.cut)}: longer than MLflow allows; whole in recipe.json"
        fresh |= {_CUT_TAG: text[:_MAX_TAG]} if tags.get(_CUT_TAG) != text[:_MAX_TAG] else {}
    door.log_texts(client, run.info.run_id, missing, fresh)
    return run


def find(client: Any, experiment: str, tag: str, identity: str) -> Any:
    """The experiment's run with that tag, restored from the trash if necessary; None without one."""
    query = f"tags.`{tag}` = '{identity}'"
    if runs := client.search_runs([experiment], query):
        return _only(client, runs, tag)
    deleted = door.entities().ViewType.DELETED_ONLY
    if runs := client.search_runs([experiment], query, deleted):
        run = _oldest(runs)
        client.restore_run(run.info.run_id)
        door.warn(f"{run.info.run_name} was in the trash; restored")
        return run
    return None


def _create(client: Any, experiment: str, tag: str, identity: str, name: str) -> Any:
    created = client.create_run(experiment, tags={tag: identity, **_SOURCE}, run_name=name)
    return find(client, experiment, tag, identity) or created


def _only(client: Any, runs: list[Any], tag: str) -> Any:
    """The oldest run; the others lose their tag and go to the trash."""
    kept = _oldest(runs)
    for run in runs:
        other = run.info.run_id
        if other != kept.info.run_id:
            client.set_tag(other, _DUPLICATE_TAG, kept.info.run_id)
            client.delete_tag(other, tag)
            client.delete_run(other)
            door.warn(f"{run.info.run_name} was there twice; the younger one is in the trash")
    return kept


def _oldest(runs: list[Any]) -> Any:
    return min(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def _experiment(client: Any, recipe: Recipe) -> str:
    """The id of the recipe's experiment, found or created; its files are beside a sqlite store."""
    name, store = recipe.tracking.experiment, sqlite_file(recipe)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # By default they would be in the current directory.
        location = None if store is None else sqlite.artifacts_of(store)
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=_KIND))
        except door.refusal():  # another task may have been faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    identity = str(experiment.experiment_id)
    if experiment.lifecycle_stage == "deleted":  # its name is still taken
        client.restore_experiment(identity)
        door.warn(f"the experiment {name} was in the trash; restored with its runs")
    _tag(client, identity, experiment.tags)
    return identity


def _tag(client: Any, identity: str, tags: Mapping[str, str]) -> None:
    for key, value in _KIND.items():
        if key not in tags:
            client.set_experiment_tag(identity, key, value)
