"""A run that has begun, and a command line that asks for another recipe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from jobs import evaluate, export, generate, guard, pipeline, preprocess, tokenize, train, watch
from jobs.command import Arguments
from kit.errors import RunError
from kit.relay import resolve
from kit.store.files import read_json, write_json
from kit.watch import view

if TYPE_CHECKING:
    import typer

    from kit.config.run import Project
    from kit.store.paths import Run
    from tests.conftest import Workdir


@pytest.fixture
def finished(workdir: Workdir) -> Run:
    """The run of the small recipe after its last step."""
    project = resolve.load(workdir.recipe_file)
    run = project.run
    write_json(run.recipe, project.recipe.model_dump(mode="json"))
    write_json(run.cluster, project.cluster.model_dump(mode="json"))
    write_json(run.identity, {"id": "0123", "name": "small"})
    write_json(run.attempt(1).start, {"from_step": 0, "amendments": 0})
    write_json(run.attempt(1).end, {"outcome": "done", "step": 10})
    write_json(run.checkpoint(10, 1) / "checkpoint.json", {"step": 10, "files": {}})
    return run


def said(app: typer.Typer, *arguments: str) -> str:
    """What a command prints, on both streams; its error is raised."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return done.output


TEXT = ("--prompt", "霧浜県の")
# Every command that would do something for the run, or show something as its.
ACTS = [
    (pipeline.app, "run"), (pipeline.app, "submit"), (pipeline.app, "run", "--dry-run"),
    (pipeline.app, "submit", "--dry-run"), (train.app, "run"), (train.app, "submit"),
    (train.app, "submit", "--dry-run"), (evaluate.app, "run"), (evaluate.app, "run", "--verify"),
    (evaluate.app, "submit"), (export.app, "run"), (export.app, "submit"),
    (generate.app, "run"), (generate.app, "submit"), (generate.app, "text", *TEXT),
    (preprocess.app, "submit"), (tokenize.app, "inspect", "3", "--sample"),
]  # fmt: skip


@pytest.mark.parametrize("acts", ACTS, ids=lambda acts: f"{acts[0].info.help[:20]}-{acts[1:]}")
def test_a_command_for_a_begun_run_with_other_settings_is_refused(
    workdir: Workdir, finished: Run, acts: tuple[typer.Typer, ...]
) -> None:
    app, verb, *more = acts
    with pytest.raises(RunError) as refused:
        said(app, str(verb), str(workdir.recipe_file), *map(str, more), "model.n_layer=4")
    line = str(refused.value)
    assert line == (
        f"{finished.root}: this run was started with a different recipe (model.n_layer: 1 -> 4); to use it "
        "as it is, name its directory in place of the recipe; for a new run add name=small-2; or see "
        "ekiden train amend and fork"
    )


def test_the_same_recipe_is_what_it_was(workdir: Workdir, finished: Run) -> None:
    assert (
        said(train.app, "submit", str(workdir.recipe_file))
        == "nothing to submit: everything is done\n"
    )
    assert "everything is done" in said(train.app, "submit", str(finished.root))


def test_what_may_be_amended_says_how(workdir: Workdir, finished: Run) -> None:
    changes = ("training.validate_every=2", "release.prompts=[駅伝は, 今日は]")
    with pytest.raises(RunError) as refused:
        said(train.app, "submit", str(workdir.recipe_file), *changes)
    amend = (
        f"to change this run: ekiden train amend {finished.root} training.validate_every=2 "
        """'release.prompts=["駅伝は", "今日は"]'; for a new run add name=small-2"""
    )
    assert amend in str(refused.value)
    given = ["training.validate_every=2", 'release.prompts=["駅伝は", "今日は"]']
    assert "training.validate_every: 5 -> 2" in said(train.app, "amend", str(finished.root), *given)
    # Amended, the unchanged file and the changed one are the run's.
    for more in ((), changes):
        assert "everything is done" in said(train.app, "submit", str(workdir.recipe_file), *more)


def test_a_section_that_the_run_leaves_out_is_a_difference(workdir: Workdir, finished: Run) -> None:
    with pytest.raises(RunError) as refused:
        said(train.app, "submit", str(workdir.recipe_file), "corpus.filters.length.min=100")
    assert "corpus.filters.length" in str(refused.value)
    assert "for a new run add name=small-2 and another workspace=" in str(refused.value)


def test_the_name_to_give_is_one_that_is_free_and_a_corpus_wants_a_workspace(
    workdir: Workdir, finished: Run
) -> None:
    (finished.root.parent / "small-2").mkdir()
    with pytest.raises(RunError, match=r"add name=small-3 and another workspace=; "):
        said(pipeline.app, "run", str(workdir.recipe_file), "tokenizer.vocab_size=900")


def test_no_more_than_three_differences_fit_into_the_line(workdir: Workdir, finished: Run) -> None:
    changes = [f"training.{key}=0.5" for key in ("beta1", "beta2", "clip", "weight_decay")]
    with pytest.raises(RunError, match=r"training\.clip: 1\.0 -> 0\.5; and 1 more\)"):
        said(train.app, "run", str(workdir.recipe_file), *changes)


