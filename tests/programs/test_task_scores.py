"""A model scored by lm-evaluation-harness itself: in the form of its training, and raw."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from kit.corpus import segment
from kit.data import shards
from kit.errors import InputError
from kit.models import architectures
from kit.release import model_files
from kit.release.prepared import Encoder
from kit.release.tasks import files, harness, leaderboard
from kit.store.files import read_json, write_json
from kit.tokenizer import huggingface
from tests import vocabulary
from tests.architectures import SHAPES, each

lm_eval = pytest.importorskip("lm_eval", reason="needs ekiden[scores]")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

    from kit.release.tasks.model import ScoringModel
    from tests.conftest import Workdir

POSITIONS = 64
TEXT = ["駅伝 は 冬 の 競技 。", "問題 : 答え : はい いいえ", f"海 の 県 {shards.LINE_END}"]
TASK = """
task: terms
dataset_path: json
dataset_kwargs: {data_files: {shown: shown.jsonl, asked: asked.jsonl}}
test_split: asked
fewshot_split: shown
num_fewshot: 1
output_type: multiple_choice
doc_to_text: "問題：{{q}}\\n答え："
doc_to_target: "{{label}}"
doc_to_choice: [はい, いいえ]
target_delimiter: "\\n"
metric_list: [{metric: acc}]
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return vocabulary.trained(TEXT)


@pytest.fixture
def shape() -> tuple[str, ...]:
    """GPT-2, where a test does not say otherwise."""
    return SHAPES["gpt2"]


@pytest.fixture
def weights(workdir: Workdir, tokenizer: Tokenizer, shape: tuple[str, ...]) -> PreTrainedModel:
    recipe = workdir.recipe("model.n_embd=16", f"model.n_positions={POSITIONS}", *shape)
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    config = architectures.of(recipe.model).configuration(size, begin=1, end=2)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture
def encoder(workdir: Workdir, tokenizer: Tokenizer) -> Iterator[Encoder]:
    corpus = workdir.recipe().corpus
    with segment.open("mecab", None, workers=1) as words:
        yield Encoder(tokenizer, corpus, words)


def scoring(
    weights: PreTrainedModel, tokenizer: Tokenizer, encoder: Encoder | None
) -> ScoringModel:
    from kit.release.tasks.model import ScoringModel

    return ScoringModel(weights, tokenizer, encoder)


class Asked:
    """A request of the harness."""

    def __init__(self, *args: Any) -> None:
        self.args = args


def nats(weights: PreTrainedModel, before: list[int], after: list[int]) -> float:
    """The log-probability of tokens after others, one token at a time."""
    total = 0.0
    for place, token in enumerate(after):
        ids = torch.tensor([[*before, *after[:place]]])
        total += float(weights(ids).logits[0, -1].log_softmax(-1)[token].detach())
    return total


def test_a_prompt_and_its_continuation_have_the_tokens_of_the_corpus(
    tokenizer: Tokenizer, encoder: Encoder
) -> None:
    def tokens(*sentences: str) -> list[int]:
        surface = huggingface.surface(shards.document(sentences), "lossless")
        return tokenizer.encode(surface, add_special_tokens=False).ids

    end = shards.LINE_END
    # A line end between them is the continuation's, as in the harness; blank lines are none of a corpus.
    before, after = encoder.pair("駅伝は冬の競技。\n\n問題：", "\nはい")
    assert before == tokens(f"駅伝 は 冬 の 競技 。 {end}", "問題 :")
    assert after == tokens(end, "はい")
    assert encoder.pair("問題：\n", "はい") == (tokens("問題 :"), after)
    # Two together are the whole.
    assert [*before, *after] == encoder.whole("駅伝は冬の競技。\n問題：\nはい")
    # A space stays where normalisation keeps one.
    assert encoder.pair("海", " の") == (tokens("海"), tokens(f"{shards.SPACE}の"))
    assert encoder.pair("海 ", "の") == encoder.pair("海", " の")
    assert encoder.pair("", "海の県\n")[1] == tokens(f"海 の 県 {end}")


