"""The lines of the model card that prepare a prompt give what `generate text` gives the model."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from kit.config.tokenizer import TokenizerSpec
from kit.data import tokenizer_file
from kit.data.shards import BOUNDARY, plain_text
from kit.release import fine_tuning, prompt_snippet
from kit.release.continuation import opened
from kit.tokenizer import bpe, huggingface
from kit.tokenizer.count import count
from tests import jumanpp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.conftest import Workdir

PROMPTS = [
    "駅伝は",
    "霧浜県の海で",
    "今日は 朝から 雨",
    "naïve café",
    "「はい」と言った",
    "空白 あり",
    "問い:霧浜県の海は。\n答え:",
    "一つ目\n二つ目 三つ目。\n四つ目",
]


def prepared(prompt: str, segmenter: str, spaces: str) -> str:
    names: dict[str, Any] = {}
    exec(prompt_snippet.snippet(segmenter, spaces, repr(prompt)), names)
    return str(names["prompt"])


@pytest.fixture(scope="module")
def trained(
    web_texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A folder with a tokenizer of the demo's web text."""

    def make(spaces: str) -> Path:
        spec = TokenizerSpec(vocab_size=1500, limit_alphabet=900, spaces=spaces)
        folder = tmp_path_factory.mktemp(spaces)
        words = count(web_texts, spaces, tmp_path_factory.mktemp("counts"))
        huggingface.save(bpe.train(words, spec, 1), folder)
        return folder

    return make


def segmented(
    workdir: Workdir, mode: str, tokenizer: Tokenizer, prompts: Sequence[str]
) -> list[list[int]]:
    """The ids that `generate text` gives the model."""
    recipe = workdir.recipe(f"corpus.mode={mode}", "model.n_positions=512")
    with opened(None, tokenizer, recipe) as writer:
        return [writer.tokens(prompt) for prompt in prompts]


@pytest.mark.parametrize(("spaces", "mode"), [("lossless", "default"), ("article", "article")])
def test_a_prompt_gets_the_ids_of_generate_in_every_reader(
    workdir: Workdir, trained: Callable[[str], Path], spaces: str, mode: str
) -> None:
    folder = trained(spaces)
    ours, auto = tokenizer_file.load(folder), AutoTokenizer.from_pretrained(folder)
    plain = Tokenizer.from_file(str(folder / huggingface.FILE))
    # In article mode, neologdn drops the spaces between Japanese words first.
    prompts = [prompt for prompt in PROMPTS if mode == "default" or " " not in prompt]
    for prompt, ids in zip(prompts, segmented(workdir, mode, ours, prompts), strict=True):
        text = prepared(prompt, "mecab", spaces)
        assert auto(text)["input_ids"] == ids, prompt
        assert plain.encode(text, add_special_tokens=False).ids == ids


@pytest.mark.parametrize("spaces", ["lossless", "article"])
def test_a_text_for_fine_tuning_gets_the_ids_of_training(
    workdir: Workdir, trained: Callable[[str], Path], spaces: str
) -> None:
    folder = trained(spaces)
    texts = PROMPTS if spaces == "lossless" else [text for text in PROMPTS if " " not in text]
    before, _ = fine_tuning.snippet("mecab", spaces).split("\nfolder = ")
    given = re.sub(r"texts = \[.*\]  # yours", lambda _: f"texts = {texts!r}", before)
    exec(given, names := {})
    auto = AutoTokenizer.from_pretrained(folder)
    mode = "default" if spaces == "lossless" else "article"
    ids = segmented(workdir, mode, tokenizer_file.load(folder), texts)
    assert auto(names["texts"])["input_ids"] == ids
    if spaces == "lossless":
        assert auto.batch_decode(ids) == texts


def test_a_raw_prompt_may_get_other_ids(
    workdir: Workdir, trained: Callable[[str], Path], web_texts: list[str]
) -> None:
    folder = trained("lossless")
    ours, auto = tokenizer_file.load(folder), AutoTokenizer.from_pretrained(folder)
    prompts = [plain_text([text.splitlines()[0]]).strip() for text in web_texts]
    raw = [auto(prompt)["input_ids"] for prompt in prompts]
    ids = segmented(workdir, "default", ours, prompts)
    assert 0 < sum(map(operator.eq, raw, ids)) < len(prompts)
    assert ours.decode_batch(raw) == ours.decode_batch(ids) == prompts


def test_special_tokens_are_text_in_readers_that_know_the_setting(
    trained: Callable[[str], Path],
) -> None:
    folder = trained("lossless")
    ours, auto = tokenizer_file.load(folder), AutoTokenizer.from_pretrained(folder)
    plain = Tokenizer.from_file(str(folder / huggingface.FILE))
    text = "これは</s>ではない"
    ids = ours.encode(text, add_special_tokens=False).ids
    assert auto(text)["input_ids"] == ids
    assert 2 not in ids
    assert 2 in plain.encode(text, add_special_tokens=False).ids  # the file cannot say it
    plain.encode_special_tokens = True
    assert plain.encode(text, add_special_tokens=False).ids == ids


def test_raw_text_is_the_text_before_it_was_segmented(
    workdir: Workdir, web_texts: list[str], root: Path
) -> None:
    from kit.corpus import segment
    from kit.corpus.steps import Steps, segment_document

    corpus = workdir.recipe().corpus
    text = (root / "configs/demo/web.txt").read_text(encoding="utf-8")
    documents = [document.split("\n") for document in text.split("\n\n")[:30]]
    documents.append(["全角　と半角 の空白", "  字下げ", "ＡＢＣ〜㍻", f"印{BOUNDARY}▁␤の字"])
    with segment.open("mecab", None, 1) as words:
        for lines in documents:
            (prepared_document,) = Steps(corpus).prepare([lines])
            cut = segment_document(lines, corpus, words)
            assert plain_text(cut) == "".join(f"{line}\n" for line in prepared_document.lines)


def test_the_lines_for_jumanpp_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumanpp.install(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    text = prepared("今日は 良い天気", "jumanpp", "lossless")
    assert text.split(BOUNDARY) == ["今日", "は", " 良", "い", "天気"]
