"""The program that scores a model on one task: the only one that imports lm-evaluation-harness.

    python -m kit.release.tasks.harness RUN TASK FILE

`scoring` starts it, in a process that neither this kit's hub client nor `datasets` can go online from, and
whose caches are a folder that is removed afterwards. FILE gets the scores, or `{"error": ...}` for a
mistake of the user's.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cluster.oom_killer import OomKiller
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.errors import FAILED, EkidenError, InputError, JobFailed, StageError
from kit.store.files import read_json, write_json, write_text
from kit.store.paths import Run, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kit.release.tasks.files import TaskFile

_OFFLINE = dict.fromkeys(
    ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE", "TRANSFORMERS_OFFLINE"), "1"
)
_QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
_QUIET |= {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "LMEVAL_LOG_LEVEL": "ERROR"}
_SEED = 1234  # the harness's default, also for the examples shown


def scores(run: Run, task: TaskFile) -> dict[str, Any]:
    """Score the model of a run directory on a task, in a process of its own.

    Raises StageError for a mistake in the task's files, JobFailed if the process fails.
    """
    with tempfile.TemporaryDirectory(prefix="ekiden-scores-") as folder:
        found = Path(folder, "scores.json")
        home = str(Path(__file__).resolve().parents[3])  # the code of this job, and no other
        path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
        environment = os.environ | _OFFLINE | _QUIET
        environment |= {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "HF_HOME": folder}
        for own in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_MODULES_CACHE", "HF_XET_CACHE"):
            environment.pop(own, None)
        command = [sys.executable, "-m", __name__, str(run.root), task.name, str(found)]
        how = _ended(command, environment)
        if not found.is_file():
            raise JobFailed(f"evaluate: {task.name}: its process {how}; its messages are above")
        result: dict[str, Any] = read_json(found)
    if "error" in result:
        raise StageError(f"release.tasks: {task.name} ({task.path}): {result['error']}")
    return result


def _ended(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a program; returns how it ended."""
    with closing(OomKiller()) as killer, subprocess.Popen(command, env=environment) as process:
        code = process.wait()
        oom = killer.first_killed({"it": process})
    return f"was {oom.text}" if oom else f"ended with exit code {code}"


def main(root: str, name: str, out: str) -> int:
    """Score the run's model on the task of that name, and write the scores into a file."""
    from kit.release.tasks import tasks_of

    run = Run(Path(root))
    recipe = read_resolved(run.recipe, Recipe)
    (task,) = [task for task in tasks_of(recipe.release) if task.name == name]
    try:
        with _model(run, recipe) as model:
            result = evaluated(task, model)
    except EkidenError as error:
        result = {"error": str(error)}
        write_json(Path(out), result)
        return error.exit_code
    write_json(Path(out), result)
    return 0


def evaluated(task: TaskFile, model: Any) -> dict[str, Any]:
    """The scores of a model of the harness on a task. Raises InputError as `loaded`."""
    harness: Any = importlib.import_module("lm_eval")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    tasks = loaded(task)
    _seed(tasks["tasks"][task.name])
    # Not simple_evaluate, which also lists all packages of the machine.
    found = harness.evaluate(model, tasks, log_samples=False)
    return {
        "task": task.name,
        "metrics": _metrics(found["results"][task.name]),
        "examples": found["n-samples"][task.name]["effective"],
        "shots": found["n-shot"].get(task.name, 0),
    }


def _seed(task: Any) -> None:
    """Set the seeds that simple_evaluate of the harness sets, and its number of examples."""
    import random

    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(_SEED)
    torch.manual_seed(_SEED)
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=_SEED)


def loaded(task: TaskFile) -> Any:
    """The task with its data. Raises InputError for a file that the harness or `datasets` refuses."""
    import yaml

    arguments = dict(task.replaced.get("dataset_kwargs", {})) | {"data_files": task.data_files}
    tree: dict[str, Any] = {
        "include": str(task.path),
        "task": task.name,
        "dataset_path": task.builder,
    }
    tree |= {**task.replaced, "dataset_kwargs": arguments}
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, "task.yaml")
        write_text(own, yaml.safe_dump(tree, allow_unicode=True, sort_keys=False))
        try:
            if task.columns:
                _require_columns(task)
            tasks: Any = importlib.import_module("lm_eval.tasks")
            # The harness's own folder of thousands is not read.
            return tasks.TaskManager(include_defaults=False).load(str(own))
        except EkidenError:
            raise
        except Exception as error:  # anything: a task has code of its own
            raise InputError(_brief(error)) from None


def _require_columns(task: TaskFile) -> None:
    """Raise InputError if the data of one of the eight lack a column."""
    datasets: Any = importlib.import_module("datasets")
    for split, rows in datasets.load_dataset(task.builder, data_files=task.data_files).items():
        if missing := sorted(task.columns - set(rows.column_names)):
            raise InputError(
                f"{task.data_files[split][0]}: has no column {missing[0]}; its columns are "
                f"{', '.join(rows.column_names)}"
            )


@contextlib.contextmanager
def _model(run: Run, recipe: Recipe) -> Iterator[Any]:
    """The model of the run directory, with the segmenter of its corpus unless texts are taken raw."""
    import torch

    from kit.corpus import segment
    from kit.data import tokenizer_file
    from kit.release import source as sources
    from kit.release.loaded import load_model
    from kit.release.prepared import Encoder
    from kit.release.tasks.model import ScoringModel

    model = load_model(recipe, sources.source_of(run))
    on_gpu = read_resolved(run.cluster, Cluster).device == "cuda" and torch.cuda.is_available()
    model = model.cuda() if on_gpu else model.float()
    tokenizer = tokenizer_file.load(Workspace(Path(recipe.workspace)).tokenizer)
    if recipe.release.tasks_text == "raw":
        yield ScoringModel(model, tokenizer, None)
        return
    corpus = recipe.corpus
    with segment.open(corpus.segmenter, corpus.segmenter_version, workers=1) as words:
        yield ScoringModel(model, tokenizer, Encoder(tokenizer, corpus, words))


def _metrics(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics of a task in the harness's own form, `acc,none`, with their standard errors."""
    found = []
    for key, value in values.items():
        name, comma, filtered = key.partition(",")
        if not comma or name.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = values.get(f"{name}_stderr,{filtered}")
        one = {"metric": name, "value": float(value)}
        if filtered != "none":
            one["filter"] = filtered
        if isinstance(error, int | float):
            one["stderr"] = float(error)
        found.append(one)
    return found


def _brief(error: Exception) -> str:
    """The message of a library, in one line."""
    cause = error.__cause__ or error
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:300]


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except EkidenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
