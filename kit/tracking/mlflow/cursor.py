"""The cursor: how much of a run MLflow has, as a JSON file of the run directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from kit.store.files import read_json, text_hash

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from kit.tracking.rows import CurveRow


class Position(TypedDict):
    """The position up to which the ledger was searched for rows of kind `devices`."""

    attempt: int
    step: int
    time: float  # Unix, of the last row that was sent


class Cursor(TypedDict, total=False):
    """`mlflow-cursor.json`; empty before the first row."""

    run: str  # MLflow's id
    experiment: str
    uri: str | None
    sent: dict[str, int]  # the last step that it has, by kind of row
    sending: list[CurveRow]  # being sent
    devices: Position
    noted: dict[str, str]  # a hash of everything else that it has, by name: tags, artifacts, model
    status: str


def read(run: Run, recipe: Recipe) -> Cursor:
    """The cursor of the run; empty if it belongs to another MLflow than the recipe's."""
    try:
        cursor: Cursor = read_json(run.mlflow_cursor)
    except FileNotFoundError:
        return {}
    uri = str(cursor.get("uri"))
    # An earlier version recorded the path, which changes if the workspace is moved.
    is_own = recipe.tracking.mlflow == "workspace" and uri.startswith("sqlite:")
    return cursor if is_own or uri == recipe.tracking.mlflow else {}


def status(run: Run) -> str | None:
    """The status that MLflow shows, as far as the cursor says."""
    if not run.mlflow_cursor.is_file():
        return None
    cursor: Cursor = read_json(run.mlflow_cursor)
    return cursor.get("status")


def holds(cursor: Cursor, name: str, content: str) -> bool:
    """Whether MLflow has something with that content."""
    return cursor.get("noted", {}).get(name) == hash_of(content)


def hash_of(content: str) -> str:
    """The hash by which the cursor notes a content."""
    return f"{text_hash(content):016x}"


def page(run: Run, recipe: Recipe) -> str | None:
    """The path of the run's experiment, to append to the address of MLflow; None before MLflow has it.

    Without `workflowType` the page opens on its view for traces of language models.
    """
    cursor = read(run, recipe)
    if "experiment" not in cursor:
        return None
    return f"/#/experiments/{cursor['experiment']}/runs?workflowType=machine_learning"
