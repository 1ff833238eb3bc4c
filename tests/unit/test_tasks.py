"""Task files of lm-evaluation-harness as the kit reads them: data, hashes, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from kit.config import score_tasks
from kit.config.recipe import Release
from kit.config.section import RECORDED
from kit.errors import StageError
from kit.release.tasks import files, leaderboard, tasks_of

if TYPE_CHECKING:
    from pathlib import Path

    from kit.release.tasks.files import TaskFile

TASK = """
task: terms
dataset_path: json
dataset_kwargs: {data_files: {train: shots.jsonl, test: "part-*.jsonl"}, field: null}
doc_to_text: !function prompts.question
metric_list: [{metric: acc_norm}, {metric: acc}]
metadata: {version: 2, hub: someone/terms, hub_task: main}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A task with its data and a module beside it."""
    (tmp_path / "terms.yaml").write_text(TASK)
    (tmp_path / "prompts.py").write_text("def question(doc):\n    return doc['q']\n")
    for name in ("shots", "part-1", "part-2"):
        (tmp_path / f"{name}.jsonl").write_text('{"q": "駅伝"}\n')
    return tmp_path / "terms.yaml"


def read(path: Path) -> TaskFile:
    (task,) = files.read(f"release.tasks.0={path}")
    return task


def hashes(path: Path) -> dict[str, str]:
    task = read(path)
    return {"data": task.data, "definition": task.definition}


def refused(path: Path) -> str:
    with pytest.raises(StageError) as caught:
        files.read(f"release.tasks.0={path}")
    return str(caught.value)


def test_the_data_of_a_task_lie_beside_its_file(path: Path) -> None:
    task, folder = read(path), path.parent
    assert task.data_files == {
        "train": [f"{folder}/shots.jsonl"],
        "test": [f"{folder}/part-1.jsonl", f"{folder}/part-2.jsonl"],
    }
    assert (task.name, task.builder, task.metric, task.version) == (
        "terms",
        "json",
        "acc_norm",
        "2",
    )
    assert task.hub == ("someone/terms", "main")
    assert task.replaced["dataset_kwargs"]["field"] is None


def test_a_folder_stands_for_its_tasks(path: Path) -> None:
    (path.parent / "_common.yaml").write_text("doc_to_target: '{{q}}'\n")
    assert files.read(f"release.tasks.0={path.parent}") == [read(path)]


@pytest.mark.parametrize(
    ("changed", "of"),
    [("shots.jsonl", "data"), ("part-2.jsonl", "data")]
    + [(name, "definition") for name in ("terms.yaml", "prompts.py", "base.yaml")],
)
def test_everything_that_a_score_depends_on_changes_a_hash(
    path: Path, changed: str, of: str
) -> None:
    (path.parent / "base.yaml").write_text("num_fewshot: 1\n")
    path.write_text(f"{TASK}include: base.yaml\n")
    before = hashes(path)
    with (path.parent / changed).open("a") as file:
        file.write(" \n")
    after = hashes(path)
    assert [name for name in before if before[name] != after[name]] == [of]


def test_what_a_file_includes_gives_way_to_its_own_keys(path: Path) -> None:
    (path.parent / "base.yaml").write_text("task: base\nmetadata: {version: 1}\nnum_fewshot: 3\n")
    path.write_text(f"{TASK}include: base.yaml\n")
    tree, sources = files.content("release.tasks.0", path)
    assert (tree["task"], tree["num_fewshot"], tree["metadata"]["version"]) == ("terms", 3, 2)
    assert [source.name for source in sources] == ["terms.yaml", "prompts.py", "base.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("shots.jsonl", "none.jsonl", "none.jsonl: no such file; copy it"),
        ("shots.jsonl", "https://x.test/a.jsonl", "https://x.test/a.jsonl: no such file; copy it"),
        ("task: terms", "task: [a, b]", "not the name of a task"),
        ("task: terms", "task: a/b", "task='a/b' is not the name of a task"),
        ("path: json", "path: Rakuten/JGLUE", "dataset_path=Rakuten/JGLUE is not on this machine"),
        ("dataset_kwargs", "dataset_keys", "has no dataset_kwargs.data_files"),
        ("task: terms", "task: [", "damaged YAML (line"),
        ("!function", "!other", "damaged YAML (line 5"),
        ("\ntask", "\ninclude: terms.yaml\ntask", "includes itself"),
        ("\ntask", "\ninclude: gone.yaml\ntask", "gone.yaml: No such file or directory; name"),
    ],
)
def test_a_task_that_cannot_be_read_is_one_line(
    path: Path, old: str, new: str, message: str
) -> None:
    path.write_text(TASK.replace(old, new, 1))
    line = refused(path)
    assert message in line
    assert line.startswith("release.tasks.0=")
    assert "\n" not in line


def test_files_that_are_no_tasks_are_one_line(path: Path) -> None:
    assert "No such file or directory" in refused(path.with_name("other.yaml"))
    path.write_bytes(b"task: \x82\xa0")
    assert "byte 6 is not valid UTF-8" in refused(path)
    path.write_text("駅伝")
    assert "no keys in it" in refused(path)
    path.unlink()
    assert "no task in this folder" in refused(path.parent)


def test_the_eight_are_named_by_either_name() -> None:
    assert len(score_tasks.names("japanese_leaderboard")) == 8
    assert score_tasks.names("jnli") == score_tasks.names("ja_leaderboard_jnli") == ["jnli"]
    assert score_tasks.names("ja_leaderboard_xlsum") == ["xlsum_ja"]
    assert score_tasks.names("mmlu") == []


def eight(folder: Path, *, ending: str = ".jsonl") -> Path:
    """Files of the layout, whose content nobody reads here."""
    for name, layout in leaderboard.LAYOUTS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for split in filter(None, (layout.scored, layout.shown)):
            (folder / name / f"{split}{ending}").write_text(json.dumps({"a": 1}))
    return folder


def test_the_eight_take_their_data_from_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="needs ekiden[scores]")
    names = [name for name in leaderboard.LAYOUTS if name != "xlsum_ja"]
    found = tasks_of(Release(tasks=names, tasks_data=str(eight(tmp_path))))
    assert [task.name for task in found] == names
    jnli, winograd = found[1], found[names.index("xwinograd_ja")]
    assert [*jnli.data_files] == ["train", "validation"]
    assert (jnli.hub, jnli.metric) == (("Rakuten/JGLUE", "JNLI"), "acc")
    assert winograd.data_files == {"test": [f"{tmp_path}/xwinograd_ja/test.jsonl"]}
    assert winograd.replaced["training_split"] is None


@pytest.mark.parametrize(
    ("tasks", "data", "message"),
    [
        (["jnli"], "/nowhere", "/nowhere/jnli/train: no such file (.jsonl, .json, .parquet)"),
    ],
)
def test_a_name_without_its_data_is_one_line(
    tasks: list[str], data: str | None, message: str
) -> None:
    pytest.importorskip("lm_eval", reason="needs ekiden[scores]")
    with pytest.raises(StageError) as caught:
        tasks_of(Release(tasks=tasks, tasks_data=data))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("tasks", "data", "message"),
    [
        (["./a.yaml", "mmlu"], "/data", "mmlu is not one of jcommonsenseqa, jnli"),
        (["./a.yaml", "jnli"], None, "tasks has jnli; set tasks_data to the folder"),
    ],
)
def test_a_name_that_nobody_knows_or_without_a_folder_is_refused_by_load(
    tasks: list[str], data: str | None, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Release(tasks=tasks, tasks_data=data)
    given = {"tasks": tasks, "tasks_data": data}
    assert Release.model_validate(given, context=RECORDED).tasks == tasks


def test_each_name_has_a_layout_of_its_data() -> None:
    assert (*leaderboard.LAYOUTS,) == score_tasks.TASKS


def test_two_tasks_of_one_name_are_refused(path: Path) -> None:
    pytest.importorskip("lm_eval", reason="needs ekiden[scores]")
    with pytest.raises(StageError, match="are both named terms; rename one"):
        tasks_of(Release(tasks=[str(path), str(path)]))


def test_without_the_package_tasks_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.release.tasks.HARNESS", "no-such-package")
    assert tasks_of(Release()) == []
    with pytest.raises(StageError, match=r"pip install 'ekiden\[scores\]', or leave the key out"):
        tasks_of(Release(tasks=["jnli"], tasks_data="/data"))
