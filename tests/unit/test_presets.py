"""Recipes and other files by their names: where they are found, and to what their paths are relative."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.config import presets
from kit.config.load import load_cluster, load_recipe
from kit.errors import ConfigError
from kit.store.files import write_json
from kit.store.paths import Run
from tests.conftest import ROOT

if TYPE_CHECKING:
    from tests.conftest import Workdir

DEMO = ROOT / "configs" / "demo.yaml"


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def mistake(path: Path) -> str:
    """The one line that answers a recipe."""
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, [])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("empty")
def test_a_recipe_of_the_kit_is_named_from_anywhere() -> None:
    named = load_recipe(Path("demo"), [])
    assert named == load_recipe(DEMO, [])
    assert load_cluster("mdx", DEMO, []) == load_cluster("mdx", presets.recipes()["demo"], [])


def test_a_recipe_in_configs_of_the_current_directory_comes_before_the_kits(
    workdir: Workdir, empty: Path
) -> None:
    (empty / "configs").mkdir()
    text = workdir.recipe_file.read_text(encoding="utf-8").replace("zero2.json", "zero2")
    (empty / "configs" / "demo.yaml").write_text(text, encoding="utf-8")
    assert load_recipe(Path("demo"), []).name == "small"


def test_a_word_with_a_suffix_is_a_path(workdir: Workdir, empty: Path) -> None:
    (empty / "demo.yaml").write_text("name: [", encoding="utf-8")
    assert mistake(Path("demo.yaml")).startswith("demo.yaml, line 1: invalid YAML")
    assert load_recipe(Path("demo"), []).name == "demo"


def test_an_unknown_name_is_answered_with_the_known(empty: Path) -> None:
    line = mistake(Path("demmo"))
    assert line.startswith("demmo: no such file; ")
    assert "demo, gpt2-xl-ja, gpt2-xl-ja-2nodes, gpt2-xl-ja-article, llama-1b-ja" in line
    (empty / "mine.yaml").write_text("", encoding="utf-8")
    assert "did you mean mine.yaml?" in mistake(Path("mine"))


def test_a_name_that_a_run_directory_here_has_too_is_asked_about(empty: Path) -> None:
    write_json(Run(empty / "demo").recipe, {})
    line = mistake(Path("demo"))
    assert "ambiguous: a recipe (" in line
    assert "a run directory in the current directory; write ./demo" in line
    with pytest.raises(ConfigError, match=r"write \./demo"):
        load_cluster(None, Path("demo"), [])


def test_a_folder_here_that_is_no_run_directory_takes_no_name(empty: Path) -> None:
    (empty / "demo").mkdir()
    assert load_recipe(Path("demo"), []).name == "demo"


def test_nothing_is_made_within_an_installed_kit(
    workdir: Workdir, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = workdir.folder / "kit" / "share"
    recipe = own / "configs" / "house.yaml"
    recipe.parent.mkdir(parents=True)
    text = workdir.recipe_file.read_text(encoding="utf-8")
    text = text.replace(str(workdir.workspace.root), "../work/house").replace("zero2.json", "zero2")
    text = text.replace("corpus:\n", "corpus:\n  downloads: ../work/downloads\n")
    recipe.write_text(text, encoding="utf-8")
    in_checkout = load_recipe(recipe, [])
    assert in_checkout.workspace == str(own / "work" / "house")
    monkeypatch.setattr(presets, "OWN", own)
    monkeypatch.setattr(presets, "INSTALLED", True)
    (own / "configs" / "deepspeed").mkdir()
    (own / "configs" / "deepspeed" / "zero2.json").write_text(
        '{"prescale_gradients": false}', encoding="utf-8"
    )
    for path in (recipe, Path("house")):
        found = load_recipe(path, [])
        assert found.workspace == str(empty / "work" / "house")
        assert found.corpus.downloads == str(empty / "work" / "downloads")
        assert found.corpus.sources["web"].location == str(recipe.parent / "web.txt")
    assert load_recipe(recipe, ["workspace=here"]).workspace == str(empty / "here")


def test_a_cluster_here_comes_before_that_of_an_installed_kit(
    workdir: Workdir, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = workdir.folder / "kit" / "share"
    for folder, name in ((own / "configs", "kits"), (empty / "configs", "mine")):
        (folder / "cluster").mkdir(parents=True)
        text = f"name: {name}\nkind: local\ntraining: {{ranks_per_node: 1}}\n"
        (folder / "cluster" / "mdx.yaml").write_text(text, encoding="utf-8")
    (own / "configs" / "house.yaml").write_text("", encoding="utf-8")
    monkeypatch.setattr(presets, "OWN", own)
    monkeypatch.setattr(presets, "INSTALLED", True)
    assert load_cluster("mdx", Path("house"), []).name == "mine"


@pytest.mark.usefixtures("empty")
def test_all_that_has_a_name_is_found_by_it() -> None:
    every = presets.all_files()
    assert {"recipe/demo", "cluster/mdx", "deepspeed/zero2", "sbatch/slurm"} <= set(every)
    assert presets.find("zero2") == ROOT / "configs" / "deepspeed" / "zero2.json"
    assert presets.find("cluster/mdx") == ROOT / "configs" / "cluster" / "mdx.yaml"
    assert (presets.find("slurm") / "up.sh").is_file()
    with pytest.raises(ConfigError, match="nothing: unknown name; known: recipe/demo"):
        presets.find("nothing")


def test_a_name_of_two_kinds_is_asked_about(empty: Path) -> None:
    (empty / "configs").mkdir()
    (empty / "configs" / "mdx.yaml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="write recipe/mdx or cluster/mdx"):
        presets.find("mdx")