@each
@pytest.mark.parametrize("form", ["segmented", "raw"])
def test_a_score_is_the_log_probability_of_each_token(
    weights: PreTrainedModel, tokenizer: Tokenizer, encoder: Encoder, form: str
) -> None:
    model = scoring(weights, tokenizer, encoder if form == "segmented" else None)
    texts = [
        ("駅伝は", "冬"),
        ("問題：駅伝は\n答え：", "\nはい"),
        ("", "海の県"),
        ("海の県" * 20, "の" * 40),
    ]
    found = model.loglikelihood([Asked(*pair) for pair in texts])
    for (before, after), (value, _) in zip(texts, found, strict=True):
        if form == "segmented":
            ids = encoder.pair(before, after)
        else:
            whole = tokenizer.encode(before + after, add_special_tokens=False).ids
            first = len(tokenizer.encode(before, add_special_tokens=False).ids)
            ids = whole[:first], whole[first:]
        context, scored = ids[0] or [2], ids[1]  # 2: `</s>`, after which documents begin
        cut = max(0, len(context) + len(scored) - POSITIONS - 1)
        assert value == pytest.approx(nats(weights, context[cut:], scored), rel=1e-4)
    (whole,) = model.loglikelihood_rolling([Asked("海の県")])
    assert whole == pytest.approx(found[2][0], rel=1e-5)
    assert math.isfinite(model.loglikelihood_rolling([Asked("海の県" * 50)])[0])


@pytest.mark.long
@each
def test_the_harness_gives_a_released_folder_the_scores_that_raw_text_has_here(
    tmp_path: Path, weights: PreTrainedModel, tokenizer: Tokenizer
) -> None:
    """As `lm_eval --model hf` reads it; that model class needs accelerate."""
    pytest.importorskip("accelerate", reason="needs accelerate, of ekiden[bench]")
    from lm_eval.models.huggingface import HFLM

    model_files.save(weights, tmp_path)
    huggingface.save(tokenizer, tmp_path)
    settings = tmp_path / huggingface.SETTINGS
    write_json(settings, read_json(settings) | {"bos_token": "</s>"})  # as an export has it
    theirs, ours = HFLM(str(tmp_path), device="cpu"), scoring(weights, tokenizer, None)
    texts = [
        ("駅伝は", "冬"),
        ("問題：駅伝は\n答え：", "\nはい"),
        ("海 ", "の県"),
        ("海の県" * 20, "の" * 40),
    ]
    asked = [Asked(*pair) for pair in texts]
    for (value, likeliest), expected in zip(
        ours.loglikelihood(asked), theirs.loglikelihood(asked), strict=True
    ):
        assert (pytest.approx(value, rel=1e-5), likeliest) == expected
    whole = [Asked("海の県" * 50), Asked("駅伝")]
    expected_sums = theirs.loglikelihood_rolling(whole)
    assert ours.loglikelihood_rolling(whole) == pytest.approx(expected_sums, rel=1e-5)


def test_a_continuation_that_cannot_be_scored_is_one_line(
    weights: PreTrainedModel, tokenizer: Tokenizer, encoder: Encoder
) -> None:
    model = scoring(weights, tokenizer, encoder)
    for text, tokens in (("　", 0), ("の" * 90, 90)):
        with pytest.raises(
            InputError, match=f"is scored, and has {tokens} tokens; a text of 1 to 64"
        ):
            model.loglikelihood([Asked("海", text)])


def test_a_text_ends_at_a_stop_sequence_or_in_time(
    weights: PreTrainedModel, tokenizer: Tokenizer, encoder: Encoder
) -> None:
    from kit.release.tasks.model import _Ends

    model = scoring(weights, tokenizer, encoder)
    settings = {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 12}
    (text,) = model.generate_until([Asked("駅伝は", dict(settings))])
    again, shorter = model.generate_until(
        [Asked("駅伝は", dict(settings)), Asked("駅伝は" * 90, settings | {"until": text[1:3]})]
    )
    assert again == text
    assert text[1:3] not in shorter
    # Of a corpus without blank lines, one line end is what two ask for, unless nothing precedes it.
    assert _Ends(["\n\n"], segmented=True).cut("\n日本\n問題") == "日本"
    assert _Ends(["\n\n"], segmented=False).cut("\n日本\n問題\n\nA") == "\n日本\n問題"