@pytest.mark.parametrize("app", [pipeline.app, train.app], ids=["pipeline", "train"])
def test_a_status_says_what_differs(workdir: Workdir, finished: Run, app: typer.Typer) -> None:
    asked = ("status", str(workdir.recipe_file), "training.learning_rate=5e-4", "--json")
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.stderr == (
        f"warning: {finished.root}: started with a different recipe (training.learning_rate: 0.001 -> "
        "0.0005); showing the run's own\n"
    )
    found = json.loads(done.stdout)
    assert found["differs"] == ["training.learning_rate: 0.001 -> 0.0005"]
    same = CliRunner().invoke(app, ("status", str(workdir.recipe_file), "--json"))
    assert same.stderr == ""
    assert not json.loads(same.stdout).get("differs")


@pytest.mark.parametrize(
    "app", [pipeline.app, train.app, watch.app], ids=["pipeline", "train", "watch"]
)
def test_what_is_shown_is_the_runs_own_and_so_is_the_command_to_type(
    workdir: Workdir, finished: Run, app: typer.Typer
) -> None:
    said(train.app, "amend", str(finished.root), "training.steps=30", "--schedule", "anew")
    verb = "show" if app is watch.app else "status"
    asked = (verb, str(workdir.recipe_file), "training.steps=20", "--json")
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert "training.steps: 30 -> 20); showing the run's own" in done.stderr
    found = json.loads(done.stdout)
    stage = found if app is train.app else found.get("stages", found.get("chain"))["train"]
    assert (found["training"] if app is watch.app else stage)["steps"] == 30
    assert stage["state"] == "incomplete"
    assert stage["next"].endswith(f" run {finished.root}")


@pytest.mark.parametrize(
    ("verb", "continues"), [("run", "run"), ("submit", "submit"), (None, "run")]
)
def test_a_run_of_this_machine_is_continued_as_it_was_started(
    workdir: Workdir, finished: Run, verb: str | None, continues: str
) -> None:
    said(train.app, "amend", str(finished.root), "training.steps=30", "--schedule", "anew")
    by = {} if verb is None else {"verb": verb}
    write_json(finished.jobs, {"cluster": "local", "time": 0.0, "local": [], **by})
    found = json.loads(said(train.app, "status", str(finished.root), "--json"))
    assert found["next"] == f"ekiden download {continues} {finished.root}"


def test_a_run_is_continued_on_the_cluster_that_it_was_submitted_to(
    workdir: Workdir, finished: Run
) -> None:
    given = Arguments(workdir.recipe_file)
    assert given.load().cluster.name == "local"  # which it has
    assert given.words_for(given.load()) == given.words
    other = Arguments(workdir.recipe_file, ["cluster.training.minutes=9"])
    assert other.words_for(other.load()) == other.words  # as you say
    write_json(finished.cluster, read_json(finished.cluster) | {"preempt_at_step": 5})
    assert given.words_for(given.load()) == [str(finished.root)]  # another local than it had

    mdx = resolve.load(finished.root, None, "mdx").cluster
    write_json(finished.cluster, mdx.model_dump(mode="json"))
    write_json(finished.jobs, {"cluster": "mdx", "time": 0.0, "slurm": {"train": "17"}})
    assert given.load().cluster == mdx
    assert given.words_for(given.load()) == given.words
    here = Arguments(workdir.recipe_file, None, "local")
    assert here.load().cluster.name == "local"
    assert here.words_for(here.load()) == here.words


def test_a_guard_judges_the_runs_own_recipe_and_reports_as_its_file_says(
    workdir: Workdir, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Project] = []

    def facts(project: Project, *rest: Any, **more: Any) -> view.Facts:
        looked.append(project)
        return real(project, *rest, **more)

    real = view.facts
    monkeypatch.setattr(view, "facts", facts)
    changes = ["training.steps=20", "alerts.repeat=90"]
    sight = guard._eyes(Arguments(workdir.recipe_file, changes))(None)
    assert looked[0].recipe.training.steps == 10
    assert sight.alerting.repeat == 90


def test_show_resolves_what_was_asked_and_says_what_differs(
    workdir: Workdir, finished: Run
) -> None:
    done = CliRunner().invoke(pipeline.app, ("show", str(workdir.recipe_file), "model.n_layer=4"))
    assert json.loads(done.stdout)["recipe"]["model"]["n_layer"] == 4
    assert "model.n_layer: 1 -> 4); showing the one given\n" in done.stderr


def test_a_run_that_has_not_begun_takes_another_recipe(workdir: Workdir) -> None:
    shown = said(train.app, "submit", str(workdir.recipe_file), "model.n_layer=4", "--dry-run")
    assert "train: 2 ranks" in shown


def test_a_refused_command_leaves_the_run_as_it_is(workdir: Workdir, finished: Run) -> None:
    before = sorted(finished.root.rglob("*"))
    with pytest.raises(RunError):
        said(evaluate.app, "run", str(workdir.recipe_file), "training.seed=1", "--verify")
    assert sorted(finished.root.rglob("*")) == before
    assert read_json(finished.recipe)["training"]["seed"] == 0
