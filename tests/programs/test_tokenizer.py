"""The tokenizer stage: counted, trained, measured, chosen, the same whatever the process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kit.cluster import lock
from kit.config.load import load_recipe
from kit.config.run import run_of
from kit.corpus import download, preprocess
from kit.data import shards, tokenizer_file, tokens
from kit.errors import ConfigError, InputError, StageError
from kit.store import manifest
from kit.store.files import file_hash, read_json, write_json
from kit.store.units import census, make_units
from kit.tokenizer import bpe, candidates, count, counts, huggingface, merge, selection
from tests.conftest import new_workdir, units_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

LIST = (
    "tokenizer.candidates=[{vocab_size: 1150}, {algorithm: unigram}, "
    "{spaces: article, vocab_size: 1000}]"
)
NAMES = ["bpe-1150-8000-lossless", "unigram-1200-8000-lossless", "bpe-1000-8000-article"]

TRAIN_AND_SAVE = """
import sys
from pathlib import Path
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.tokenizer import candidates, huggingface
recipe = read_resolved(Path(sys.argv[1]), Recipe)
for vocabulary in recipe.tokenizer.specs():
    folder = Path(sys.argv[2]) / vocabulary.name
    folder.mkdir(parents=True)
    huggingface.save(candidates.train(recipe, vocabulary), folder)
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, streams: list[bytes]) -> Workdir:
    """A workdir with three candidates and a tokenizer, made once."""
    workdir = new_workdir(tmp_path_factory.mktemp("template"), streams)
    workdir.make(workdir.recipe(LIST), "tokenizer")
    return workdir


@pytest.fixture
def made(workdir: Workdir, template: Workdir) -> Workdir:
    """A copy of it: the texts with their times, by which they are known, and the workspace."""
    for name in ("web.txt", "dump.xml.bz2"):
        shutil.copy2(template.folder / name, workdir.folder / name)
    shutil.copytree(template.workspace.root, workdir.workspace.root, symlinks=True)
    return workdir


def test_a_tokenizer_has_the_entries_the_recipe_asks_for(workdir: Workdir) -> None:
    workdir.make(workdir.recipe(), "tokenizer")
    tokenizer = tokenizer_file.load(workdir.workspace.tokenizer)
    assert tokenizer.get_vocab_size() == 1_200
    assert [tokenizer.id_to_token(number) for number in range(3)] == list(huggingface.SPECIAL)
    assert tokens.tokenizer_info(workdir.recipe()) == tokens.TokenizerInfo(1_200, 1, 2)


def test_autotokenizer_gives_the_tokens_of_the_token_files(workdir: Workdir) -> None:
    from transformers import AutoTokenizer

    recipe = workdir.recipe()
    workdir.make(recipe, "tokenize")
    theirs = AutoTokenizer.from_pretrained(workdir.workspace.tokenizer)
    for part in shards.PARTS:
        expected: list[int] = []
        for shard in shards.complete(recipe):
            for text in shards.texts(shards.part_file(shard.folder, part)):
                ids = theirs(huggingface.surface(text, "lossless"))["input_ids"]
                assert theirs.decode(ids) == shards.plain_text(text.split("\n"))
                expected += [*ids, theirs.eos_token_id]
        row = tokens.open_part(tokens.complete(recipe), part, recipe)
        assert row.slice(0, len(row)).tolist() == expected


