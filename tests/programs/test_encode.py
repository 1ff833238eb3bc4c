"""The tokenize stage: token files, whose tokens they are, and a block of them as text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kit.corpus import download, preprocess
from kit.data import shards, tokenizer_file, tokens
from kit.errors import ConfigError, StageError
from kit.release import prepared
from kit.store import manifest
from kit.store.files import write_json
from kit.store.units import census, make_units
from kit.tokenizer import blocks, encode, huggingface
from tests import vocabulary
from tests.conftest import units_of

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Recipe
    from tests.conftest import Workdir

# Enough held-out text for some blocks.
OVERRIDES = ("corpus.held_out=0.3",)


@pytest.fixture
def recipe(workdir: Workdir) -> Recipe:
    """A recipe whose shards are made."""
    made = workdir.recipe(*OVERRIDES)
    for module in (download, preprocess):
        make_units(module.__name__, units_of(module, made))
    return made


def documents(recipe: Recipe, part: str) -> list[str]:
    """All documents of a part, in the order of the corpus."""
    files = [shards.part_file(shard.folder, part) for shard in shards.complete(recipe)]
    return [text for file in files for text in shards.texts(file)]


def put(recipe: Recipe, spaces: str = "lossless", size: int = 2000) -> None:
    """Have a tokenizer of the training shards in the workspace."""
    sentences = "".join(documents(recipe, shards.TRAIN)).split("\n")
    vocabulary.put(recipe, vocabulary.trained(sentences, spaces, size), spaces)


def encoded(recipe: Recipe) -> list[tokens.TokenUnit]:
    make_units("tokenize", units_of(encode, recipe))
    return tokens.complete(recipe)


@pytest.mark.parametrize("spaces", ["lossless", "article"])
def test_token_files_hold_the_tokens_of_the_library_each_document_closed(
    recipe: Recipe, workdir: Workdir, spaces: str
) -> None:
    put(recipe, spaces)
    units = encoded(recipe)
    tokenizer = tokenizer_file.load(workdir.workspace.tokenizer)
    end = tokens.tokenizer_info(recipe).end
    for part in shards.PARTS:
        for unit in units:
            expected, offsets = [], []
            for text in shards.texts(shards.part_file(unit.shard.folder, part)):
                offsets.append(len(expected))
                given = huggingface.surface(text, spaces)
                expected += [*tokenizer.encode(given, add_special_tokens=False).ids, end]
            path = tokens.token_file(unit.folder, part)
            assert np.fromfile(path, "<u2").tolist() == expected
            assert np.fromfile(tokens.offsets_file(path), "<u8").tolist() == offsets
            assert manifest.read(unit.folder, "")["tokens"][part] == len(expected)


def test_lossless_tokens_give_back_the_text_of_every_document(
    recipe: Recipe, workdir: Workdir
) -> None:
    put(recipe)
    row = tokens.open_part(encoded(recipe), shards.TRAIN, recipe)
    tokenizer = tokenizer_file.load(workdir.workspace.tokenizer)
    text = tokenizer.decode(row.slice(0, len(row)).tolist(), skip_special_tokens=False)
    plain = [shards.plain_text(d.split("\n")) for d in documents(recipe, shards.TRAIN)]
    assert text == "".join(f"{document}</s>" for document in plain)


def test_text_that_looks_like_a_special_token_closes_no_document(workdir: Workdir) -> None:
    workdir.web.write_text("文書の</s>途中<s>の<unk>印。\n\n二つ目。\n", encoding="utf-8")
    made = workdir.recipe("corpus.held_out=1e-9")
    for module in (download, preprocess):
        make_units(module.__name__, units_of(module, made))
    put(made)
    row = tokens.open_part(encoded(made), shards.TRAIN, made)
    ids, vocabulary_ = row.slice(0, len(row)), tokens.tokenizer_info(made)
    assert (ids == vocabulary_.end).sum() == len(documents(made, shards.TRAIN))
    assert not np.isin([vocabulary_.begin, 0], ids).any()


def test_tokens_do_not_depend_on_the_number_of_tasks(recipe: Recipe) -> None:
    put(recipe)
    found = []
    for tasks in (1, 3):
        for unit in units_of(encode, recipe):
            manifest.clear(unit.folder)
        for task in range(tasks):
            make_units("tokenize", units_of(encode, recipe), task, tasks)
        units = tokens.complete(recipe)
        found.append([file.read_bytes() for u in units for file in sorted(u.folder.iterdir())])
    assert found[0] == found[1]


def test_a_vocabulary_above_65535_gives_files_of_four_bytes_a_token(recipe: Recipe) -> None:
    first = huggingface.first_entries("lossless")
    characters = sorted({c for text in documents(recipe, shards.TRAIN) for c in text} - {" ", "\n"})
    others = [chr(0x20000 + number) for number in range(70_000 - len(first) - len(characters))]
    tokenizer = huggingface.from_merges([*first, *others, *characters], [], "lossless")
    vocabulary.put(recipe, tokenizer)
    units = encoded(recipe)
    row = tokens.open_part(units, shards.TRAIN, recipe)
    sizes = [tokens.token_file(unit.folder, shards.TRAIN).stat().st_size for unit in units]
    assert sum(sizes) == 4 * len(row)
    text = tokenizer.decode(row.slice(0, len(row)).tolist())
    assert text == "".join(
        shards.plain_text(document.split("\n")) for document in documents(recipe, shards.TRAIN)
    )


def test_tokens_wait_for_a_tokenizer_of_this_recipe(recipe: Recipe, workdir: Workdir) -> None:
    with pytest.raises(StageError, match=r"tokenizer: missing; run ekiden tokenizer first"):
        units_of(encode, recipe)
    put(recipe)
    with pytest.raises(StageError, match=r"tokenizer: stale; run ekiden tokenizer first"):
        units_of(encode, workdir.recipe(*OVERRIDES, "tokenizer.vocab_size=2100"))
    units = units_of(
        encode, workdir.recipe(*OVERRIDES, "tokenizer.tasks=9", "tokenizer.count_mb=1")
    )
    assert census(units)["missing"] == len(units)
    write_json(workdir.workspace.pick, {"candidate": "bpe-2000-800-lossless"})
    with pytest.raises(StageError, match=r"tokenizer: stale; run ekiden tokenizer first"):
        units_of(encode, recipe)


def test_a_tokenizer_that_was_changed_after_use_is_refused(
    recipe: Recipe, workdir: Workdir
) -> None:
    put(recipe)
    encoded(recipe)
    path = workdir.workspace.tokenizer / huggingface.FILE
    path.write_bytes(path.read_bytes().replace(b'"unk_token": "<unk>"', b'"unk_token": "<kun>"'))
    with pytest.raises(StageError) as caught:
        tokens.complete(recipe)
    assert str(caught.value).startswith(
        f"{workdir.workspace.tokenizer}: changed since it was made;"
    )
    assert "ekiden tokenizer run RECIPE --verify" in str(caught.value)


def test_tokens_of_another_tokenizer_are_refused_and_made_again(recipe: Recipe) -> None:
    put(recipe)
    units = encoded(recipe)
    before = tokens.fingerprint(units)
    put(recipe, size=1500)
    with pytest.raises(StageError) as caught:
        tokens.complete(recipe)
    what = "stale: made with a different tokenizer; run ekiden tokenize first"
    assert str(caught.value) == f"{units[0].folder}: {what}"
    assert tokens.fingerprint(encoded(recipe)) != before


def test_a_shard_that_vanished_is_named_and_nothing_is_written(
    recipe: Recipe, workdir: Workdir
) -> None:
    put(recipe)
    lost = shards.complete(recipe)[1].folder
    shards.part_file(lost, shards.TRAIN).unlink()
    with pytest.raises(StageError) as caught:
        units_of(encode, recipe)
    assert str(caught.value) == f"{lost}: broken; run ekiden preprocess first"
    assert not workdir.workspace.tokens(lost.name).exists()


@pytest.mark.parametrize("spaces", ["lossless", "article"])
def test_a_released_tokenizer_tells_what_a_space_is_to_it(tmp_path: Path, spaces: str) -> None:
    huggingface.save(vocabulary.trained(["駅伝 は 走る"], spaces), tmp_path)
    assert prepared.spaces_of(tokenizer_file.load(tmp_path)) == spaces


def test_a_block_is_shown_as_text_where_it_lies(recipe: Recipe, workdir: Workdir) -> None:
    put(recipe)
    row = tokens.open_part(encoded(recipe), shards.TRAIN, recipe)
    tokenizer, length = tokenizer_file.load(workdir.workspace.tokenizer), recipe.model.n_positions
    ids = row.slice(0, len(row)).tolist()
    position = ids.index(tokens.tokenizer_info(recipe).end, row.starts[1])  # in the second shard
    number = position // length
    block = ids[number * length : (number + 1) * length]
    text = tokenizer.decode(block, skip_special_tokens=False)
    assert "</s>" in text
    command = ("jobs.tokenize", "inspect", str(workdir.recipe_file), str(number), *OVERRIDES)
    shown = workdir.run(*command)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"\n{text}\n" in shown.stdout
    found = json.loads(workdir.run(*command, "--json").stdout)
    first = row.locate(number * length)
    assert found == {
        "part": "train", "block": number, "blocks": row.blocks(length), "sample": None,
        "start": number * length, "stop": (number + 1) * length,
        "shard": first.file.parent.name, "document": first.document,
        "text": text, "next": tokenizer.id_to_token(ids[(number + 1) * length]),
    }  # fmt: skip
    assert f"tokens {found['start']:,} to {found['stop'] - 1:,}" in shown.stdout
    assert f"document {found['document']} of {found['shard']}" in shown.stdout
    assert f"the token after it: {found['next']}" in shown.stdout


def test_a_sample_of_the_run_and_a_held_out_block_are_shown(
    recipe: Recipe, workdir: Workdir
) -> None:
    put(recipe)
    units = encoded(recipe)
    train, held_out = (tokens.open_part(units, part, recipe) for part in shards.PARTS)
    length = recipe.model.n_positions

    def inspect(*arguments: str) -> dict[str, object]:
        words = ("inspect", str(workdir.recipe_file), *arguments, *OVERRIDES, "--json")
        found: dict[str, object] = json.loads(workdir.run("jobs.tokenize", *words).stdout)
        return found

    sample = inspect("7", "--sample", "training.seed=5")
    assert sample["sample"] == 7
    assert sample["block"] == tokens.sample_block(7, train.blocks(length), seed=5)
    other = inspect("0", "--held-out")
    assert (other["part"], other["blocks"]) == ("held-out", held_out.blocks(length))
    tokenizer = tokenizer_file.load(workdir.workspace.tokenizer)
    ids = held_out.block(0, length).tolist()[:-1]
    assert other["text"] == tokenizer.decode(ids, skip_special_tokens=False)


def test_a_block_before_there_are_tokens_is_refused_as_tokens_are(
    recipe: Recipe, workdir: Workdir
) -> None:
    with pytest.raises(StageError, match=r"tokenizer: missing; run ekiden tokenizer first"):
        blocks.read_block(recipe, 0, shards.TRAIN)
    put(recipe)
    with pytest.raises(StageError, match=r"missing; run ekiden tokenize first"):
        blocks.read_sample(recipe, 0)


def test_a_number_that_is_no_blocks_or_samples_is_one_line(
    recipe: Recipe, workdir: Workdir
) -> None:
    put(recipe)
    row = tokens.open_part(encoded(recipe), shards.TRAIN, recipe)
    count = row.blocks(16)
    train = f"train, which has {len(row)} tokens"
    there = f"there are {count} blocks of 16 tokens in {train}; give 0 to {count - 1}"
    for number in (count, 10**30):
        with pytest.raises(ConfigError, match=f"^block {number}: {there}$"):
            blocks.read_block(recipe, number, shards.TRAIN)
    assert blocks.read_block(recipe, count - 1, shards.TRAIN).stop < len(row)
    run = "sample 80: there are 80 samples in the run's 10 steps; give 0 to 79"  # 10 steps of 8 blocks
    with pytest.raises(ConfigError, match=run):
        blocks.read_sample(recipe, 80)
    large = workdir.recipe(*OVERRIDES, "model.n_positions=99999")
    with pytest.raises(
        ConfigError, match="block 0: there are no blocks of 99999 tokens in held-out"
    ):
        blocks.read_block(large, 0, shards.HELD_OUT)
    with pytest.raises(ConfigError, match="sample 0: there are no samples"):
        blocks.read_sample(large, 0)
    for arguments, said in (
        (("-1",), f"error: block -1: {there}\n"),
        (("0", "--sample", "--held-out"), "error: --sample, --held-out: samples are of the "),
    ):
        words = ("inspect", str(workdir.recipe_file), *arguments, *OVERRIDES)
        done = workdir.run("jobs.tokenize", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == 1
