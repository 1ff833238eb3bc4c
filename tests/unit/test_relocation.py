"""A workspace that moved: everything in it is found where it lies now, and nothing is stale."""

from __future__ import annotations

import gzip
import os
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from kit.config import relocation
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.corpus import download
from kit.data import shards
from kit.errors import ConfigError, RunError
from kit.relay import report, resolve
from kit.relay.stages import STAGES, TRAIN
from kit.relay.submit import ensure_inputs_free
from kit.run import directory
from kit.store.files import read_json, write_json
from kit.store.paths import Run, Workspace
from kit.tracking import summaries
from kit.tracking.mlflow import params
from kit.watch.report import of_record
from tests.conftest import units_of

if TYPE_CHECKING:
    from kit.watch.report.content import Content
    from tests.conftest import Workdir


@pytest.fixture
def made(workdir: Workdir) -> Run:
    """A run that has begun, over a text that is read where it lies and one that is cut into parts."""
    packed = workdir.folder / "web.txt.gz"
    packed.write_bytes(gzip.compress(workdir.web.read_bytes()))
    project = resolve.load(workdir.recipe_file, [f"corpus.sources.web.location={packed}"])
    workdir.make(project.recipe, "download")
    run = directory.prepare(project)
    run.attempt(1).root.mkdir(parents=True)
    return run


def move(made: Run, workdir: Workdir) -> Run:
    """The whole workdir, its texts too, under another name; the run at its new place."""
    now = workdir.folder.rename(workdir.folder.with_name(f"{workdir.folder.name}, elsewhere"))
    return Run(now / made.root.relative_to(workdir.folder))


def states(recipe: Recipe) -> set[str]:
    return {unit.state(verify=True) for unit in units_of(download, recipe)}


def test_a_workspace_that_moved_with_its_texts_is_done_as_before(
    made: Run, workdir: Workdir
) -> None:
    before = shards.pieces(read_resolved(made.recipe, Recipe))
    run = move(made, workdir)
    now = run.root.parents[2]
    overrides = [f"workspace={now / 'work'}", f"corpus.sources.web.location={now / 'web.txt.gz'}"]
    project = resolve.load(now / workdir.recipe_file.name, overrides)
    recipe = project.recipe
    assert states(recipe) == {"done"}
    pieces = shards.pieces(recipe)
    assert {Path(piece["path"]).parent for piece in pieces} == {now, now / "work" / "raw" / "web"}
    assert [piece["xxh3"] for piece in pieces] == [piece["xxh3"] for piece in before]
    assert {**STAGES[0].census(run, recipe)}["done"] == 2

    ensure_inputs_free(project, STAGES[:1])
    directory.prepare(project)
    assert resolve.load(run.root).recipe == recipe


def test_a_run_directory_is_read_as_of_where_it_lies(made: Run, workdir: Workdir) -> None:
    was = read_json(made.recipe)
    run = move(made, workdir)
    project, workspace = resolve.load(run.root), run.root.parents[1]
    assert Workspace(Path(project.recipe.workspace)).run("small") == run
    assert read_json(run.recipe) == was
    # Its texts lay outside: they are said to be gone, and where they lie now can be told.
    download_now = report.facts(project, [str(run.root)])["stages"]["download"]
    assert "no such file" in str(download_now)
    now = [f"corpus.sources.web.location={workspace.parent / 'web.txt.gz'}"]
    now.append(f"corpus.sources.jawiki.location={workspace.parent / 'dump.xml.bz2'}")
    assert states(resolve.load(run.root, now).recipe) == {"done"}
    with pytest.raises(ConfigError, match="recipe of a run directory is fixed"):
        resolve.load(run.root, ["corpus.sources.web.text_key=body"])
    assert directory.prepare(project) == run
    assert read_json(run.recipe)["workspace"] == str(workspace)


def test_the_commands_of_a_report_are_quoted(
    made: Run, workdir: Workdir, capsys: pytest.CaptureFixture[str]
) -> None:
    run = move(made, workdir)
    run.tensorboard.mkdir()
    report.show(report.facts(resolve.load(run.root), [str(run.root)]))
    said = capsys.readouterr().out
    assert shlex.join([".venv/bin/tensorboard", "--logdir", str(run.tensorboard)]) in said
    assert (
        shlex.join(["make", "mlflow", f"STORE=sqlite:///{run.root.parents[1]}/mlflow.db"]) in said
    )


def test_texts_that_lie_in_the_workspace_follow_it(made: Run, workdir: Workdir) -> None:
    inside = workdir.workspace.root / "texts"
    inside.mkdir()
    shutil.copy2(workdir.web, inside / "a.txt")
    write = [f"corpus.sources.web.location={inside}/*.txt", f"corpus.downloads={inside}"]
    recipe = workdir.recipe(*write)
    workdir.make(recipe, "download")
    write_json(made.recipe, recipe.model_dump(mode="json"))
    run = Run(workdir.workspace.root.rename(workdir.folder / "w 2") / "runs" / "small")
    read = read_resolved(run.recipe, Recipe)
    assert read.corpus.sources["web"].location == f"{workdir.folder}/w 2/texts/*.txt"
    assert read.corpus.downloads == f"{workdir.folder}/w 2/texts"
    assert states(read) == {"done"}


