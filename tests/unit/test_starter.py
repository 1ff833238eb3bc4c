"""A recipe to start from: it is written once, it loads, and the commands take it as it is."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from jobs.pipeline import app
from kit.config import presets
from kit.config.load import load, load_cluster
from kit.errors import ConfigError
from kit.output.quantities import size as bytes_of
from kit.plan import memory, shape, starter
from kit.plan.size import Request, short
from kit.training import precision
from tests.schema import refused
from tests.unit.test_size import KINDS_AND_SIZES

if TYPE_CHECKING:
    from click.testing import Result

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.plan.proportions import Name

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SCHEMA = json.loads((CONFIGS / "recipe.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which the command is typed in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["new", *arguments])


def mistake(*arguments: str) -> str:
    done = new(*arguments)
    assert isinstance(done.exception, ConfigError)
    assert done.exception.exit_code == 2
    assert "\n" not in str(done.exception)
    return str(done.exception)


def written(request: Request, cluster: str) -> tuple[starter.Draft, Recipe, Cluster]:
    """The draft for a request, and what is loaded of it."""
    own = load_cluster(cluster, Path("a.yaml"), [])
    made = starter.draft("a", request, texts=[], cluster=own, folder=Path())
    Path("a.yaml").write_text(made.text, encoding="utf-8")
    return made, *load(Path("a.yaml"), [], cluster)


@pytest.mark.parametrize("cluster", ["local", "local-gpu", "mdx"])
@pytest.mark.parametrize(("kind", "size"), KINDS_AND_SIZES)
def test_a_recipe_of_any_size_loads_with_every_key_in_force(
    size: float, cluster: str, kind: Name
) -> None:
    made, recipe, own = written(Request(size, architecture=kind), cluster)
    assert recipe.model.architecture == kind
    assert f"\n# {short(shape.parameters(unpadded(recipe)))} parameters, " in made.text
    ranks = own.training.ranks
    assert recipe.training.global_batch % (recipe.training.micro_batch * ranks) == 0
    assert recipe.training.minimum_learning_rate == pytest.approx(
        recipe.training.learning_rate / 10, rel=0.05
    )
    assert refused(SCHEMA, yaml.safe_load(made.text)) == []
    assert len(made.text.splitlines()) < 60


def unpadded(recipe: Recipe) -> Recipe:
    return recipe.model_copy(
        update={"model": recipe.model.model_copy(update={"pad_vocab_to": None})}
    )


@pytest.mark.parametrize("request_", [
    Request(124e6), Request(3e9), Request(20e6, architecture="llama"),
    Request(1.1e9, 30e9, "llama", "muon", "wsd"),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("gpu", ["a100", "v100"])
@pytest.mark.parametrize("cluster", ["mdx", "mdx-2nodes"])
def test_the_memory_that_is_told_is_the_one_that_is_planned(
    request_: Request, gpu: str, cluster: str
) -> None:
    own = load_cluster(cluster, Path("a.yaml"), [f"cluster.training.accelerator={gpu}"])
    made = starter.draft("a", request_, texts=["cc100-ja"], cluster=own, folder=Path())
    Path("a.yaml").write_text(made.text, encoding="utf-8")
    recipe, _ = load(Path("a.yaml"), [], "mdx")
    resolved = recipe.training.model_copy(update={"precision": precision.resolve(own)[0]})
    setup = shape.setup(recipe.model_copy(update={"training": resolved}), own)
    (why,) = (why for subject, _, why in made.reasons if subject == "micro-batch")
    assert why.startswith(f"{bytes_of(memory.total(setup))} ")


def test_optimizer_and_schedule_are_those_asked_for() -> None:
    wanted = Request(20e6, architecture="llama", optimizer="muon", decay="wsd")
    made, recipe, _ = written(wanted, "mdx")
    training = recipe.training
    assert (training.optimizer, training.decay) == ("muon", "wsd")
    assert training.minimum_learning_rate == 0
    assert refused(SCHEMA, yaml.safe_load(made.text)) == []
    usual = written(Request(20e6), "mdx")[1].training
    assert (usual.optimizer, usual.decay) == ("adamw", "cosine")


def test_the_command_writes_the_llama_that_it_is_asked_for() -> None:
    done = new("mine", "--size", "1.1b", "--architecture", "llama", "--optimizer", "muon")
    assert "the shape of llm-jp v4 1.3B" in done.output
    recipe = load(Path("mine.yaml"), [], "local")[0]
    assert (recipe.model.architecture, recipe.model.n_kv_head) == ("llama", 8)
    assert recipe.training.optimizer == "muon"
    assert load(Path("mine.yaml"), ["model.qk_norm=true"], "local")


def test_on_a_cpu_a_first_try_of_a_few_small_steps_is_named_that_a_dry_run_takes() -> None:
    line = new("mine").output.splitlines()[-1]
    words = line.removeprefix("a first try: ekiden pipeline ").split()
    done = CliRunner().invoke(app, [*words, "--dry-run"])
    assert words[:2] == ["run", "mine.yaml"]
    assert done.exit_code == 0, done.output


def test_it_says_what_it_chose_and_what_to_type_next() -> None:
    done = new("xl", "--size", "1.5b", "--tokens", "30b", "--cluster", "mdx")
    assert done.output.splitlines()[0] == "xl.yaml: written"
    assert "the shape of GPT-2 XL" in done.output
    assert "jawiki-20220701, cc100-ja  (a download of 79 GB; read 2 times in training)" in (
        done.output
    )
    assert done.output.endswith("next: ekiden pipeline submit xl.yaml --cluster mdx --dry-run\n")
    recipe = load(Path("xl.yaml"), [], "mdx")[0]
    assert (recipe.model.n_layer, recipe.model.n_embd, recipe.model.n_head) == (48, 1600, 25)
    assert recipe.training.steps == 28_611
    assert recipe.corpus.tasks == 64
    assert recipe.corpus.sources["jawiki"].location == "jawiki-20220701"


def test_a_file_that_is_there_is_never_overwritten() -> None:
    Path("mine.yaml").write_text("mine", encoding="utf-8")
    assert (
        mistake("mine") == "mine.yaml: already exists, and is not overwritten; choose another name"
    )
    assert Path("mine.yaml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["a/b"], "a/b: a name consists of letters"),
        (["a.yaml"], "a.yaml: a name consists of letters"),
        (["a", "--size", "9m"], "--size 9 M: give 10 M to 3 B parameters"),
        (["a", "--size", "4b"], "--size 4 B: give 10 M to 3 B parameters"),
        (["a", "--size", "big"], "--size big: write a number above 0"),
        (["a", "--tokens", "0"], "--tokens 0: write a number above 0"),
        (["a", "--text", "none.txt"], "--text none.txt: no such file"),
        (["a", "--cluster", "none"], "--cluster none: no such cluster"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments: list[str], line: str) -> None:
    assert mistake(*arguments).startswith(line)
    assert [*Path().iterdir()] == []


def test_a_text_of_your_own_is_taken_by_its_kind_and_size(elsewhere: Path) -> None:
    (elsewhere / "texts").mkdir()
    (elsewhere / "texts/big one.txt").write_text("行。\n" * 300_000, encoding="utf-8")
    (elsewhere / "log.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    (elsewhere / "dump.xml.bz2").write_bytes(bz2.compress(b"<mediawiki/>"))
    texts = ["texts/big one.txt", "log.jsonl", "dump.xml.bz2", "https://example.org/a.jsonl.zst"]
    assert new("one", "--text", texts[0]).exit_code == 0
    recipe = load(Path("one.yaml"), [], "local")[0]
    assert recipe.corpus.sources["big-one"].location == str(elsewhere / texts[0])
    assert recipe.tokenizer.vocab_size == 8_000  # by the size of the model
    assert recipe.corpus.held_out == 0.05
    assert recipe.corpus.unit_mb == pytest.approx(1.1, rel=0.1)  # 2.1 MB by two tasks
    assert new("all", *(part for text in texts for part in ("--text", text))).exit_code == 0
    sources = load(Path("all.yaml"), [], "local")[0].corpus.sources
    assert {name: source.kind for name, source in sources.items()} == {
        "big-one": "plaintext", "log": "jsonl", "dump": "wikipedia", "a": "jsonl",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("record", "name", "key"),
    [
        ({"id": "1", "text": "a", "title": "longer"}, "a.jsonl", "text"),
        ({"id": "1", "body": "あいう", "size": 3}, "a.jsonl", "body"),
        ({"本文": "あいう"}, "a.jsonl.gz", "本文"),
        ({"null": "a", "text": 5}, "a.json", "null"),
        ([{"a": "b"}], "a.json", "text"),
    ],
)
def test_json_lines_are_read_by_the_key_that_their_first_record_has(
    elsewhere: Path, record: Any, name: str, key: str
) -> None:
    line = f"\n{json.dumps(record)}\n".encode()
    (elsewhere / name).write_bytes(gzip.compress(line) if name.endswith("gz") else line)
    assert new("one", "--text", name).exit_code == 0
    recipe = load(Path("one.yaml"), [], "local")[0]
    assert recipe.corpus.sources["a"].text_key == key
    written = Path("one.yaml").read_text(encoding="utf-8")
    assert ("text_key" in written) == (key != "text")
    assert ("the longest text; others: id" in written) == (key == "body")


def test_json_lines_without_a_text_and_a_folder_of_two_kinds_are_refused(elsewhere: Path) -> None:
    (elsewhere / "texts").mkdir()
    (elsewhere / "texts/a.txt").write_text("行。\n", encoding="utf-8")
    (elsewhere / "texts/.b.jsonl").write_text("hidden", encoding="utf-8")
    assert new("one", "--text", "texts").exit_code == 0
    (elsewhere / "texts/b.jsonl").write_text('{"size": 5}\n', encoding="utf-8")
    assert mistake("two", "--text", "texts").startswith(
        "--text texts: a.txt looks like plaintext, b.jsonl like jsonl; give each kind by"
    )
    assert mistake("two", "--text", "texts/b.jsonl").startswith(
        "--text texts/b.jsonl: no key of the first record holds a text (keys: 'size'); write"
    )


def test_texts_of_one_name_are_told_apart(elsewhere: Path) -> None:
    for folder in ("a", "b"):
        (elsewhere / folder).mkdir()
        (elsewhere / folder / "text.txt").write_text("行。\n" * 100, encoding="utf-8")
    assert new("two", "--text", "a/text.txt", "--text", "b/text.txt").exit_code == 0
    assert [*load(Path("two.yaml"), [], "local")[0].corpus.sources] == ["text", "text-2"]


def test_without_the_kits_own_files_published_texts_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presets, "demo_text", lambda: None)
    monkeypatch.setattr(presets, "recipe_schema", lambda: None)
    assert new("a").exit_code == 0
    assert "cc100-ja" in Path("a.yaml").read_text(encoding="utf-8")
    assert not Path("a.yaml").read_text(encoding="utf-8").startswith("# yaml-language-server")


def test_a_recipe_in_the_checkout_names_its_files_relative_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    own = load_cluster("local", Path("a.yaml"), [])
    made = starter.draft("a", Request(10e6), texts=[], cluster=own, folder=Path())
    assert made.text.startswith("# yaml-language-server: $schema=configs/recipe.schema.json\n")
    assert "location: configs/demo/web.txt.xz\n" in made.text


@pytest.mark.parametrize("pattern", ["texts/*.txt", "texts/*", "texts/a.txt"])
def test_a_source_is_named_after_its_file_or_the_folder_of_its_pattern(pattern: str) -> None:
    folder = Path("texts")
    folder.mkdir()
    (folder / "a.txt").write_text("文。\n", encoding="utf-8")
    assert new("a", "--text", pattern).exit_code == 0
    recipe, _ = load(Path("a.yaml"), [], "local")
    assert [*recipe.corpus.sources] == ["a" if pattern.endswith("a.txt") else "texts"]
