"""The keys explained: every one has a sentence, and the page and the schemas are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from jobs.pipeline import app
from kit.config import reference
from kit.config import schema as schema_module
from kit.config.cluster import Cluster
from kit.config.fields import dotted_keys
from kit.config.recipe import Recipe
from kit.errors import ConfigError
from tests.schema import refused

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
FILES = [
    *CONFIGS.glob("*.yaml"),
    *CONFIGS.glob("cluster/*.yaml"),
    ROOT / "sbatch/slurm/cluster.yaml",
]
KEYS = {key.name: key for key in reference.every_key()}


def schema_of(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CONFIGS / f"{kind}.schema.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_key_has_a_sentence_and_is_explained(key: reference.Key) -> None:
    assert len(key.text) > 10
    assert not key.text.endswith("."), "the sentence gets its full stop where it is shown"
    shown = " ".join(reference.explain(key.name).split())
    assert shown.startswith(key.name)
    assert key.section is not None or reference.sentence(key.text) in shown


def test_the_keys_are_those_that_overrides_may_be_of() -> None:
    known = {*dotted_keys(Recipe), *dotted_keys(Cluster, "cluster.")}
    assert known <= KEYS.keys()
    assert {key for key in KEYS if key not in known and ".N." not in key} == set()


def test_a_key_is_explained_with_what_it_takes_and_its_default() -> None:
    assert reference.explain("training.clip").splitlines() == [
        "training.clip: number > 0; default 1.0",
        "  Maximum gradient norm; larger ones are clipped.",
    ]
    assert "lossless, article or null; default null" in reference.explain(
        "tokenizer.candidates.0.spaces"
    )
    assert "integer > 0; required" in reference.explain("model.n_layer")
    assert "integer > 0; default 60" in reference.explain("cluster.training.minutes")


@pytest.mark.parametrize("name", ["corpus.sources.web", "corpus.sources", "corpus.sources.NAME"])
def test_a_section_is_explained_with_its_keys(name: str) -> None:
    lines = reference.explain(name).splitlines()
    assert lines[0].startswith("corpus.sources.NAME: One raw text")
    assert any(re.match(r"  kind +required  format of the raw text", line) for line in lines)
    assert "health" in reference.explain("training")
    assert "hang_seconds" not in reference.explain("training")


def test_without_a_key_the_sections_are_named() -> None:
    shown = reference.explain()
    assert all(f"  {name} " in shown for name in (*Recipe.model_fields, "cluster.arrays"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("precision", "did you mean training.precision?"),
        ("training.precison", "did you mean training.precision?"),
        ("seed", "did you mean training.seed or release.seed?"),
        ("minutes", "did you mean cluster.network.minutes or cluster.arrays.minutes or cluster.single.min"),
        ("trainng", "did you mean training?"),
        ("lerning_rate", "did you mean training.learning_rate?"),
        ("training.seed.x", "did you mean training.seed?"),
        ("zzz", "run explain without a key to list the sections"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_answered_with_what_was_meant(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"unknown key {name}; {hint}")):
        reference.explain(name)


def test_the_page_is_that_of_the_code() -> None:
    assert (ROOT / "docs/recipes.md").read_text(encoding="utf-8") == reference.page(), (
        "run make reference"
    )


@pytest.mark.parametrize("kind", ["recipe", "cluster"])
def test_the_schema_is_that_of_the_code(kind: str) -> None:
    assert schema_of(kind) == schema_module.schema(kind), "run make reference"
    with pytest.raises(ConfigError, match="no schema recipes; name one of recipe and cl"):
        schema_module.schema("recipes")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_of_the_kit_names_its_schema_which_takes_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named
    schema = json.loads((path.parent / named[1]).read_text(encoding="utf-8"))
    assert refused(schema, yaml.safe_load(text)) == []


SMALL = {
    "name": 2024,
    "workspace": "work",
    "corpus": {"sources": {"web": {"kind": "plaintext", "location": "a.txt"}}},
    "model": {"n_layer": 1, "n_embd": 8, "n_head": 2},
    "training": {"steps": 1},
}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"training": {"epochs": 0.5, "deepspeed": {"zero_optimization": {"stage": 1}}}},
        {"training": {"steps": 1, "deepspeed": "zero2", "precision": "bf16"}},
        {"training": {"steps": 1, "micro_batch": "auto"}},
        {"tokenizer": {"candidates": [{"vocab_size": 300}, {}], "choose": {"margin": 0.1}}},
        {"release": {"prompts": [2024, "a"], "license_link": 1.0}, "tracking": {"mlflow": None}},
    ],
    ids=str,
)
def test_the_schema_takes_what_the_loader_takes(more: dict[str, Any]) -> None:
    assert refused(schema_of("recipe"), SMALL | more) == []


@pytest.mark.parametrize(
    "more",
    [
        {"modle": {}},
        {"training": {}},
        {"training": {"steps": 0}},
        {"training": {"steps": 1, "precision": "bf8"}},
        {"training": {"steps": 1, "precision_reason": "mine"}},
        {"training": {"steps": 1, "micro_batch": "all"}},
        {"training": {"steps": 1, "micro_batch": 0}},
        {"training": {"steps": 1, "health": {"window": 9}}},
        {"model": {"n_layer": 1, "n_embd": 8}},
        {"model": 3},
        {"corpus": {"sources": {"web": {"kind": "plaintext"}}}},
        {"corpus": {"sources": {"web": {"kind": "text", "location": "a.txt"}}}},
        {"name": "a b"},
        {"tokenizer": {"candidates": [{"vocab": 300}]}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_loader_refuses(more: dict[str, Any]) -> None:
    assert refused(schema_of("recipe"), SMALL | more) != []


def test_the_command_explains_and_answers_a_slip_with_exit_code_2() -> None:
    done = CliRunner().invoke(app, ["explain", "training.clip"])
    assert done.output == f"{reference.explain('training.clip')}\n"
    done = CliRunner().invoke(app, ["explain", "--json", "model"])
    assert [found["key"] for found in json.loads(done.output)][:2] == [
        "model",
        "model.architecture",
    ]
    done = CliRunner().invoke(app, ["explain", "clip"])
    assert isinstance(done.exception, ConfigError)
    assert done.exception.exit_code == 2
    done = CliRunner().invoke(app, ["explain", "--schema", "cluster"])
    assert json.loads(done.output) == schema_module.schema("cluster")
    assert CliRunner().invoke(app, ["explain", "--all"]).output == reference.page()
