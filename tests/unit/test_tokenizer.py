"""The tokenizer: its training, what AutoTokenizer makes of it, and that nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit import recipes, shards, stage
from kit.config import Corpus, Source
from kit.corpus import download, preprocess, segment
from kit.corpus.steps import segment_document
from kit.errors import InputError, StageError
from kit.tokenizer import bpe, encode

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

    from tests.conftest import Desk

WORDS = segment.open("mecab", None, 1)
CORPUS = Corpus(
    sources={"a": Source(kind="plaintext", location="a.txt")}, unit_mb=1, tasks=1, held_out=0.1
)

TRAIN_AND_SAVE = """
import sys
from pathlib import Path
from kit.config import Recipe
from kit.sections import read_resolved
from kit.tokenizer import bpe
recipe = read_resolved(Path(sys.argv[1]), Recipe)
bpe.save(bpe.train(recipe, [Path(sys.argv[2])]), Path(sys.argv[3]))
"""

STRANGE = [
    "▁ではない記号㍻と𠮷野家、絵文字🗾👨‍👩‍👧、ภาษาไทย。",
    "café au lait, naïve — “quotes” <s>印</s> <unk> <0x41> <0xE6>",
    "  空白 が  二つ 。",
]


def segmented(lines: list[str]) -> list[str]:
    return segment_document(lines, CORPUS, WORDS)


def write_shard(path: Path, documents: list[list[str]]) -> Path:
    with shards.writer(path) as add:
        for lines in documents:
            add(shards.document(segmented(lines)))
    return path


@pytest.fixture(scope="module")
def web(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of the demo's web text."""
    text = (root / "configs/demo/web.txt").read_text(encoding="utf-8")
    documents = [document.split("\n") for document in text.split("\n\n")[:30]]
    return write_shard(tmp_path_factory.mktemp("web") / "train.txt.zst", documents)


@pytest.fixture
def trained(desk: Desk, web: Path) -> Path:
    """A folder with a tokenizer of 1,200 entries."""
    folder = desk.folder / "tokenizer"
    folder.mkdir()
    bpe.save(bpe.train(desk.recipe(), [web]), folder)
    return folder


def ids_of(tokenizer: Tokenizer, document: list[str]) -> list[int]:
    (ids,) = encode.encode(tokenizer, [document])
    return ids


def test_a_tokenizer_has_the_entries_the_recipe_asks_for(trained: Path) -> None:
    tokenizer = encode.load(trained)
    assert tokenizer.get_vocab_size() == 1_200
    assert [tokenizer.id_to_token(number) for number in range(3)] == list(bpe.SPECIAL)


def test_autotokenizer_gives_the_same_tokens_as_the_kit(trained: Path, web: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(trained)
    ours = encode.load(trained)
    assert len(theirs) == 1_200
    assert theirs.eos_token_id == ours.token_to_id("</s>")
    assert theirs.bos_token_id == ours.token_to_id("<s>")
    plain = segmented(["  珍しい字 ㍻ 𠮷 もある。", "二行目。"])
    for document in [*shards.read(web), plain]:
        expected = [token for sentence in document for token in theirs(sentence)["input_ids"]]
        assert ids_of(ours, document) == [*expected, theirs.eos_token_id]
        assert theirs.decode(expected) == shards.plain_text(document)


def test_decoding_gives_back_the_text_of_every_document(trained: Path, web: Path) -> None:
    tokenizer = encode.load(trained)
    for document in shards.read(web):
        *ids, end = ids_of(tokenizer, document)
        assert end == tokenizer.token_to_id("</s>")
        assert tokenizer.decode(ids, skip_special_tokens=False) == shards.plain_text(document)


def test_characters_outside_the_alphabet_come_back_from_their_bytes(trained: Path) -> None:
    tokenizer = encode.load(trained)
    document = segmented(STRANGE)
    *ids, _ = ids_of(tokenizer, document)
    assert tokenizer.token_to_id("<unk>") not in ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == shards.plain_text(document)


@pytest.fixture(scope="module")
def tokenizer(root: Path, web: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer of the demo's web text, in which text that looks like a token is text."""
    recipe = recipes.load_recipe(root / "configs/demo.yaml", ["tokenizer.vocab_size=1200"])
    made = bpe.train(recipe, [web])
    made.encode_special_tokens = True
    return made


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.text(
            st.one_of(
                st.sampled_from("日本の駅伝、。「」 </s>▁␤ab"),
                st.characters(codec="utf-8", exclude_characters="\n"),
            ),
            max_size=20,
        ),
        max_size=4,
    )
)
def test_any_text_comes_back_from_its_tokens(tokenizer: Tokenizer, lines: list[str]) -> None:
    document = segmented(lines)
    *ids, _ = ids_of(tokenizer, document)
    assert tokenizer.decode(ids, skip_special_tokens=False) == shards.plain_text(document)


def test_text_that_looks_like_a_special_token_is_text(trained: Path) -> None:
    tokenizer = encode.load(trained)
    *ids, end = ids_of(tokenizer, segmented(["文書の</s>途中<s>の<unk>印"]))
    assert not {tokenizer.token_to_id(token) for token in bpe.SPECIAL} & set(ids)
    assert end == tokenizer.token_to_id("</s>")


@pytest.mark.parametrize("token", ["</s>", "<unk>", "<0x41>"])
def test_text_that_looks_like_a_token_is_text_however_often_it_was_trained_on(
    desk: Desk, web: Path, token: str
) -> None:
    # One word, as a segmenter may leave it, and the most frequent one: its merges come first.
    path = desk.folder / "a.txt.zst"
    with shards.writer(path) as add:
        for _ in range(300):
            add(f"印 {token} の\n")
    tokenizer = bpe.train(desk.recipe("tokenizer.vocab_size=1250"), [path, web])
    tokenizer.encode_special_tokens = True
    *ids, _ = ids_of(tokenizer, [f"印 {token} の"])
    assert tokenizer.token_to_id(token) not in ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == f"印{token}の"