def test_another_text_in_the_place_of_the_first_is_refused(made: Run, workdir: Workdir) -> None:
    other = workdir.folder / "other.txt.gz"
    other.write_bytes(gzip.compress(b"not the text that was cut\n"))
    project = resolve.load(made.root, [f"corpus.sources.web.location={other}"])
    for stages in (STAGES[:1], (TRAIN,)):
        with pytest.raises(RunError, match="its size or modification time"):
            ensure_inputs_free(project, stages)


def test_a_linked_run_directory_belongs_to_the_workspace_that_links_it(
    made: Run, workdir: Workdir
) -> None:
    aside = made.root.rename(workdir.folder / "aside")
    made.root.symlink_to(aside)
    recipe = read_resolved(made.recipe, Recipe)
    assert recipe.workspace == str(workdir.workspace.root)
    assert resolve.load(made.root).recipe == recipe


@pytest.mark.parametrize("name", ["raw/web", "tokens", "runs/small/checkpoints"])
def test_a_link_that_leads_nowhere_is_named_with_what_to_do(
    made: Run, workdir: Workdir, name: str
) -> None:
    link = workdir.workspace.root / name
    if link.is_dir():
        shutil.rmtree(link)
    link.symlink_to("/gone/with the old disk")
    for load in (resolve.load, resolve.read_run):
        with pytest.raises(ConfigError, match=f"ln -sfn PLACE {link}") as told:
            load(made.root)
        assert f"{link}: dangling link to /gone/with the old disk" in str(told.value)


def test_what_was_fetched_is_found_in_the_workspace_or_among_the_downloads(tmp_path: Path) -> None:
    def path_of(downloads: Path | None) -> str:
        row = {"path": "/old/raw/ja/fetched-0123456789abcdef/ja.txt"}
        found = {"causes": {"section": {"location": "https://host/ja.txt"}}, "pieces": [row]}
        (piece,) = relocation.pieces(
            found, tmp_path / "ja", "https://host/ja.txt", downloads and str(downloads)
        )
        return str(piece["path"])

    assert path_of(None) == "/old/raw/ja/fetched-0123456789abcdef/ja.txt"  # as it was noted
    for folder, downloads in ((tmp_path / "dl", tmp_path / "dl"), (tmp_path / "ja", None)):
        file = folder / "fetched-0123456789abcdef" / "ja.txt"
        file.parent.mkdir(parents=True)
        file.touch()
        assert path_of(downloads) == str(file)


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ("/a/x/t.txt", "/b/t.txt", ("/a/x", "/b")),
        ("/a/*.txt", "/b/c/*.txt", ("/a", "/b/c")),
        ("/a/t", "/a/u", ("/a/t", "/a/u")),
        ("/t", "/b/t", ("", "/b")),
        ("/a", "/a", ("", "")),
    ],
)
def test_two_paths_differ_up_to_the_end_that_they_share(
    was: str, now: str, expected: tuple[str, str]
) -> None:
    assert relocation.differing_heads(was, now) == expected
    assert relocation.rebase(was, *expected) == now


def test_a_path_that_only_begins_alike_has_not_moved() -> None:
    assert relocation.rebase("/work/demo-2/x", "/work/demo", "/new") == "/work/demo-2/x"


def test_a_released_recipe_holds_no_path(made: Run, workdir: Workdir) -> None:
    lists = (
        "corpus.remove=out.txt",
        "corpus.filters.urls.bad.file=domains",
        "corpus.filters.words.bad.file=ng.txt",
    )
    mlflow = f"tracking.mlflow=sqlite:///{workdir.folder}/own.db"
    recipe = workdir.recipe("name=other", mlflow, *lists)
    told = str(relocation.for_release(recipe.model_dump(mode="json")))
    assert os.sep not in told.replace("http://", "").replace("</s>", "")
    assert os.sep not in told.replace("http://", "").replace("</s>", "")
    assert all(f"'{name}'" in told for name in ("dump.xml.bz2", "out.txt", "domains", "ng.txt"))


def test_no_password_is_released_or_shown_by_tensorboard_mlflow_and_the_report(
    workdir: Workdir,
) -> None:
    given = (
        "tracking.mlflow=http://ann:s3cr3t@host:5000",
        "corpus.sources.web.location=https://ann:s3cr3t@host/web.txt?token=s3cr3t",
        "corpus.sources.web.mirrors=[https://ann:s3cr3t@mirror/web.txt]",
        "alerts.command=curl --data-binary @- https://chat.example/hook/s3cr3t",
        "alerts.heartbeat_url=https://switch.example/s3cr3t",
    )
    recipe = workdir.recipe(*given)
    for told in (
        str(relocation.for_release(recipe.model_dump(mode="json"))),
        str(summaries.recipe_text(recipe)),
        str(params.of_recipe(recipe).values),
        str(of_record.recipe(cast("Content", SimpleNamespace(recipe=recipe, public=False)))),
    ):
        assert "s3cr3t" not in told
        assert "ann:" not in told
        assert "host:5000" in told
