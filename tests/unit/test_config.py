"""Recipes and clusters: what they mean, and how a mistake in one is answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from pydantic import ValidationError

from kit.config import amendments
from kit.config.cluster import Cluster
from kit.config.load import load, load_cluster, load_recipe
from kit.config.recipe import Recipe, is_remote
from kit.config.section import differing_keys, read_resolved
from kit.errors import ConfigError
from kit.relay import runs
from kit.store.files import write_json

if TYPE_CHECKING:
    from tests.conftest import Workdir

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
CLUSTERS = sorted((Path(__file__).parents[2] / "configs/cluster").glob("*.yaml"))


def mistake(workdir: Workdir, *overrides: str) -> str:
    """The one line that answers the recipe with these overrides."""
    with pytest.raises(ConfigError) as caught:
        load_recipe(workdir.recipe_file, list(overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def mistakes(workdir: Workdir, *overrides: str) -> list[str]:
    """The lines that answer the recipe with these overrides."""
    with pytest.raises(ConfigError) as caught:
        load_recipe(workdir.recipe_file, list(overrides))
    return [*caught.value.args]


def test_an_empty_prompt_is_a_mistake(workdir: Workdir) -> None:
    assert mistake(workdir, "release.prompts=[日本の, '　']").endswith(
        ": prompt 1 is empty; write a prompt, or remove it"
    )


def test_a_url_without_a_file_name_is_a_mistake(workdir: Workdir) -> None:
    said = "='https://example.org/': has no file name; give the URL of a dump or a text file"
    for key in ("location", "index"):
        line = mistake(workdir, f"corpus.sources.jawiki.{key}=https://example.org/")
        assert line.endswith(f"corpus.sources.jawiki.{key}{said}")


def append(workdir: Workdir, text: str) -> None:
    with workdir.recipe_file.open("a", encoding="utf-8") as out:
        out.write(text)


def change(workdir: Workdir, key: str, value: object) -> None:
    """Put a value at a dotted key of the recipe file."""
    tree = yaml.safe_load(workdir.recipe_file.read_text(encoding="utf-8"))
    node = tree
    *sections, last = key.split(".")
    for section in sections:
        node = node[section]
    node[last] = value
    workdir.write("small.yaml", tree)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_the_kit_loads(path: Path) -> None:
    recipe = load_recipe(path, [])
    assert recipe.name == path.stem
    assert isinstance(recipe.training.deepspeed, dict)
    assert all(
        is_remote(source.location) or Path(source.location).is_file()
        for source in recipe.corpus.sources.values()
    )


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_a_cluster_of_the_kit_loads_by_its_name(path: Path) -> None:
    assert load_cluster(path.stem, RECIPES[0], []).name == path.stem


def test_a_loaded_recipe_cannot_be_changed(workdir: Workdir) -> None:
    recipe = workdir.recipe()
    with pytest.raises(ValidationError):
        recipe.training.steps = 3  # type: ignore[misc]


def test_relative_paths_are_relative_to_the_recipe(workdir: Workdir) -> None:
    recipe = workdir.recipe()
    assert recipe.corpus.sources["web"].location == str(workdir.web)
    assert recipe.corpus.sources["jawiki"].location == str(workdir.dump)


def test_every_path_of_a_file_is_relative_to_it_wherever_you_are(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir.folder / "elsewhere").mkdir()
    (workdir.folder / "index.txt").touch()
    change(workdir, "workspace", "w")
    change(workdir, "corpus.downloads", "../d")
    change(workdir, "corpus.sources.jawiki.index", "index.txt")
    monkeypatch.chdir(workdir.folder / "elsewhere")
    recipe = load_recipe(Path("../small.yaml"), [])
    assert recipe.workspace == str(workdir.folder / "w")
    assert recipe.corpus.downloads == str(workdir.folder.parent / "d")
    assert recipe.corpus.sources["jawiki"].index == str(workdir.folder / "index.txt")
    assert recipe.training.deepspeed == {"zero_optimization": {"stage": 2}}


@pytest.mark.parametrize("here", ["here", "yonder"])
def test_a_workspace_that_was_meant_for_the_current_directory_is_not_begun_elsewhere(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch, here: str
) -> None:
    (workdir.folder / f"{here}/w").mkdir(parents=True)
    monkeypatch.chdir(workdir.folder / here)
    change(workdir, "workspace", "w")
    assert f"write workspace: {here}/w, or create the former" in mistake(workdir)
    assert workdir.recipe("workspace=w").workspace == str(workdir.folder / f"{here}/w")
    (workdir.folder / "w").mkdir()
    assert workdir.recipe().workspace == str(workdir.folder / "w")


def test_a_workspace_may_have_the_name_of_a_published_text(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workdir.folder)
    recipe = workdir.recipe("workspace=jawiki-20220701", "corpus.downloads=cc100-ja")
    assert recipe.workspace == str(workdir.folder / "jawiki-20220701")
    assert recipe.corpus.downloads == str(workdir.folder / "cc100-ja")


def test_paths_of_overrides_are_relative_to_the_current_directory(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir.folder / "elsewhere").mkdir()
    monkeypatch.chdir(workdir.folder / "elsewhere")
    recipe = load_recipe(workdir.recipe_file, ["corpus.sources.web.location=a.txt", "workspace=w"])
    assert recipe.corpus.sources["web"].location == str(workdir.folder / "elsewhere/a.txt")
    assert recipe.workspace == str(workdir.folder / "elsewhere/w")


def test_a_url_stays_a_url(workdir: Workdir) -> None:
    recipe = workdir.recipe("corpus.sources.web.location=https://example.org/a.txt.xz")
    assert recipe.corpus.sources["web"].location == "https://example.org/a.txt.xz"


def test_an_override_stands_before_the_file(workdir: Workdir) -> None:
    assert workdir.recipe("training.steps=77").training.steps == 77


def test_an_override_makes_a_section_that_the_file_lacks(workdir: Workdir) -> None:
    assert workdir.recipe("release.seed=3").release.seed == 3


def test_1e_minus_4_is_a_number(workdir: Workdir) -> None:
    assert workdir.recipe("training.learning_rate=1e-4").training.learning_rate == 1e-4
    # pydantic would forgive the text "1e-4" there, but not where any value may stand
    text = workdir.recipe_file.read_text(encoding="utf-8")
    workdir.recipe_file.write_text(text.replace("zero2.json", "{gradient_predivide_factor: 1e-4}"))
    assert workdir.recipe().training.deepspeed == {"gradient_predivide_factor": 1e-4}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("24:00:00", "24:00:00"), ("2026-11-01", "2026-11-01"),
        ("0x10", "0x10"), ("1e-4x", "1e-4x"), ("日本の", "日本の"), ("012", "012"),
    ],
)  # fmt: skip
def test_what_yaml_would_turn_into_something_else_is_text(
    workdir: Workdir, text: str, value: str
) -> None:
    assert workdir.recipe(f"release.license_link={text}").release.license_link == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2.5E+3", 2500.0),
        ("2.5e3", 2500.0),
        (".5", 0.5),
        ("1", 1.0),
        ("1_000", 1000.0),
    ],
)
def test_numbers_are_numbers(workdir: Workdir, text: str, value: float) -> None:
    assert workdir.recipe(f"training.epsilon={text}").training.epsilon == value


@pytest.mark.parametrize(
    "text",
    [
        "a #1",
        "#1",
        "2024",
        "20240101_01",
        "1e3",
        "[a",
        "- a",
        "a: b",
        "{a}",
        "true",
        "~",
        '"a"',
        " a ",
    ],
)
def test_a_text_is_what_the_shell_hands_over(workdir: Workdir, text: str) -> None:
    recipe = workdir.recipe(
        f"workspace=/data/{text.replace(':', '')}", f"tracking.experiment={text}",
        f"release.license_link={text}",
        f"corpus.sources.jawiki.index={workdir.folder}/{text}", f"corpus.downloads={workdir.folder}/{text}",
    )  # fmt: skip
    assert recipe.workspace == str(Path(f"/data/{text.replace(':', '')}"))
    assert recipe.tracking.experiment == recipe.release.license_link == text
    assert recipe.corpus.sources["jawiki"].index == recipe.corpus.downloads
    assert recipe.corpus.downloads == str(workdir.folder / text)
    cluster = load_cluster("local", workdir.recipe_file, [f"cluster.environment.A={text}"])
    assert cluster.environment == {"A": text}


@pytest.mark.parametrize("name", ["2024", "20240101_01", "1e3"])
def test_a_name_may_be_a_number(workdir: Workdir, name: str) -> None:
    assert workdir.recipe(f"name={name}").name == name
    text = workdir.recipe_file.read_text(encoding="utf-8")
    workdir.recipe_file.write_text(text.replace("name: small", f"name: {name}"), encoding="utf-8")
    assert workdir.recipe().name == name


def test_text_of_a_file_stands_as_it_was_written(workdir: Workdir) -> None:
    append(
        workdir,
        "release:\n  license_link: 012\n  prompts: [2024, 1_0, no, 2.50, '#1', null-a]  # some\n",
    )
    release = workdir.recipe().release
    assert release.license_link == "012"
    assert release.prompts == ["2024", "1_0", "no", "2.50", "#1", "null-a"]
    path = workdir.write("c.yaml", {"name": 7, "kind": "local", "training": {"ranks_per_node": 1}})
    path.write_text(path.read_text() + "environment: {A: 1_0, true: 2}\n", encoding="utf-8")
    cluster = load_cluster(str(path), workdir.recipe_file, [])
    assert cluster.name == "7"
    assert cluster.environment == {"A": "1_0", "true": "2"}


def test_a_list_is_yaml_without_comments(workdir: Workdir) -> None:
    recipe = workdir.recipe("release.prompts=[a #b, '#c', 2024, #d]")
    assert recipe.release.prompts == ["a #b", "#c", "2024", "#d"]
    assert "steps='3 # or 4'" in mistake(workdir, "training.steps=3 # or 4")


def test_a_key_stands_in_a_file_once(workdir: Workdir) -> None:
    append(workdir, "name: other\n")
    assert "invalid YAML (duplicate key name)" in mistake(workdir)


def test_an_element_of_a_list_is_overridden_by_its_index(workdir: Workdir) -> None:
    change(workdir, "tokenizer.candidates", [{"vocab_size": 900}, {"spaces": "article"}])
    recipe = workdir.recipe("tokenizer.candidates.1.vocab_size=4000", "release.prompts.0=駅伝")
    assert [v.name for v in recipe.tokenizer.specs()] == [
        "bpe-900-8000-lossless", "bpe-4000-8000-article",
    ]  # fmt: skip
    assert recipe.release.prompts == ["駅伝"]
    for index in ("2", "-1", "first"):
        line = mistake(workdir, f"tokenizer.candidates.{index}.vocab_size=4000")
        assert f"tokenizer.candidates has no element {index}; its elements are 0 to 1" in line
    assert "release.prompts has no element 1;" in mistake(workdir, "release.prompts.1=a")
    assert "corpus.sources.web.mirrors is empty" in mistake(
        workdir, "corpus.sources.web.mirrors.0=a"
    )


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("steps=3", "did you mean training.steps?"),
        ("training.loss_spike=3", "did you mean training.health.loss_spike?"),
        ("seed=3", "did you mean training.seed or release.seed?"),
        ("ranks_per_node=2", "did you mean cluster.training.ranks_per_node?"),
        ("cluster.steps=2", "did you mean training.steps?"),
        ("location=x", "did you mean corpus.sources.NAME.location?"),
    ],
)
def test_a_key_of_another_section_is_answered_with_that_section(
    workdir: Workdir, override: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(workdir.recipe_file, [override], "local")
    assert str(caught.value).startswith(f"override '{override}': unknown key ")
    assert str(caught.value).endswith(f"; {hint}")


def test_all_mistakes_are_told_at_once(workdir: Workdir) -> None:
    change(workdir, "tokens", {"task": 2})
    change(workdir, "model", {"n_layer": "many", "n_embd": 64})
    with pytest.raises(ConfigError) as caught:
        load(
            workdir.recipe_file,
            ["training.step=3", "corpus.held_out=2", "tokens", "release.prompts.7=a",
             "cluster.arrays.parallel=0"],
            "local",
        )  # fmt: skip
    file = workdir.recipe_file
    assert str(caught.value).split("\n  ") == [
        "8 mistakes",
        "override 'tokens': write section.key=value",
        "override 'release.prompts.7=a': release.prompts has no element 7; its elements are 0 to 0",
        "override 'corpus.held_out=2': corpus.held_out=2: input should be less than 0.5",
        f"{file}: unknown key tokens.task; did you mean tasks?",
        f"{file}: model.n_layer='many': input should be a valid integer, unable to parse string as an "
        "integer",
        f"{file}: model.n_head: field required (attention heads per layer, each n_embd / n_head wide; "
        "GPT-2's are 64 wide)",
        "override 'training.step=3': unknown key training.step; did you mean steps?",
        "override 'cluster.arrays.parallel=0': arrays.parallel=0: input should be greater than 0",
    ]


def test_a_required_key_that_is_misspelt_is_one_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        """
nmae: demo
workspace: w
corpus: {sources: {web: {kind: plaintext, location: x.txt}}}
modle: {n_layer: 1, n_embd: 8, n_head: 1}
training: {stesp: 5, global_batch: 2, micro_batch: 1, learning_rate: 0.1, warmup_steps: 1}
""",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        load(path, [], "local")
    assert sorted(caught.value.args) == [
        f"{path}: unknown key modle; did you mean model?",
        f"{path}: unknown key nmae; did you mean name?",
        f"{path}: unknown key training.stesp; did you mean steps?",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: demo\nworkspace w\ncorpus:\n  a: 1\n", "line 2"),
        ("name: demo\nworkspace\ncorpus:\n  a: 1\n", "line 2"),
        ('name: "demo\nworkspace: w\nmodel:\n  n_layer: 1\n', "line 1"),
        ("name: demo\ncorpus:\n  web: {kind: a, location: b\nmodel:\n  a: 1\n", "lines 3 to 4"),
        ("name: demo\nmodel: {a: 1 b: 2}\n", "line 2"),
        ("name: demo\ncorpus:\n\tsources: 1\n", "line 3"),
        ("name: demo\nworkspace: w\n  tokens: 5\n", "line 3"),
    ],
)
def test_invalid_yaml_is_reported_at_the_line_of_the_mistake(
    tmp_path: Path, text: str, line: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path, [], "local")
    assert str(caught.value).startswith(f"{path}, {line}: invalid YAML (")


def test_a_deepspeed_file_of_the_kit_is_named_from_any_recipe(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workdir.folder)
    found = workdir.recipe("training.deepspeed=zero2-offload").training.deepspeed
    assert isinstance(found, dict)
    assert found["zero_optimization"]["offload_optimizer"] == {
        "device": "cpu",
        "pin_memory": True,
    }
    change(workdir, "training.deepspeed", "zero2")
    assert workdir.recipe().training.deepspeed != {"zero_optimization": {"stage": 2}}
    (workdir.folder / "deepspeed").mkdir()
    (workdir.folder / "deepspeed/zero2.json").write_text("{}", encoding="utf-8")  # the recipe's own
    assert workdir.recipe().training.deepspeed == {}
    assert "one of zero1, zero2, zero2-offload" in mistake(workdir, "training.deepspeed=zero4")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("off", "write null to turn MLflow off"),
        ("False", "write null to turn MLflow off"),
        ("localhost:5000", "write http://localhost:5000 or sqlite"),
        ("mlflow.my-lab.jp:80/x", "write http://mlflow.my-lab.jp:80/x or sqlite"),
        ("mlruns", "a tracking URI needs a scheme: write http://localhost:5000"),
        ("/data/mlflow.db", "a tracking URI needs a scheme: "),
    ],
)
def test_mlflow_is_a_uri_or_null(workdir: Workdir, text: str, remedy: str) -> None:
    override = f"tracking.mlflow={text}"
    assert mistake(workdir, override).startswith(
        f"override '{override}': tracking.mlflow={text!r}: "
    )
    assert remedy in mistake(workdir, override)
    change(workdir, "tracking.mlflow", text)
    assert remedy in mistake(workdir)


@pytest.mark.parametrize("url", ["hc-ping.com/abc", "ftp://host/x", "https://", "/data/heartbeat"])
def test_a_heartbeat_url_is_one_of_http(workdir: Workdir, url: str) -> None:
    said = mistake(workdir, f"alerts.heartbeat_url={url}")
    assert f"alerts.heartbeat_url={url!r}: write an http:// or https:// address, or null" in said


def test_a_workspace_whose_code_python_could_not_find_is_refused(workdir: Workdir) -> None:
    override = f"workspace={workdir.folder}/a:b"
    said = mistake(workdir, override)
    assert said.startswith(
        f"override '{override}': workspace='{workdir.folder}/a:b': a path with a colon"
    )


@pytest.mark.parametrize(
    "uri", ["workspace", "http://h:5000", "sqlite:////a b/c.db", "file:/mlruns", "databricks://me"]
)
def test_a_uri_is_taken_as_it_is(workdir: Workdir, uri: str) -> None:
    assert workdir.recipe(f"tracking.mlflow={uri}").tracking.mlflow == uri


def test_a_run_keeps_what_was_good_when_it_began(workdir: Workdir) -> None:
    tree = workdir.recipe().model_dump(mode="json")
    tree["tracking"]["mlflow"] = "/data/mlruns"
    write_json(workdir.folder / "recipe.json", tree)
    recipe = read_resolved(workdir.folder / "recipe.json", Recipe)
    row = {"key": "training.steps", "old": 10, "new": 20}
    assert amendments.apply_to_recipe([row], recipe).tracking.mlflow == "/data/mlruns"


def test_a_cluster_of_the_kit_is_named_from_any_recipe(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workdir.folder)
    assert load_cluster("mdx", workdir.recipe_file, []).kind == "slurm"


def test_null_and_true_keep_their_meaning(workdir: Workdir) -> None:
    recipe = workdir.recipe("tracking.mlflow=null", "tracking.tensorboard=false")
    assert recipe.tracking.mlflow is None
    assert recipe.tracking.tensorboard is False


def test_an_unknown_key_of_the_file_is_answered_with_the_nearest(workdir: Workdir) -> None:
    append(workdir, "tokeniser: {}\n")
    line = mistake(workdir)
    assert str(workdir.recipe_file) in line
    assert "unknown key tokeniser; did you mean tokenizer?" in line


def test_an_unknown_key_of_a_section_is_answered_with_the_nearest(workdir: Workdir) -> None:
    change(workdir, "training.learning_rte", 1)
    line = mistake(workdir)
    assert str(workdir.recipe_file) in line
    assert "unknown key training.learning_rte; did you mean learning_rate?" in line


def test_an_unknown_key_far_from_all_is_answered_with_what_is_allowed(workdir: Workdir) -> None:
    line = mistake(workdir, "tokens.zzzzzz=1")
    assert "unknown key tokens.zzzzzz; allowed: tasks" in line


def test_an_unknown_key_of_an_override_is_answered_with_the_override(workdir: Workdir) -> None:
    line = mistake(workdir, "training.stepz=3")
    assert line.startswith("override 'training.stepz=3'")
    assert "did you mean steps?" in line


def test_an_unknown_section_of_an_override_is_answered_with_the_override(workdir: Workdir) -> None:
    line = mistake(workdir, "trainin.steps=3")
    assert line.startswith("override 'trainin.steps=3'")
    assert "did you mean training?" in line


def test_an_unknown_key_of_a_source_is_answered_with_the_nearest(workdir: Workdir) -> None:
    line = mistake(workdir, "corpus.sources.web.knd=plaintext")
    assert line.startswith("override 'corpus.sources.web.knd=plaintext'")
    assert "unknown key corpus.sources.web.knd; did you mean kind?" in line


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        (
            "corpus.filters.length={mn: 3}",
            "unknown key corpus.filters.length.mn; did you mean min?",
        ),
        (
            "tokenizer.candidates=[{vocab: 9}]",
            "unknown key tokenizer.candidates.0.vocab; did you mean vocab_size?",
        ),
        (
            "tokenizer.candidates=[{}, {algorithm: wordpiece}]",
            "tokenizer.candidates.1.algorithm='wordpiece': input should be 'bpe' or 'unigram'",
        ),
        (
            "tokenizer.candidates=[{}, {vocab_size: 200}]",
            "tokenizer: candidates[1]: vocab_size=200: spaces: lossless needs at least 260 entries",
        ),
        (
            "tokenizer.candidates=[{vocab_size: 900}, {}, {vocab_size: 1200}]",
            "tokenizer: candidates[2]: the same as candidates[1]",
        ),
        (
            "tokenizer.candidates=[{vocab_size: 99999999999}]",
            "tokenizer.candidates.0.vocab_size=99999999999: input should be less than or equal to 2147",
        ),
        (
            "tokenizer.vocab_size=259",
            "tokenizer: vocab_size=259: spaces: lossless needs at least 260",
        ),
    ],
)
def test_a_mistake_within_a_list_or_an_optional_section_is_told(
    workdir: Workdir, override: str, answer: str
) -> None:
    assert mistake(workdir, override).startswith(f"override '{override}': {answer}")


def test_candidates_are_the_section_but_for_what_they_name(workdir: Workdir) -> None:
    recipe = workdir.recipe("tokenizer.candidates=[{vocab_size: 900}, {spaces: article}, {}]")
    assert [vocabulary.name for vocabulary in recipe.tokenizer.specs()] == [
        "bpe-900-8000-lossless", "bpe-1200-8000-article", "bpe-1200-8000-lossless",
    ]  # fmt: skip
    assert len(workdir.recipe().tokenizer.specs()) == 1


def test_an_unknown_key_of_a_cluster_override_is_answered_as_it_was_typed(workdir: Workdir) -> None:
    with pytest.raises(ConfigError) as caught:
        load_cluster("local", workdir.recipe_file, ["cluster.training.ranks_per_nod=2"])
    assert str(caught.value).startswith("override 'cluster.training.ranks_per_nod=2'")
    assert "did you mean ranks_per_node?" in str(caught.value)


def test_an_unknown_key_of_a_cluster_file_is_answered_with_the_file(workdir: Workdir) -> None:
    tree = {"name": "odd", "kind": "local", "training": {"ranks_per_node": 1}, "arays": {}}
    path = workdir.write("odd.yaml", tree)
    with pytest.raises(ConfigError, match="unknown key arays; did you mean arrays") as caught:
        load_cluster(str(path), workdir.recipe_file, [])
    assert str(path) in str(caught.value)


def test_a_cluster_override_leaves_the_recipe_alone(workdir: Workdir) -> None:
    overrides = ["cluster.training.ranks_per_node=3", "training.steps=4"]
    assert load_recipe(workdir.recipe_file, overrides).training.steps == 4
    assert load_cluster("local", workdir.recipe_file, overrides).training.ranks == 3


def test_a_value_of_the_wrong_type_is_answered_with_key_and_value(workdir: Workdir) -> None:
    line = mistake(workdir, "training.steps=many")
    assert line.startswith("override 'training.steps=many'")
    assert "training.steps='many'" in line
    assert "integer" in line
    change(workdir, "corpus.held_out", 0.9)
    line = mistake(workdir)
    assert line.startswith(str(workdir.recipe_file))
    assert "corpus.held_out=0.9: input should be less than 0.5" in line


def test_values_that_do_not_fit_each_other_are_answered_with_the_override(workdir: Workdir) -> None:
    line = mistake(workdir, "training.global_batch=7")
    assert "global_batch=7 is not a multiple of micro_batch=2" in line
    assert line.startswith("override 'training.global_batch=7'")


def test_a_missing_key_is_named(workdir: Workdir) -> None:
    change(workdir, "model", {"n_embd": 64, "n_head": 2})
    assert "model.n_layer: field required (number of layers)" in mistake(workdir)


def test_all_that_an_empty_recipe_needs_is_told_at_once(workdir: Workdir) -> None:
    path = workdir.write("empty.yaml", {"corpus": {}, "training": {"learning_rate": "much"}})
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, [])
    found = [line.removeprefix(f"{path}: ").split(" (")[0] for line in caught.value.args]
    assert found == [
        "name: field required",
        "workspace: field required",
        "corpus.sources: field required",
        "model.n_layer: field required",
        "model.n_embd: field required",
        "model.n_head: field required",
        "training.learning_rate='much': input should be a valid number, unable to parse string as a number",
        "training: give steps or epochs",
    ]
    cluster = workdir.write("c.yaml", {"device": "gpu"})
    with pytest.raises(ConfigError) as caught:
        load_cluster(str(cluster), path, [])
    assert [line.split(" (")[0].removeprefix(f"{cluster}: ") for line in caught.value.args] == [
        "name: field required",
        "kind: field required",
        "device='gpu': input should be 'cpu' or 'cuda'",
        "training.ranks_per_node: field required",
    ]


def test_a_recipe_needs_a_name_a_workspace_texts_a_shape_and_an_end(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workdir.folder)  # the checkout has a folder `work` after the demo
    tree = yaml.safe_load(workdir.recipe_file.read_text(encoding="utf-8"))
    short = {
        "name": "short",
        "workspace": "work",
        "corpus": {"sources": tree["corpus"]["sources"]},
        "model": {key: tree["model"][key] for key in ("n_layer", "n_embd", "n_head")},
        "training": {"steps": 10},
    }
    recipe = load_recipe(workdir.write("short.yaml", short), [])
    assert recipe.training.learning_rate == 3e-4
    assert recipe.tokenizer.vocab_size == 50_000
    assert recipe.training.deepspeed == load_recipe(RECIPES[0], []).training.deepspeed


def test_all_that_has_no_effect_and_all_files_that_are_not_there_are_told_at_once(
    workdir: Workdir,
) -> None:
    line = mistakes(workdir, "corpus.sources.web.title=drop", "tokenizer.choose.margin=0.1")
    assert [text.split(": ")[0] for text in line] == [
        "override 'corpus.sources.web.title=drop'",
        "override 'tokenizer.choose.margin=0.1'",
    ]
    change(workdir, "corpus.sources.web.location", "jawiki-20220701")
    change(workdir, "training.deepspeed", "zero4")
    kind, deepspeed = mistakes(workdir)
    assert "corpus.sources.web.kind='plaintext'" in kind
    assert "training.deepspeed=zero4" in deepspeed


def test_steps_or_epochs_must_be_given(workdir: Workdir) -> None:
    assert "give steps or epochs" in mistake(workdir, "training.steps=null")


def test_epochs_become_steps(workdir: Workdir) -> None:
    training = workdir.recipe("training.steps=null", "training.epochs=1.5").training
    assert training.steps_over(blocks=100) == 19  # 150 blocks by 8, and a started step counts


def test_infinity_is_no_learning_rate(workdir: Workdir) -> None:
    mistake(workdir, "training.learning_rate=.inf")
    mistake(workdir, "training.learning_rate=1e999")


@pytest.mark.parametrize(
    "override", ["training.steps", "=3", "training..steps=3", "training steps=3"]
)
def test_an_override_that_is_none_is_answered_with_its_form(
    workdir: Workdir, override: str
) -> None:
    assert "write section.key=value" in mistake(workdir, override)


def test_an_override_inside_a_value_says_so(workdir: Workdir) -> None:
    assert "steps is a value, not a section" in mistake(workdir, "training.steps.x=1")


def test_an_override_into_an_empty_section_of_the_file_is_taken(workdir: Workdir) -> None:
    append(workdir, "release:\n")
    assert load_recipe(workdir.recipe_file, ["release.seed=3"]).release.seed == 3


def test_a_missing_recipe_is_a_mistake(workdir: Workdir) -> None:
    workdir.recipe_file.unlink()
    assert "no such file" in mistake(workdir)


def test_a_folder_is_no_recipe(workdir: Workdir) -> None:
    workdir.recipe_file.unlink()
    workdir.recipe_file.mkdir()
    assert "not a run directory" in mistake(workdir)


@pytest.mark.parametrize("name", ["work", "work/runs", "work/runs/smal"])
def test_a_workspace_and_a_run_that_is_not_there_are_answered_by_its_runs(
    workdir: Workdir, name: str
) -> None:
    run = workdir.workspace.run("small")
    write_json(run.recipe, {})
    with pytest.raises(ConfigError) as refused:
        load(workdir.folder / name, [], None)
    assert "mistakes" not in str(refused.value)
    assert f"; name a run: {run.root}" in str(refused.value)
    with pytest.raises(ConfigError, match=f"such as {workdir.workspace.root}$"):
        runs.workspaces(run.root)


def test_what_is_not_yaml_is_answered_with_the_line(workdir: Workdir) -> None:
    workdir.recipe_file.write_text("name: a\ncorpus: [1,\n", encoding="utf-8")
    assert ", line 3: invalid YAML" in mistake(workdir)


def test_a_control_character_is_not_yaml(workdir: Workdir) -> None:
    append(workdir, "release: {license: \x01}\n")
    assert str(workdir.recipe_file) in mistake(workdir)


def test_what_is_not_utf8_is_answered_with_the_place(workdir: Workdir) -> None:
    workdir.recipe_file.write_bytes("name: 日本".encode("cp932"))
    assert "byte 6 is not valid UTF-8" in mistake(workdir)


@pytest.mark.parametrize("text", ["", "just words\n", "- a\n- b\n"])
def test_yaml_without_sections_is_a_mistake(workdir: Workdir, text: str) -> None:
    workdir.recipe_file.write_text(text, encoding="utf-8")
    assert "has no keys" in mistake(workdir)


@pytest.mark.parametrize("key", ["corpus", "corpus.sources", "corpus.sources.web", "training"])
@pytest.mark.parametrize("value", [3, "text", ["a"]], ids=repr)
def test_a_value_where_a_section_belongs_is_a_mistake(
    workdir: Workdir, key: str, value: object
) -> None:
    change(workdir, key, value)
    assert key in mistake(workdir)


def test_an_unknown_cluster_is_answered_with_the_known(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workdir.folder)
    with pytest.raises(
        ConfigError, match=r"--cluster mdy: .*known clusters: local, local-gpu, mdx, mdx-2nodes;"
    ):
        load_cluster("mdy", workdir.recipe_file, [])


def test_the_deepspeed_file_becomes_part_of_the_recipe(workdir: Workdir) -> None:
    assert workdir.recipe().training.deepspeed == {"zero_optimization": {"stage": 2}}


@pytest.mark.parametrize("text", ["{", "", "[1]", "3"])
def test_a_deepspeed_file_that_is_no_json_object_is_a_mistake(workdir: Workdir, text: str) -> None:
    (workdir.folder / "zero2.json").write_text(text, encoding="utf-8")
    line = mistake(workdir)
    assert "training.deepspeed=" in line
    assert "zero2.json" in line


def test_a_missing_deepspeed_file_is_a_mistake(workdir: Workdir) -> None:
    (workdir.folder / "zero2.json").unlink()
    assert "training.deepspeed=" in mistake(workdir)


def test_a_deepspeed_override_may_name_another_file(workdir: Workdir) -> None:
    other = workdir.folder / "other.json"
    other.write_text('{"prescale_gradients": true}', encoding="utf-8")
    recipe = workdir.recipe(f"training.deepspeed={other}")
    assert recipe.training.deepspeed == {"prescale_gradients": True}


def test_differing_keys_are_named_with_both_values(workdir: Workdir) -> None:
    one, other = (
        workdir.recipe(),
        workdir.recipe("training.steps=11", "corpus.sources.web.kind=wikipedia"),
    )
    assert differing_keys(one, one) == []
    assert differing_keys(one, other) == [
        "corpus.sources.web.kind: plaintext -> wikipedia",
        "training.steps: 10 -> 11",
    ]


def test_a_source_that_is_gone_is_a_difference(workdir: Workdir) -> None:
    one = workdir.recipe()
    kept = {"web": one.corpus.sources["web"]}
    other = one.model_copy(update={"corpus": one.corpus.model_copy(update={"sources": kept})})
    assert any("corpus.sources.jawiki" in line for line in differing_keys(one, other))


def test_a_resolved_recipe_comes_back_from_its_json(workdir: Workdir) -> None:
    recipe = workdir.recipe("training.learning_rate=1e-4", "tracking.mlflow=null")
    write_json(workdir.folder / "recipe.json", recipe.model_dump(mode="json"))
    assert read_resolved(workdir.folder / "recipe.json", Recipe) == recipe


def test_a_resolved_cluster_comes_back_from_its_json(workdir: Workdir) -> None:
    cluster = load_cluster("local", workdir.recipe_file, ["cluster.environment.A=b"])
    assert cluster.environment == {"A": "b"}
    write_json(workdir.folder / "cluster.json", cluster.model_dump(mode="json"))
    assert read_resolved(workdir.folder / "cluster.json", Cluster) == cluster
