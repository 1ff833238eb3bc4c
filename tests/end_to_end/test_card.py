"""The model card and the provenance of a real release, held against the files of its run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from huggingface_hub import ModelCard

from kit.config import licenses
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import shards, tokenizer_file
from kit.release import bom, continuation, croissant, export, verification
from kit.release.card import snippets, training
from kit.release.source import ReleaseSource, source_of
from kit.store.files import read_json, write_json
from kit.store.paths import MANIFEST, Run, Workspace
from kit.store.units import make_units
from kit.tracking import ledger, node_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.end_to_end

PAGES = ("README.md", "README_ja.md")


@pytest.fixture(scope="module")
def recipe(preempted: Run) -> Recipe:
    return read_resolved(preempted.recipe, Recipe)


@pytest.fixture(scope="module", params=PAGES)
def page(preempted: Run, request: pytest.FixtureRequest) -> str:
    return (preempted.export / request.param).read_text(encoding="utf-8")


def manifests(run: Run, stage: str) -> list[dict[str, Any]]:
    """The manifests of a stage, unit by unit."""
    return [read_json(path) for path in sorted((run.root.parents[1] / stage).glob(f"*/{MANIFEST}"))]


def rows_of(run: Run) -> list[dict[str, Any]]:
    """All rows of all attempts, read as the JSON that they are."""
    files = sorted(run.attempts.glob("*/ledger.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def figures_of_data(run: Run) -> Iterator[str]:
    shard, token = manifests(run, "shards"), manifests(run, "tokens")
    counts = [one["counts"] for one in shard]
    for source in ("jawiki", "web"):
        own = [one for one in shard if next(iter(one["causes"]["inputs"])).startswith(source)]
        train = [one["counts"]["train"] for one in own]
        documents, characters = (
            sum(one[key] for one in train) for key in ("documents", "characters")
        )
        yield f"{sum(one['bytes_in'] for one in own) / 1000:.3g} kB | {documents:,} | {characters:,} |"
    for name in ("read", "normalised"):
        step = [one["steps"][name] for one in shard]
        documents, characters = (
            sum(one[key] for one in step) for key in ("documents", "characters")
        )
        yield f"| {documents:,} | {characters:,} |"
    for part in ("train", "held-out"):
        documents, characters = (
            sum(one[part].get(key, 0) for one in counts) for key in ("documents", "characters")
        )
        yield f"| {documents:,} | {characters:,} |"
    yield f"{sum(one['tokens']['train'] for one in token):,}"
    yield f"{sum(one['counts']['train']['bytes'] for one in token) / 1000:.3g} kB"
    yield shard[0]["tools"]["neologdn"]


def figures_of_tokenizer(run: Run) -> Iterator[str]:
    workspace = Workspace(run.root.parents[1])
    chosen = read_json(workspace.tokenizer / MANIFEST)
    measures = read_json(workspace.candidate(chosen["candidate"]) / MANIFEST)["measures"]
    yield f"| {measures['fertility']:.3f} |"
    yield f"| {measures['characters_per_token']:.3f} |"
    yield f"| {measures['bits_per_byte']:.3f} |"
    yield f"| {measures['exact']:.1%} |"
    yield f"| {measures['vocabulary_used']:.1%} |"
    yield f"{chosen['vocabulary']['size']:,}"
    yield {"unigram": "Unigram", "bpe": "BPE"}[chosen["candidate"].partition("-")[0]]


def figures_of_training(run: Run, recipe: Recipe) -> Iterator[str]:
    rows = rows_of(run)
    begun = [row for row in rows if row["kind"] == "attempt"]
    steps = {row["step"]: row for row in rows if row["kind"] == "step"}
    assert len(begun) == 2
    yield "| 2, of which 1 was interrupted"
    yield f"{begun[0]['parameters']:,}"
    yield f"{steps[1]['loss']:.3f}"
    yield f"{steps[max(steps)]['loss']:.3f}"
    seen = max(steps) * recipe.training.global_batch * recipe.model.n_positions
    yield f"{seen:,}"
    yield f"{seen / begun[0]['training_tokens']:.2f}"
    yield begun[-1]["numerics"]["facts"]["cpu"]
    yield begun[-1]["numerics"]["facts"]["torch"]
    curve = [row for row in rows if row["kind"] in ("step", "validation")]
    whole = max(row["time"] for row in curve) - begun[0]["time"]
    seconds = sum(row["seconds"] for row in steps.values())
    yield f"{seconds / whole:.1%}"
    for row in [row for row in rows if row["kind"] == "sample" and row["step"] == max(steps)]:
        yield row["text"]


def figures_of_release(run: Run) -> Iterator[str]:
    scores = read_json(run.evaluation / "scores.json")
    yield f"| {scores['loss']:.3f} | {scores['unigram_loss']:.3f} |"
    yield f"| {scores['perplexity']:.1f} | {scores['unigram_perplexity']:.1f} |"
    yield f"| {scores['bits_per_byte']:.3f} |"
    yield f"{scores['held_out_tokens']:,}"
    yield f"{(run.export / 'model.safetensors').stat().st_size / 1e3:.3g} kB"
    yield (run.code / "commit").read_text().strip()


def test_every_figure_is_that_of_a_file_of_the_run(
    preempted: Run, recipe: Recipe, page: str
) -> None:
    figures = [
        *figures_of_data(preempted),
        *figures_of_tokenizer(preempted),
        *figures_of_training(preempted, recipe),
        *figures_of_release(preempted),
    ]
    if "日本語の" in page:
        figures.remove("| 2, of which 1 was interrupted")
        assert "2 回(うち 1 回は中断後に再開)" in page
    assert [figure for figure in figures if figure not in page] == []


def test_node_time_and_goodput_are_those_of_starts_ends_and_steps(
    preempted: Run, page: str
) -> None:
    ends = [json.loads(line) for line in preempted.requeues.read_text().splitlines()]
    decided = {row["job"]: row["time"] for row in ends if row["name"] == "train"}
    held = kept = 0.0
    for attempt in sorted(preempted.attempts.iterdir()):
        start = read_json(attempt / "start.json")
        held += (decided[start["job"]] - start["times"]["started"]) * start["ranks"]
        rows = map(json.loads, (attempt / "ledger.jsonl").read_text("utf-8").splitlines())
        seconds = [row["seconds"] for row in rows if row["kind"] == "step"]
        kept += (sum(seconds[1:]) + min(seconds[:2])) * start["ranks"]  # the first one warms up
    assert f"{held / 3600:,.2f}" in page
    assert f"{kept / held:.1%}" in page


def test_the_metadata_are_valid_for_the_hub(preempted: Run) -> None:
    card = ModelCard.load(preempted.export / "README.md", ignore_metadata_errors=False)
    assert card.data.license in licenses.HUB
    assert card.data.pipeline_tag == "text-generation"
    scores = read_json(preempted.evaluation / "scores.json")
    found = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert found == {
        key: scores[key] for key in ("perplexity", "bits_per_byte", "raw_bits_per_byte")
    }
    assert "---" not in (preempted.export / "README_ja.md").read_text("utf-8").splitlines()


def code_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


def test_the_snippets_of_the_card_run(
    preempted: Run, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, segmented, _ = code_of((preempted.export / "README.md").read_text("utf-8"))
    names: dict[str, Any] = {}
    for code in (raw, segmented):
        exec(code.replace(snippets.FOLDER, str(preempted.export)), names)
        told = capsys.readouterr().out
        assert told.startswith("霧浜県の")
        assert len(told) > 10
        assert "\u2063" not in told
    # The words that it cuts are the tokens that training saw.
    tokenizer = tokenizer_file.load(preempted.export)
    ids = tokenizer.encode(names["prompt"], add_special_tokens=False).ids
    with continuation.opened(None, tokenizer, recipe) as writer:
        assert ids == writer.tokens("霧浜県の")


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_bill_of_materials_is_valid_and_complete(preempted: Run) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (preempted.export / bom.FILE).read_text("utf-8")
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"machine-learning-model"', '"model"')) is not None
    bill = json.loads(text)
    named = {one["name"]: one for one in bill["components"]}
    for path in files_of(preempted.export):
        name = path.relative_to(preempted.export).as_posix()
        if name not in (bom.FILE, MANIFEST, *PAGES):
            assert named[name]["hashes"] == [{"alg": "SHA-256", "content": sha256(path)}]
    packages = preempted.environment.read_text().split()
    libraries = [one for one in bill["components"] if one["type"] == "library"]
    assert [f"{one['name']}=={one['version']}" for one in libraries] == packages
    assert {"jawiki", "web"} <= {*named}
    refs = {
        bill["metadata"]["component"]["bom-ref"],
        *(one["bom-ref"] for one in bill["components"]),
    }
    told = [ref for one in bill["dependencies"] for ref in (one["ref"], *one["dependsOn"])]
    assert {*told} <= refs


def test_the_corpus_is_described_in_valid_croissant(preempted: Run, tmp_path: Path) -> None:
    import mlcroissant

    path = preempted.export / croissant.FILE
    issues = mlcroissant.Dataset(jsonld=str(path)).metadata.issues
    assert not issues.errors
    assert not [one for one in issues.warnings if "is recommended" not in str(one)]
    tree = read_json(path)
    files = [one for one in tree["distribution"] if one["@type"] == "cr:FileObject"]
    workspace = preempted.root.parents[1]
    found = {one["contentUrl"]: one["sha256"] for one in files}
    made = [
        path.relative_to(workspace).as_posix() for path in (workspace / "shards").rglob("*.txt.zst")
    ]
    assert found == {name: sha256(workspace / name) for name in made}
    assert len(files) == len(manifests(preempted, "shards")) * len(shards.PARTS)
    del files[0]["contentUrl"]
    write_json(tmp_path / "broken.json", tree)
    with pytest.raises(mlcroissant.ValidationError, match="contentUrl"):
        mlcroissant.Dataset(jsonld=str(tmp_path / "broken.json"))


def test_a_release_is_verified_and_made_again_with_the_same_bytes(
    preempted: Run, recipe: Recipe, tmp_path: Path
) -> None:
    found = verification.check(preempted.export)
    assert (found.faults, found.edited) == (0, [])
    assert found.files == len(files_of(preempted.export)) - 1  # without the manifest
    (unit,) = export.units(preempted, recipe)
    own = type(unit)("export", tmp_path / "export", unit.causes, unit.make, published=True)
    make_units("export", [own])
    assert read_json(own.folder / MANIFEST) == read_json(preempted.export / MANIFEST)


def test_no_file_of_a_release_names_a_folder_of_this_machine(preempted: Run) -> None:
    place = str(preempted.root.parents[1]).encode()
    for path in preempted.export.rglob("*"):
        assert not path.is_file() or place not in path.read_bytes(), path


def test_energy_is_counted_from_readings_of_the_gpus(
    preempted: Run, recipe: Recipe, tmp_path: Path
) -> None:
    """The ledger of the run, as GPUs would have left it."""
    run = Run(tmp_path / "run")
    shutil.copytree(preempted.attempts, run.attempts)
    for name in ("requeues", "cluster", "recipe"):
        shutil.copyfile(getattr(preempted, name), getattr(run, name))
    for attempt in ledger.attempts(run):
        text = attempt.ledger.read_text("utf-8").replace(
            '"device": "cpu"', '"device": "NVIDIA A100"'
        )
        attempt.ledger.write_text(text, "utf-8")
    source = ReleaseSource(run, source_of(preempted).checkpoint, run)

    def energy(**release: float) -> Any:
        changed = recipe.model_copy(update={"release": recipe.release.model_copy(update=release)})
        read = training.events(source)
        facts = training.training_facts(source, changed, 1000, training.beginnings(read))
        return training.energy_facts(source, changed, facts, read)

    assert energy() is None  # neither readings nor the name of the board
    tree = read_json(run.cluster)
    tree["training"]["accelerator"] = "a100"
    write_json(run.cluster, tree | {"device": "cuda"})
    assert read_resolved(run.cluster, Cluster).training.accelerator == "a100"
    hours = node_time.of_run(preempted).held_seconds / 3600
    assert energy().kwh == pytest.approx(hours * 0.4)
    assert not energy().measured
    gpus = [{"index": n, "power": watts} for n, watts in enumerate((200, 20, 300))]  # two ranks
    row = {"kind": "devices", "attempt": 2, "time": 0.0, "step": 40, "gpus": gpus}
    with ledger.attempts(run)[-1].ledger.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")
    found = energy(pue=1.5, grid_gco2_per_kwh=500.0)
    assert found.measured
    assert found.kwh == pytest.approx(hours * 0.25 * 1.5)
    assert found.co2_kg == pytest.approx(found.kwh * 0.5)


def test_the_metadata_are_one_block_of_yaml(preempted: Run) -> None:
    text = (preempted.export / "README.md").read_text("utf-8")
    _, head, _ = text.split("---\n", 2)
    assert yaml.safe_load(head)["language"] == ["ja"]