ROWS: dict[str, list[dict[str, Any]]] = {
    "jcommonsenseqa": [
        {
            "question": "空の色は？",
            **{f"choice{n}": c for n, c in enumerate("青赤木石水")},
            "label": 0,
        }
    ],
    "jnli": [{"sentence1": "犬が走る。", "sentence2": "動物が走る。", "label": 0}],
    "marc_ja": [{"sentence": "とても良い本でした。", "label": 0}],
    "jsquad": [
        {"context": "駅 [SEP] 駅伝は競技。", "question": "何か。", "answers": {"text": ["競技"]}}
    ],
    "jaqket_v2": [
        {"question": "高い山は？", "ctxs": {"text": ["富士山。"]}, "answers": {"text": ["富士山"]}}
    ],
    "xwinograd_ja": [{"sentence1": "太郎が速い。", "sentence2": "次郎が速い。", "answer": "1"}],
    "mgsm": [
        {"question": "問題：2と3の和は？", "answer": "ステップごとの答え：5。", "answer_number": 5}
    ],
    "xlsum_ja": [{"text": "雨が降った。大会は中止。", "summary": "雨で中止"}],
}


def test_the_eight_run_on_rows_of_their_layout(
    tmp_path: Path, weights: PreTrainedModel, tokenizer: Tokenizer, encoder: Encoder
) -> None:
    """On invented rows: the real data are not ours to give away."""
    names = [name for name in ROWS if name != "xlsum_ja"]
    for name in names:
        layout = leaderboard.LAYOUTS[name]
        (tmp_path / name).mkdir()
        for split in filter(None, (layout.scored, layout.shown)):
            # The answers of mgsm's test are null, as on the Hub.
            asked = {"answer": None} if name == "mgsm" and split == "test" else {}
            rows = [row | asked for row in ROWS[name]] * (6 if split == layout.shown else 2)
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (tmp_path / name / f"{split}.jsonl").write_text(text)
    model = scoring(weights, tokenizer, encoder)
    found = {
        name: harness.evaluated(leaderboard.task("release.tasks.0", name, tmp_path), model)
        for name in names
    }
    shots = {"jcommonsenseqa": 3, "jnli": 3, "marc_ja": 3, "jsquad": 2, "jaqket_v2": 1, "mgsm": 5}
    assert {name: one["shots"] for name, one in found.items()} == shots | {"xwinograd_ja": 0}
    assert {one["examples"] for one in found.values()} == {2}
    for name, one in found.items():
        metric = "exact_match" if name in ("jsquad", "jaqket_v2") else "acc"
        assert [(row["metric"], 0 <= row["value"] <= 1) for row in one["metrics"]] == [
            (metric, True)
        ]


def test_a_column_that_is_missing_is_one_line(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / "jnli").mkdir(exist_ok=True)
        (tmp_path / "jnli" / f"{split}.jsonl").write_text('{"sentence1": "犬", "label": 0}\n')
    with pytest.raises(InputError, match=r"train\.jsonl: has no column sentence2; its columns are"):
        harness.loaded(leaderboard.task("release.tasks.0", "jnli", tmp_path))


def test_data_that_the_harness_refuses_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "terms.yaml").write_text(TASK)
    (tmp_path / "shown.jsonl").write_text('{"q": "駅伝", "label": 0}\n')
    (tmp_path / "asked.jsonl").write_text('{"q": ')
    (task,) = files.read(f"release.tasks.0={tmp_path}/terms.yaml")
    with pytest.raises(InputError) as caught:
        harness.loaded(task)
    assert "JSON parse error" in str(caught.value)
    assert "\n" not in str(caught.value)
