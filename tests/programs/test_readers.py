"""Readers of a release agree: the kit, AutoTokenizer, tokenizers, and transformers old and new."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from kit.config.recipe import Release
from kit.data import tokenizer_file
from kit.release import fine_tuning, tokenizer_files
from kit.store.files import read_json
from kit.store.paths import Workspace
from kit.tokenizer import counts, unigram
from tests import environments, reading
from tests.architectures import SHAPES
from tests.conftest import new_workdir
from tests.relay import DEMO
from tests.released import LOOKALIKES, texts, untrained
from tests.vocabulary import trained
from tests.warm import command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from kit.config.recipe import Recipe

PROMPTS = ["霧浜県の", "今日は、駅伝の大会がある", "海"]
FULL, SIZE = 1216, 1201  # entries that fill, and do not fill, the rows of `pad_vocab_to: 64`


class Released(NamedTuple):
    """A release, and the tokenizer that training had."""

    folder: Path
    own: Tokenizer


def unigram_of(words: dict[str, int], recipe: Recipe) -> Tokenizer:
    return unigram.train(counts.chunks(words), recipe.tokenizer.specs()[0])


@pytest.fixture(
    scope="module",
    params=[
        "bpe",
        "unigram",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("llama", "qwen3")),
    ],
)
def released(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    streams: list[bytes],
    web_texts: list[str],
    web_words: dict[str, int],
) -> Released:
    """Of width 320: a model whose BPE fills the padded rows, one whose Unigram does not, and no GPT-2s."""
    folder = tmp_path_factory.mktemp(request.param)
    workdir = new_workdir(folder, streams)
    shape = ("model.n_positions=64", "model.n_embd=320", "model.n_head=4", "model.pad_vocab_to=64",
             *SHAPES.get(request.param, ()))  # fmt: skip
    if request.param != "unigram":
        recipe = workdir.recipe(*shape)
        tokenizer = trained(web_texts, size=FULL)
        assert tokenizer.get_vocab_size() == FULL
    else:
        vocabulary = ("tokenizer.algorithm=unigram", f"tokenizer.vocab_size={SIZE}")
        recipe = workdir.recipe(*shape, *vocabulary)
        tokenizer = unigram_of(web_words, recipe)
    export = untrained(folder, recipe, tokenizer)
    return Released(export, tokenizer_file.load(folder / "tokenizer"))


def lines_of(root: Path) -> list[str]:
    text = (root / "configs/demo/web.txt").read_text(encoding="utf-8")
    return [line for line in text.split("\n") if line]


def encoded(tokenizer: Tokenizer, given: list[str]) -> list[list[int]]:
    return [one.ids for one in tokenizer.encode_batch(given, add_special_tokens=False)]


@pytest.fixture(scope="module")
def found(released: Released, root: Path) -> dict[str, Any]:
    """What the installed transformers reads."""
    return reading.read(released.folder, texts(lines_of(root), 500), PROMPTS)


def test_a_text_has_the_ids_of_training_and_a_special_token_is_itself(
    released: Released, root: Path, found: dict[str, Any]
) -> None:
    given = texts(lines_of(root), 500)
    assert json.loads(found["plain"]) == encoded(released.own, given)
    other = Tokenizer.from_file(str(released.folder / "tokenizer.json"))
    assert json.loads(found["ids"]) == encoded(other, given)
    special = ("</s>", "<pad>", "<unk>")
    for text, ids, plain in zip(
        given, json.loads(found["ids"]), json.loads(found["plain"]), strict=True
    ):
        if not any(name in text for name in special):
            assert ids == plain
        assert not {0, 1, 2} & {*plain}
        named = sorted(special.index(name) for name in special for _ in range(text.count(name)))
        assert sorted([2, 1, 0].index(number) for number in ids if number < 3) == named
    assert any(name in text for text in given for name in LOOKALIKES)
    assert json.loads(found["ended"]) == 2


def test_the_pad_token_is_no_token_of_any_text(released: Released, found: dict[str, Any]) -> None:
    assert json.loads(found["special"]) == ["</s>", "</s>", "<pad>", "<unk>"]
    for name in ("config.json", "generation_config.json"):
        tree = read_json(released.folder / name)
        assert (tree["pad_token_id"], tree["eos_token_id"], tree["bos_token_id"]) == (1, 2, 2)
    other = Tokenizer.from_file(str(released.folder / "tokenizer.json"))
    renamed = {
        "<pad>" if name == "<s>" else name: n for name, n in released.own.get_vocab().items()
    }
    assert other.get_vocab() == renamed  # nothing else is changed, nor added
    rows = read_json(released.folder / "config.json")["vocab_size"]
    assert rows == released.own.get_vocab_size()


def test_with_a_published_tokenizers_bos_unk_pads(released: Released, tmp_path: Path) -> None:
    release = Release(bos="<s>")
    tokenizer_files.save(released.folder.parent / "tokenizer", release, 64, tmp_path)
    auto = AutoTokenizer.from_pretrained(tmp_path)
    assert (auto.bos_token_id, auto.eos_token_id) == (1, 2)
    assert auto.pad_token_id == tokenizer_files.pad_id(release) == 0


def test_a_batch_writes_what_each_prompt_alone_writes(found: dict[str, Any]) -> None:
    greedy = json.loads(found["greedy"])
    assert json.loads(found["batch"]) == greedy
    assert [text.startswith(p) for text, p in zip(greedy, PROMPTS, strict=True)] == [True] * 3


def check_pipeline(folder: Path, found: Mapping[str, Any]) -> None:
    """That without arguments it continued each prompt, by no more tokens than the release says."""
    most = read_json(folder / "generation_config.json")["max_new_tokens"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for prompt, ids in zip(PROMPTS, json.loads(str(found["pipeline"])), strict=True):
        own = tokenizer.encode(prompt).ids
        assert ids[: len(own)] == own
        assert len(own) < len(ids) <= len(own) + most


def test_a_pipeline_without_arguments_ends(released: Released, found: dict[str, Any]) -> None:
    check_pipeline(released.folder, found)


def taught(released: Released, folder: Path, segmenter: str | None) -> list[str]:
    """Run the card's snippet there, and return what the model then writes after the taught questions."""
    program = fine_tuning.snippet(segmenter)
    for before, after in (
        (fine_tuning.FOLDER, str(released.folder)),
        (f'"{fine_tuning.TUNED}"', repr(str(folder))),
        ("range(3)", "range(80)"),
        ("lr=5e-5", "lr=3e-3"),  # of a model that knows nothing yet
    ):
        assert before in program
        program = program.replace(before, after)
    exec(compile(program, "snippet", "exec"), names := {})
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.padding_side == "left"
    questions = [text[: text.index("。") + 1] for text in names["texts"]]
    given = tokenizer(questions, padding=True, return_tensors="pt")
    rows = model.generate(**given, do_sample=False, max_new_tokens=20)
    return tokenizer.batch_decode(rows[:, given["input_ids"].shape[1] :])


