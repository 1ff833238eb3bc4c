"""A workspace outlives versions of the kit: what is done stays done until what decides it changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from kit.config import tokenizer
from kit.config.load import load_cluster
from kit.config.recipe import Recipe
from kit.config.run import Project, run_of
from kit.errors import RunError
from kit.relay.resolve import load
from kit.relay.stages import stages_of
from kit.run import directory
from kit.store.files import read_json, write_json
from kit.store.paths import MANIFEST, Workspace
from tests.later import later
from tests.relay import DEMO, copy_of
from tests.warm import light as command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

SHARDS_ON = ["preprocess", "count", "merge", "candidates", "tokenizer", "tokenize"]


def recipe(workspace: Path, *overrides: str) -> Recipe:
    return load(DEMO, [f"workspace={workspace}", *overrides]).recipe


def to_make(recipe: Recipe) -> list[str]:
    """The stages up to the tokens that have something to make.

    A broken unit is none: the shared workspace has been renamed, and its raw texts with it.
    """
    stages = [stage for stage in stages_of(recipe) if not stage.of_run]
    found = {stage.name: stage.census(run_of(recipe), recipe) for stage in stages}
    return [n for n, c in found.items() if not c or c["stale"] or c["missing"]]


@pytest.fixture(scope="module")
def older(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose manifests hold whole sections, as those of versions before this one."""
    workspace = Workspace(copy_of(tokens, tmp_path_factory.mktemp("older") / "work"))
    made = recipe(workspace.root)
    corpus = _but(made.corpus.model_dump(mode="json"), "sources", "downloads", "unit_mb", "tasks")
    for folder in (workspace.root / "shards").iterdir():
        _record(folder, corpus)
    for name, source in made.corpus.sources.items():
        no_causes = {"wikipedia": ["text_key"], "plaintext": ["text_key", "title", "index"]}
        section = _but(source.model_dump(), "mirrors", *no_causes[source.kind])
        _record(workspace.raw(name), {"unit_mb": made.corpus.unit_mb} | section)
    for vocabulary in made.tokenizer.specs():
        pairs = {"min_frequency": 2} if vocabulary.algorithm == "bpe" else {}
        _record(workspace.candidate(vocabulary.name), vocabulary.model_dump() | pairs)
    _record(workspace.tokenizer, _but(made.tokenizer.model_dump(mode="json"), "tasks", "count_mb"))
    return workspace.root


def _but(tree: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in keys}


def _record(folder: Path, section: dict[str, Any]) -> None:
    found = read_json(folder / MANIFEST)
    found["causes"]["section"] = section
    write_json(folder / MANIFEST, found)


def test_a_workspace_of_an_older_version_stays_done(older: Path) -> None:
    shown = json.loads(command("pipeline", "status", str(DEMO), f"workspace={older}", "--json"))
    assert [shown["stages"][name]["done"] > 0 for name in SHARDS_ON] == [True] * len(SHARDS_ON)
    assert to_make(recipe(older)) == []


@pytest.mark.parametrize("workspace", ["tokens", "older"])
def test_a_key_that_is_new_and_not_set_makes_nothing_stale(
    workspace: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = recipe(request.getfixturevalue(workspace))
    monkeypatch.setattr(tokenizer, "TokenizerSpec", later(tokenizer.TokenizerSpec))
    assert to_make(later(Recipe).model_validate(now.model_dump())) == []


@pytest.mark.parametrize(
    ("override", "stale"),
    [
        ("corpus.sources.web.sha1=null", []),
        ("corpus.normalise.keep_ranges=true", []),
        ("tokenizer.choose.margin=0", []),
        ("corpus.filters.length={min: 1}", SHARDS_ON),
        ("corpus.normalise.keep_ranges=false", SHARDS_ON),
        ("tokenizer.choose.margin=0.01", ["tokenizer", "tokenize"]),
        ("tokenizer.candidates=[{}, {algorithm: unigram, limit_alphabet: 999}]",
         ["candidates", "tokenizer", "tokenize"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("workspace", ["tokens", "older"])
def test_a_value_makes_stale_what_it_decides_and_a_default_that_is_written_out_nothing(
    workspace: str, override: str, stale: list[str], request: pytest.FixtureRequest
) -> None:
    assert to_make(recipe(request.getfixturevalue(workspace), override)) == stale


def test_a_run_of_an_older_version_is_submitted_again(workdir: Workdir) -> None:
    now = workdir.recipe()
    run = workdir.workspace.run("small")
    older = now.model_dump(mode="json")
    for section, key in (("release", "seed"), ("training", "health"), ("corpus", "filters")):
        del older[section][key]
    for key in (
        "architecture", "n_kv_head", "n_inner", "rope_theta", "qk_norm", "tie_embeddings",
    ):  # fmt: skip
        del older["model"][key]
    write_json(run.recipe, older)
    write_json(run.attempt(1).start, {"from_step": 0})
    cluster = load_cluster("local", workdir.recipe_file, [])
    of_machine = cluster.model_dump(mode="json")
    del of_machine["arrays"]["sbatch"]
    write_json(run.cluster, of_machine)
    assert directory.prepare(Project.of(now, cluster)).root == run.root
    # Its code, of that version, may refuse what it does not know.
    assert (read_json(run.recipe), read_json(run.cluster)) == (older, of_machine)
    changed = cluster.model_copy(
        update={"arrays": cluster.arrays.model_copy(update={"sbatch": {"qos": "a"}})}
    )
    directory.prepare(Project.of(now, changed))
    assert read_json(run.cluster)["arrays"]["sbatch"] == {"qos": "a"}
    with pytest.raises(RunError, match=r"corpus\.filters\.duplicates: False -> True"):
        directory.prepare(Project.of(workdir.recipe("corpus.filters.duplicates=true"), cluster))