def test_candidates_are_the_same_bytes_in_any_process(made: Workdir, root: Path) -> None:
    write_json(made.folder / "recipe.json", made.recipe(LIST).model_dump(mode="json"))
    for seed in ("1", "12345"):
        subprocess.run(
            [sys.executable, "-c", TRAIN_AND_SAVE, made.folder / "recipe.json", made.folder / seed],
            cwd=root,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        for name in NAMES:
            for file in (huggingface.FILE, huggingface.SETTINGS):
                again = (made.folder / seed / name / file).read_bytes()
                assert again == (made.workspace.candidate(name) / file).read_bytes()


def test_this_text_gives_this_tokenizer(
    root: Path, web_words: dict[str, int], tmp_path: Path
) -> None:
    recipe = load_recipe(
        root / "configs/demo.yaml", ["tokenizer.vocab_size=1200", "tokenizer.candidates=[]"]
    )
    (vocabulary,) = recipe.tokenizer.specs()
    huggingface.save(bpe.train(counts.chunks(web_words), vocabulary, 2), tmp_path)
    assert file_hash(tmp_path / huggingface.FILE)[:16] == "c91bb12b7fca7389", (
        "another tokenizer from the same words: raise TOKENIZER_VERSION in kit/data/tokens.py, then this "
        "hash"
    )


def test_the_candidate_is_chosen_by_what_was_measured(made: Workdir) -> None:
    recipe = made.recipe(LIST)
    found = {name: selection.figures(recipe, name) for name in NAMES}
    assert [found[name]["exact"] for name in NAMES[:2]] == [1, 1]
    best = min(NAMES[:2], key=lambda name: found[name]["bits_per_byte"])
    facts = manifest.read(made.workspace.tokenizer, "")
    assert facts["candidate"] == best
    chosen = (made.workspace.tokenizer / huggingface.FILE).read_bytes()
    assert chosen == (made.workspace.candidate(best) / huggingface.FILE).read_bytes()
    text = selection.report(recipe)
    assert [line.split(" |")[0].strip("| ") for line in text.splitlines()[2:5]] == [
        f"{name} *" if name == best else name for name in NAMES
    ]
    assert (made.workspace.candidates / selection.PLOT).stat().st_size > 10_000


def test_the_smallest_of_the_candidates_decides_what_a_token_takes(made: Workdir) -> None:
    recipe = made.recipe(
        LIST, "tokenizer.choose.measure=vocabulary_used", "tokenizer.choose.exact=false"
    )
    choice, _ = selection.select(recipe)
    made.make(recipe, "tokenizer")
    size = int(choice.split("-")[1])
    assert tokens.tokenizer_info(recipe).size == size


def test_a_pick_stands_before_the_rule_until_it_is_taken_back(made: Workdir) -> None:
    def tokenizer() -> str:
        made.make(recipe, "tokenizer")
        return str(manifest.read(made.workspace.tokenizer, "")["candidate"])

    recipe = made.recipe(LIST)
    by_rule = tokenizer()
    with selection.pick(recipe, NAMES[2]):
        pass
    assert tokenizer() == NAMES[2]
    found = made.run("jobs.tokenizer", "report", str(made.recipe_file), LIST, "--json")
    shown = json.loads(found.stdout)
    assert (shown["chosen"], shown["reason"]) == (NAMES[2], "picked by hand")
    assert list(shown["candidates"]) == NAMES
    with selection.pick(recipe, "rule"):
        pass
    assert tokenizer() == by_rule


def test_a_pick_that_is_no_candidate_is_refused(made: Workdir) -> None:
    found = made.run("jobs.tokenizer", "run", str(made.recipe_file), LIST, "--pick", "bpe")
    assert found.returncode == 2
    assert found.stderr == (
        f"error: --pick bpe: no such candidate; choose {', '.join(NAMES)}, or rule\n"
    )
    assert not made.workspace.pick.exists()


@pytest.mark.parametrize("name", ["other", "small"])
def test_a_pick_is_refused_while_a_run_is_trained_on_the_tokenizer(
    made: Workdir, name: str
) -> None:
    write_json(made.workspace.run(name).attempt(1).start, {"from_step": 0})
    found = made.run("jobs.tokenizer", "run", str(made.recipe_file), LIST, "--pick", NAMES[2])
    assert found.returncode == 2
    assert (
        f"this would rebuild tokenizer, and the unfinished run {name} trains on it" in found.stderr
    )
    assert not made.workspace.pick.exists()
    assert census(units_of(selection, made.recipe(LIST)))["done"] == 1


def test_a_pick_is_refused_while_the_run_is_at_work(made: Workdir) -> None:
    recipe = made.recipe(LIST)
    with lock.hold(run_of(recipe)):
        found = made.run("jobs.tokenizer", "run", str(made.recipe_file), LIST, "--pick", NAMES[2])
    assert found.returncode == 2
    assert "is already running this run" in found.stderr
    assert not made.workspace.pick.exists()


def test_a_pick_goes_with_the_command_that_brought_it(made: Workdir) -> None:
    pick = ("--pick", NAMES[2])
    planned = made.run("jobs.tokenizer", "run", str(made.recipe_file), LIST, *pick, "--dry-run")
    assert (planned.returncode, made.workspace.pick.exists()) == (0, False)
    lost = shards.complete(made.recipe(LIST))[0].folder
    shards.part_file(lost, shards.TRAIN).unlink()
    failed = made.run("jobs.tokenizer", "run", str(made.recipe_file), LIST, *pick)
    assert (failed.returncode, made.workspace.pick.exists()) == (2, False)


def test_another_candidate_is_refused_as_well_while_that_run_lasts(made: Workdir) -> None:
    write_json(made.workspace.run("other").attempt(1).start, {"from_step": 0})
    longer = LIST[:-1] + ", {vocab_size: 1180}]"
    found = made.run("jobs.tokenizer", "run", str(made.recipe_file), longer)
    assert found.returncode == 2
    assert "this would rebuild tokenizer" in found.stderr


def test_a_pick_of_a_candidate_that_is_gone_is_told_before_anything_is_made(made: Workdir) -> None:
    write_json(made.workspace.pick, {"candidate": NAMES[0]})
    had = (made.workspace.tokenizer / huggingface.FILE).read_bytes()
    other = "tokenizer.candidates=[{vocab_size: 1180}]"
    found = made.run("jobs.tokenizer", "run", str(made.recipe_file), other)
    assert found.returncode == 2
    assert f"{NAMES[0]} is not a candidate of the recipe; pick another" in found.stderr
    assert (made.workspace.tokenizer / huggingface.FILE).read_bytes() == had
    assert not made.workspace.candidate("bpe-1180-8000-lossless").exists()
    with pytest.raises(ConfigError, match="is not a candidate of the recipe; pick another"):
        selection.select(made.recipe(other))


def test_a_damaged_pick_is_told(made: Workdir) -> None:
    for text in ("{}", "[]", '{"candid'):
        made.workspace.pick.write_text(text, encoding="utf-8")
        with pytest.raises(StageError, match=r"pick\.json: damaged; remove it, then pick again"):
            units_of(selection, made.recipe(LIST))


def test_a_candidate_that_was_changed_does_not_become_the_tokenizer(made: Workdir) -> None:
    path = made.workspace.candidate(NAMES[2]) / huggingface.FILE
    path.write_bytes(path.read_bytes().replace("日".encode(), "曰".encode()))
    had = (made.workspace.tokenizer / huggingface.FILE).read_bytes()
    found = made.run("jobs.tokenizer", "run", str(made.recipe_file), LIST, "--pick", NAMES[2])
    assert found.returncode == 2
    assert (
        f"{NAMES[2]}: changed since it was made; run {sys.executable} -m jobs.tokenizer run RECIPE --verify"
    ) in found.stderr
    assert not made.workspace.pick.exists()
    assert (made.workspace.tokenizer / huggingface.FILE).read_bytes() == had


def test_stale_candidates_are_not_reported_on(made: Workdir) -> None:
    before = selection.report(made.recipe(LIST))
    with pytest.raises(
        StageError, match=r"bpe-1150-8000-lossless: stale; run ekiden tokenizer first"
    ):
        selection.report(made.recipe(LIST, "tokenizer.min_frequency=3"))
    assert (made.workspace.candidates / selection.TABLE).read_text(encoding="utf-8") == before


def test_a_count_that_was_changed_is_noticed_by_whoever_reads_it(made: Workdir) -> None:
    for folder, module, name in (
        (made.workspace.word_counts("lossless", 0), merge, "lossless"),
        (made.workspace.words("lossless"), candidates, NAMES[0]),
    ):
        path = folder / counts.COUNTS
        raw = bytearray(path.read_bytes())
        raw[6] ^= 1
        path.write_bytes(raw)
        (unit,) = [unit for unit in units_of(module, made.recipe(LIST)) if unit.name == name]
        with pytest.raises(StageError, match="changed since it was made"):
            unit.make(made.folder)
        raw[6] ^= 1
        path.write_bytes(raw)


def test_a_new_candidate_leaves_the_others_as_they_are(made: Workdir) -> None:
    before = [made.workspace.candidate(name).stat().st_mtime_ns for name in NAMES]
    recipe = made.recipe(LIST[:-1] + ", {vocab_size: 1180}]")
    assert make_units("candidates", units_of(candidates, recipe)) == 1
    assert [made.workspace.candidate(name).stat().st_mtime_ns for name in NAMES] == before


def test_candidates_are_runs_in_mlflow_with_their_plots(made: Workdir) -> None:
    from mlflow.tracking import MlflowClient

    recipe = made.recipe(LIST)
    for unit in [*units_of(candidates, recipe), *units_of(candidates, recipe)]:
        assert candidates.publish(recipe, unit) is None
    client = MlflowClient(f"sqlite:///{made.workspace.mlflow}")
    experiment = client.get_experiment_by_name(recipe.tracking.experiment)
    found = client.search_runs([experiment.experiment_id])
    assert sorted(row.info.run_name for row in found) == sorted(NAMES)
    for row in found:
        figures = selection.figures(recipe, row.info.run_name)
        assert row.data.metrics["bits_per_byte"] == figures["bits_per_byte"]
        assert [file.path for file in client.list_artifacts(row.info.run_id)] == [candidates.PLOT]


def test_a_candidate_the_words_cannot_give_is_named(workdir: Workdir) -> None:
    recipe = workdir.recipe("tokenizer.candidates=[{vocab_size: 1150}, {vocab_size: 50000}]")
    workdir.make(recipe, "merge")
    with pytest.raises(
        InputError,
        match=r"candidate bpe-50000-8000-lossless: tokenizer.vocab_size=50000: the corpus yields only",
    ):
        make_units("candidates", units_of(candidates, recipe))
    assert census(units_of(candidates, recipe)) == {
        "done": 1,
        "missing": 1,
        "stale": 0,
        "broken": 0,
    }
    with pytest.raises(StageError, match=r"missing; run ekiden tokenizer first"):
        make_units("tokenizer", units_of(selection, recipe))
    assert not (workdir.workspace.tokenizer / "tokenizer.json").exists()


def test_a_corpus_with_nothing_held_out_is_refused(workdir: Workdir) -> None:
    with pytest.raises(
        InputError, match=r"corpus\.held_out=1e-09: none of the 33 documents is held out"
    ):
        workdir.make(workdir.recipe("corpus.held_out=1e-9"), "count")


def test_a_corpus_of_empty_files_is_refused_as_empty(workdir: Workdir) -> None:
    workdir.web.write_text("\n", encoding="utf-8")
    kept = "corpus.sources={web: {kind: plaintext, location: " + str(workdir.web) + "}}"
    with pytest.raises(InputError, match="empty"):
        workdir.make(workdir.recipe(kept), "count")


def test_counting_waits_for_every_shard_and_for_one_that_vanished(workdir: Workdir) -> None:
    recipe = workdir.recipe()
    make_units("download", units_of(download, recipe))
    for task in (0, 1):
        with pytest.raises(StageError, match=r"missing; run ekiden preprocess first"):
            units_of(count, recipe)
        make_units("preprocess", units_of(preprocess, recipe), task, 2)
    workdir.make(recipe, "count")
    shards.part_file(shards.complete(recipe)[1].folder, shards.TRAIN).unlink()
    for module in (count, selection):
        with pytest.raises(StageError, match=r"-0000\d: broken; run ekiden preprocess first"):
            units_of(module, recipe)


def test_a_word_count_file_that_vanished_is_made_again(made: Workdir) -> None:
    recipe = made.recipe(LIST)
    (made.workspace.word_counts("lossless", 0) / counts.COUNTS).unlink()
    with pytest.raises(StageError, match=r"lossless/00000: broken; run ekiden tokenizer first"):
        units_of(merge, recipe)
    assert make_units("count", units_of(count, recipe)) == 1
    assert census(units_of(merge, recipe))["done"] == 2


def test_more_word_count_files_than_can_be_merged_are_refused(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count, "_FILES", 2)
    recipe = workdir.recipe("tokenizer.count_mb=0.001")
    workdir.make(recipe, "preprocess")
    with pytest.raises(
        StageError, match=r"count_mb=0\.001: gives \d+ word-count files, but at most 2 can be"
    ):
        units_of(count, recipe)


def test_the_tokenizer_never_sees_what_is_held_out(workdir: Workdir) -> None:
    recipe = workdir.recipe("corpus.held_out=0.4", "tokenizer.vocab_size=1000")
    workdir.make(recipe, "tokenizer")
    parts = {
        part: [
            character
            for shard in shards.complete(recipe)
            for text in shards.texts(shards.part_file(shard.folder, part))
            for character in text
        ]
        for part in shards.PARTS
    }
    unseen = set(parts[shards.HELD_OUT]) - set(parts[shards.TRAIN])
    assert unseen
    vocabulary = tokenizer_file.load(workdir.workspace.tokenizer).get_vocab()
    assert not unseen & set(vocabulary)
    assert (
        read_json(workdir.workspace.tokenizer / "manifest.json")["reason"] == "the only candidate"
    )