@pytest.mark.parametrize("segmenter", [None, "mecab"])
def test_after_the_snippet_of_the_card_the_model_stops(
    released: Released, tmp_path: Path, segmenter: str | None
) -> None:
    written = taught(released, tmp_path, segmenter)
    for text in written:
        assert re.fullmatch("[青白]です。</s>", text.replace("<pad>", ""))


def test_the_page_on_releases_shows_the_same_snippet(root: Path) -> None:
    page = (root / "docs/release.md").read_text(encoding="utf-8")
    assert f"```python\n{fine_tuning.snippet()}```" in page
    for line in set(fine_tuning.snippet("mecab").split("\n")) - {""}:
        assert line in page


# Each transformers in an environment of its own, on releases that were trained.

OLD = ("4.40.2", "4.57.6")
NEWEST = ""
KNOWS_QWEN3 = (4, 51)
HOUR = 3600  # seconds: pip installs, a relay runs, and 10,000 texts are read
KNOWS_SPLITTING = (4, 42)  # the first version whose fast tokenizers know `split_special_tokens`


@pytest.fixture(scope="session")
def export_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The export of a relay, made once: the demo's, that of another architecture, or one of width 320
    with Unigram and padding rows.
    """

    @functools.cache
    def export(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        wide = ("model.n_embd=320", "tokenizer.candidates=[{algorithm: unigram, vocab_size: 1999}]",
                "model.pad_vocab_to=64", "training.steps=40")  # fmt: skip
        where = (f"workspace={folder}", "tracking.mlflow=null")
        other = wide if name == "wide" else SHAPES.get(name, ())
        command("pipeline", "run", str(DEMO), *where, *other)
        return Workspace(folder).run("demo").export

    return export


@pytest.fixture(scope="session", params=[*OLD, NEWEST])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with that transformers from PyPI, and whatever of the tests' environment it accepts."""
    version = f"=={request.param}" if request.param else ""
    root = tmp_path_factory.mktemp("reader")
    return environments.with_packages(root, f"transformers{version}")