def test_every_document_is_closed_and_batches_do_not_show(trained: Path) -> None:
    tokenizer = encode.load(trained)
    documents = [segmented([f"文書{number}。", "行。"][: 1 + number % 2]) for number in range(600)]
    found = list(encode.encode(tokenizer, documents))
    end = tokenizer.token_to_id("</s>")
    assert len(found) == 600
    assert all(ids[-1] == end and end not in ids[:-1] for ids in found)
    assert found == [ids_of(tokenizer, document) for document in documents]


@pytest.mark.parametrize(("limit", "entries"), [(8000, 1200), (150, 700)])
def test_training_again_gives_the_same_bytes(
    desk: Desk, web: Path, root: Path, limit: int, entries: int
) -> None:
    from kit.files import write_json

    recipe = desk.recipe(f"tokenizer.limit_alphabet={limit}", f"tokenizer.vocab_size={entries}")
    write_json(desk.folder / "recipe.json", recipe.model_dump(mode="json"))
    found = []
    for seed in ("0", "1", "12345"):
        folder = desk.folder / seed
        folder.mkdir()
        arguments = [desk.folder / "recipe.json", web, folder]
        subprocess.run(
            [sys.executable, "-c", TRAIN_AND_SAVE, *map(str, arguments)],
            cwd=root,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1] == found[2]


def test_a_limited_alphabet_holds_the_most_frequent_characters(desk: Desk) -> None:
    path = desk.folder / "a.txt.zst"
    with shards.writer(path) as add:
        for times, character in enumerate("襷駅伝山川海", 1):
            add(f"{character} " * times * 3 + "\n")
    recipe = desk.recipe("tokenizer.limit_alphabet=4", "tokenizer.vocab_size=263")
    vocabulary = bpe.train(recipe, [path]).get_vocab()
    assert {character for character in "襷駅伝山川海" if character in vocabulary} == set("伝山川海")


def test_without_byte_fallback_a_strange_character_is_unknown(desk: Desk, web: Path) -> None:
    overrides = ["tokenizer.byte_fallback=false", "tokenizer.vocab_size=1100"]
    tokenizer = bpe.train(desk.recipe(*overrides), [web])
    assert "<0x41>" not in tokenizer.get_vocab()
    assert ids_of(tokenizer, ["ไ"])[0] == tokenizer.token_to_id("<unk>")


def test_a_vocabulary_larger_than_the_corpus_can_give_is_refused(desk: Desk, web: Path) -> None:
    with pytest.raises(InputError, match=r"vocab_size=50000: the corpus gives only \d+ entries"):
        bpe.train(desk.recipe("tokenizer.vocab_size=50000"), [web])


def test_a_vocabulary_smaller_than_its_alphabet_is_refused(desk: Desk, web: Path) -> None:
    with pytest.raises(InputError, match="special tokens, bytes and alphabet alone are") as caught:
        bpe.train(desk.recipe("tokenizer.vocab_size=300"), [web])
    least = int(str(caught.value).split("alone are ")[1].split(";")[0])
    assert bpe.train(desk.recipe(f"tokenizer.vocab_size={least}"), [web]).get_vocab_size() == least


def test_an_empty_corpus_is_refused(desk: Desk) -> None:
    with pytest.raises(InputError, match="the corpus is empty"):
        bpe.train(desk.recipe(), [write_shard(desk.folder / "a.txt.zst", [])])


def tokenizer_of_corpus(desk: Desk, *overrides: str) -> None:
    """Run the stages up to the tokenizer."""
    recipe = desk.recipe(*overrides)
    for module in (download, preprocess, bpe):
        stage.run(module.__name__, module.units(recipe))


def test_a_corpus_with_nothing_held_out_is_refused(desk: Desk) -> None:
    with pytest.raises(
        InputError, match=r"corpus\.held_out=1e-09: of 33 documents none is held out"
    ):
        tokenizer_of_corpus(desk, "corpus.held_out=1e-9")


def test_a_corpus_of_empty_files_is_refused_as_empty(desk: Desk) -> None:
    desk.web.write_text("\n", encoding="utf-8")
    kept = "corpus.sources={web: {kind: plaintext, location: " + str(desk.web) + "}}"
    with pytest.raises(InputError, match="empty"):
        tokenizer_of_corpus(desk, kept)


def test_the_tokenizer_waits_for_every_shard(desk: Desk) -> None:
    recipe = desk.recipe()
    stage.run("download", download.units(recipe))
    with pytest.raises(StageError, match=r"missing; run jobs\.preprocess first"):
        bpe.units(recipe)
    stage.run("preprocess", preprocess.units(recipe), task=0, tasks=2)
    with pytest.raises(StageError, match=r"missing; run jobs\.preprocess first"):
        bpe.units(recipe)


def test_the_tokenizer_never_sees_what_is_held_out(desk: Desk) -> None:
    recipe = desk.recipe("corpus.held_out=0.4", "tokenizer.vocab_size=1000")
    for module in (download, preprocess):
        stage.run(module.__name__, module.units(recipe))
    parts = {
        part: [
            character
            for shard in shards.complete(recipe)
            for document in shards.read(shards.part_file(shard.folder, part))
            for character in "".join(document)
        ]
        for part in shards.PARTS
    }
    unseen = set(parts[shards.HELD_OUT]) - set(parts[shards.TRAIN])
    assert unseen
    stage.run("tokenizer", bpe.units(recipe))
    vocabulary = encode.load(desk.workspace.tokenizer).get_vocab()
    assert not unseen & set(vocabulary)
