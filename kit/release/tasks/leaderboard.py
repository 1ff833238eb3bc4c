"""The eight tasks of `japanese_leaderboard`, as lm-evaluation-harness has them, on data in a folder.

The harness brings their prompts and metrics; their data are on the Hub. Here each reads its rows, with the
same columns as there, from files of the user:

    FOLDER/jcommonsenseqa/train.jsonl, FOLDER/jcommonsenseqa/validation.jsonl, ...

`train` has the examples shown before each question. Numbers of examples and columns are those of the task
files of lm-evaluation-harness 0.4.13.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from kit.config.score_tasks import GROUP, in_harness
from kit.errors import StageError
from kit.release.tasks import files
from kit.release.tasks.files import TaskFile

_ENDINGS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


class Layout(NamedTuple):
    """The data of a task: the split that is scored, that of the examples, the columns of both."""

    scored: str
    shown: str | None
    columns: tuple[str, ...]
    packages: tuple[str, ...] = ()  # that its metric needs


_CHOICES = tuple(f"choice{number}" for number in range(5))
LAYOUTS = {  # of each of kit/config/score_tasks.py
    "jcommonsenseqa": Layout("validation", "train", ("question", *_CHOICES, "label")),
    "jnli": Layout("validation", "train", ("sentence1", "sentence2", "label")),
    "marc_ja": Layout("validation", "train", ("sentence", "label")),
    "jsquad": Layout("validation", "train", ("context", "question", "answers")),
    "jaqket_v2": Layout("validation", "train", ("question", "ctxs", "answers")),
    "xlsum_ja": Layout("test", "train", ("text", "summary"), ("emoji", "unidic_lite")),
    "xwinograd_ja": Layout("test", None, ("sentence1", "sentence2", "answer")),
    "mgsm": Layout("test", "train", ("question", "answer", "answer_number")),
}


def task(key: str, name: str, folder: Path) -> TaskFile:
    """One of the eight, on the data in a folder; `key` is its place in the recipe.

    Raises StageError without a package of the metric, or the data.
    """
    layout = LAYOUTS[name]
    missing = [package for package in layout.packages if find_spec(package) is None]
    if missing:
        raise StageError(f"{key}: {missing[0]} is not installed; pip install 'ekiden[scores]'")
    path = _path(name)
    tree, sources = files.content(key, path)
    # The first decides the types of columns: the answers of mgsm's test are null.
    splits = [*([layout.shown] if layout.shown else []), layout.scored]
    found = {split: _data(key, folder / name, split) for split in splits}
    builders = {_ENDINGS[file.suffix] for file in found.values()}
    if len(builders) > 1:
        raise StageError(f"{key}: {folder / name} mixes JSON and parquet; give both splits as one")
    without = {"training_split": layout.shown, "validation_split": None, "test_split": None}
    return TaskFile(
        name,
        path,
        builders.pop(),
        {split: [str(file)] for split, file in found.items()},
        "rouge2" if name == "xlsum_ja" else str(tree["metric_list"][0]["metric"]),
        files.version_of(tree),
        (str(tree["dataset_path"]), str(tree.get("dataset_name") or "default")),
        {"dataset_name": None, **without, f"{layout.scored}_split": layout.scored},
        frozenset(layout.columns),
        tuple(sources),
    )


def _path(name: str) -> Path:
    spec = find_spec("lm_eval")
    assert spec is not None  # `tasks_of` has looked
    assert spec.origin is not None
    return Path(spec.origin).parent / "tasks" / GROUP / f"{in_harness(name)}.yaml"


def _data(key: str, folder: Path, split: str) -> Path:
    for ending in _ENDINGS:
        if (file := folder / f"{split}{ending}").is_file():
            return file.resolve()
    endings = ", ".join(_ENDINGS)
    raise StageError(f"{key}: {folder}/{split}: no such file ({endings}); put the data there")