def version_of(reader: Path) -> tuple[int, ...]:
    """Of the transformers of a Python: its first two numbers."""
    program = [reader, "-P", "-c", "import transformers; print(transformers.__version__)"]
    printed = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    return tuple(map(int, printed.split(".")[:2]))


def read_by(reader: Path, folder: Path, given: list[str], out: Path) -> Mapping[str, Any]:
    """What that transformers reads."""
    asked = out / "asked.json"
    asked.write_text(json.dumps({"texts": given, "prompts": PROMPTS}), encoding="utf-8")
    program = [reader, "-P", reading.__file__, folder, asked, out / "out.npz"]
    subprocess.run(program, check=True, cwd=out)
    return np.load(out / "out.npz")


@pytest.mark.long
@pytest.mark.timeout(HOUR)
@pytest.mark.parametrize("name", ["demo", "wide", "llama", "qwen3"])
def test_transformers_old_and_new_read_the_same(
    reader: Path, export_of: Callable[[str], Path], name: str, root: Path, tmp_path: Path
) -> None:
    version = version_of(reader)
    if name == "qwen3" and version < KNOWS_QWEN3:
        pytest.skip("this transformers has no Qwen3")
    relayed = export_of(name)
    given = texts(lines_of(root), 10_000)
    theirs, ours = read_by(reader, relayed, given, tmp_path), reading.read(relayed, given, PROMPTS)
    plain = encoded(tokenizer_file.load(relayed.parents[2] / "tokenizer"), given)
    known = json.loads(str(theirs["plain"]))
    assert known == (plain if version >= KNOWS_SPLITTING else [])
    for key in ("ids", "greedy", "batch", "ended", "special"):
        assert str(theirs[key]) == ours[key], key
    assert np.abs(theirs["logits"] - ours["logits"]).max() < 1e-3
    check_pipeline(relayed, theirs)
    assert ours["batch"] == ours["greedy"]
    print(f"transformers {theirs['version']}: "
          f"{np.abs(theirs['logits'] - ours['logits']).max():.2g} between logits")  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(HOUR)
def test_with_files_of_the_release_the_old_read_what_the_newest_saves(
    reader: Path, export_of: Callable[[str], Path], root: Path, tmp_path: Path
) -> None:
    relayed = export_of(
        "llama"
    )  # rope_theta: 5e5, which transformers 5 saves where 4 does not look
    tuned = tmp_path / "tuned"
    AutoModelForCausalLM.from_pretrained(relayed).float().save_pretrained(tuned)
    AutoTokenizer.from_pretrained(relayed).save_pretrained(tuned)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(relayed / name, tuned / name)
    given = texts(lines_of(root), 100)
    theirs, ours = read_by(reader, tuned, given, tmp_path), reading.read(tuned, given, PROMPTS)
    assert np.abs(theirs["logits"] - ours["logits"]).max() < 1e-3
    assert str(theirs["ids"]) == ours["ids"]
