"""Everything besides the curve: the data as an input, files as artifacts, the export as a model.

The weights of a release stay where they are: a model in MLflow names the folder, and holds its card and its
configuration. Everything is sent once, and again if it has changed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config import relocation
from kit.data import index
from kit.errors import StageError
from kit.store import manifest
from kit.store.files import file_hash
from kit.store.paths import MANIFEST, Workspace
from kit.tracking import ledger, scores
from kit.tracking.mlflow import client as door
from kit.tracking.mlflow import curve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from kit.tracking.mlflow.store import Store
    from kit.tracking.scores import ScoreRow

_MAX_BYTES = 10_000_000  # of an artifact; a report has at most 1 MB
_OF_MODEL = ("README.md", "config.json", "generation_config.json")
_TAGGED = "ekiden.release"  # of a model: the fingerprint of the export


def send(store: Store, run: Run, recipe: Recipe) -> str | None:
    """Send the results that MLflow lacks; returns the first problem in one line, or None.

    A server may have no registry, or take no files: that must not keep the rest from it.
    """
    problem = None
    senders: tuple[Callable[[Store, Run, Recipe], None], ...] = (
        _send_recipe, _send_data, _send_files, _send_samples, _send_scores, _send_model,
    )  # fmt: skip
    for sender in senders:
        try:
            sender(store, run, recipe)
        except Exception as error:  # MLflow may raise anything
            problem = problem or door.brief(error)
    return problem


def contents(run: Run, recipe: Recipe) -> dict[str, str]:
    """The results so far: content by name, as the cursor notes them once they are sent."""
    found = {f"file {path}": file_hash(file) for path, file in _files(run)}
    found["recipe"] = _recipe_text(recipe)
    if dataset := _dataset(recipe):
        found["data"] = dataset["digest"]
    if text := _samples(run):
        found["samples"] = text
    found |= {_name_of(row): str(row["value"]) for row in scores.current(run)}
    if fingerprint := _export(run):
        found["model"] = fingerprint
    return found


def _recipe_text(recipe: Recipe) -> str:
    tree = relocation.without_secrets(recipe.model_dump(mode="json"))
    return json.dumps(tree, ensure_ascii=False, indent=1)


def _send_recipe(store: Store, run: Run, recipe: Recipe) -> None:  # noqa: ARG001
    text = _recipe_text(recipe)
    if not store.has("recipe", text):
        store.client.log_text(store.id, text, "recipe.json")
        store.note({"recipe": text})


def _dataset(recipe: Recipe) -> dict[str, str]:
    """The tokens as a data set of MLflow; empty if they are not complete."""
    folder = Workspace(Path(recipe.workspace)).tokens_index.parent
    try:
        files = index.load(recipe)
    except (StageError, OSError):
        return {}
    profile = {"files": len(files.folders), "bytes": {k: sum(v) for k, v in files.sizes.items()}}
    return {
        "name": ", ".join(recipe.corpus.sources)[:500],
        "digest": files.fingerprint,
        "source_type": "local",
        "source": json.dumps({"uri": str(folder)}),
        "profile": json.dumps(profile),
    }


def _send_data(store: Store, run: Run, recipe: Recipe) -> None:  # noqa: ARG001
    dataset = _dataset(recipe)
    if dataset and not store.has("data", dataset["digest"]):
        kinds = door.entities()
        context = [kinds.InputTag("mlflow.data.context", "training")]
        store.client.log_inputs(store.id, [kinds.DatasetInput(kinds.Dataset(**dataset), context)])
        store.note({"data": dataset["digest"]})


def _files(run: Run) -> Iterator[tuple[str, Path]]:
    """Samples of the released model, its scores, and the report with its pictures, by artifact path."""
    for folder in (run.samples, run.evaluation):
        if (folder / MANIFEST).is_file():
            for file in sorted(folder.iterdir()):
                if file.name != MANIFEST:
                    yield folder.name, file
    for file in (run.root / "report.html", *sorted(run.root.glob("report/*.*"))):
        if file.is_file() and file.stat().st_size <= _MAX_BYTES:
            yield "report", file


def _send_files(store: Store, run: Run, recipe: Recipe) -> None:  # noqa: ARG001
    for folder, file in _files(run):
        name, content = f"file {folder}/{file.name}", file_hash(file)
        if not store.has(name, content):
            store.client.log_artifact(store.id, str(file), folder)
            store.note({name: content})


def _samples(run: Run) -> str:
    """The texts that the model wrote during training, from rows of kind `sample`."""
    texts = []
    for attempt in filter(lambda one: one.ledger.is_file(), ledger.attempts(run)):
        with attempt.ledger.open("rb") as lines:
            for line in lines:  # most of a million lines need not be parsed
                if line.startswith(b'{"kind": "sample"') and line.endswith(b"\n"):
                    row = json.loads(line)
                    texts.append(f"step {row['step']}\n{row['text']}\n")
    return "\n".join(texts)


def _name_of(row: ScoreRow) -> str:
    return f"score {row['step']} {row['weights']} {scores.column(row)}"


def _send_scores(store: Store, run: Run, recipe: Recipe) -> None:  # noqa: ARG001
    """Send the scores of evaluations as metrics at the steps of their checkpoints."""
    for row in scores.current(run):
        name, value = _name_of(row), row["value"]
        if not store.has(name, str(value)):
            metrics = curve.metrics(
                {f"score/{scores.column(row)}": value}, row["time"], row["step"]
            )
            store.client.log_batch(store.id, metrics=metrics)
            store.note({name: str(value)})


def _send_samples(store: Store, run: Run, recipe: Recipe) -> None:  # noqa: ARG001
    text = _samples(run)
    if text and not store.has("samples", text):
        store.client.log_text(store.id, text, "samples/training.txt")
        store.note({"samples": text})


def _export(run: Run) -> str | None:
    """The fingerprint of the export, if there is one."""
    try:
        return manifest.fingerprint(run.export, "jobs.export")
    except StageError:
        return None


def _send_model(store: Store, run: Run, recipe: Recipe) -> None:
    """The export as a logged model of the run, and as a version in the registry."""
    fingerprint = _export(run)
    if fingerprint is None or store.has("model", fingerprint):
        return
    client = store.client
    tags = {_TAGGED: fingerprint, "ekiden.directory": str(run.export)}
    query = f"tags.`{_TAGGED}` = '{fingerprint}'"
    found = client.search_logged_models([store.experiment], query)
    model = next(iter(found), None) or client.create_logged_model(
        store.experiment, recipe.name, store.id, tags, model_type="transformers"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in _OF_MODEL:
            if (run.export / name).is_file():
                (Path(folder) / name).write_bytes((run.export / name).read_bytes())
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    _register(store, recipe.name, model, tags)
    store.note({"model": fingerprint})


def _register(store: Store, name: str, model: Any, tags: dict[str, str]) -> None:
    client = store.client
    try:
        client.create_registered_model(name)
    except door.refusal():  # it is there already
        client.get_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}'")
    if not any(version.tags.get(_TAGGED) == tags[_TAGGED] for version in versions):
        client.create_model_version(
            name, model.artifact_location, store.id, tags, model_id=model.model_id
        )
