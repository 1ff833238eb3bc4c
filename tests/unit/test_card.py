"""The model card: every fact in both languages, nothing that is not known, metadata that the Hub takes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from kit.config.devices import ACCELERATORS
from kit.config.recipe import Release
from kit.errors import ConfigError
from kit.release import fine_tuning
from kit.release.card import corpus, energy, english, japanese, metadata, snippets, training
from kit.release.card.facts import (
    CardFacts,
    CorpusFacts,
    EnergyFacts,
    HardwareFacts,
    LlamaFacts,
    ModelFacts,
    NodeTimeFacts,
    SourceFacts,
    StepFacts,
    TokenizerFacts,
    TrainingFacts,
)
from kit.release.card.markdown import cell
from kit.release.source import Moment
from kit.run import begun
from kit.store.files import write_json

if TYPE_CHECKING:
    from tests.conftest import Workdir

ROOT = Path(__file__).parents[2]
HUB = "https://huggingface.co/datasets/owner/news/resolve/main/news.parquet"
WEB = SourceFacts(
    "web", "parquet", HUB, HUB, "CC-BY-4.0", "owner/news", "ab" * 32, 9_000_000, 410, 51_000
)
WIKI = SourceFacts(
    "wiki", "wikipedia", "jawiki-20220701", None, None, None, None, 12_345, 77, 1_234
)
ENERGY = EnergyFacts(1234.5, 312.4, measured=True, pue=1.3, kwh=501.4, grid=423, co2_kg=212.1)
SCORES = {
    "step": 6000, "loss": 2.5, "perplexity": 12.2, "bits_per_byte": 1.05, "unigram_loss": 6.1,
    "raw_bits_per_byte": 1.234, "raw_share": 0.3812, "unigram_perplexity": 445.9, "held_out_tokens": 8_765,
    "held_out_bytes": 24_600,
}  # fmt: skip
FULL = CardFacts(
    name="tanuki",
    version="0.1.0",
    commit="0123abcd",
    release=Release(license="apache-2.0", authors=["Sato, Hana", "Mori, Ken"], prompts=["駅伝は"]),
    moment=None,
    model=ModelFacts(
        "GPT-2", "GPT2LMHeadModel", "gpt2", None, 48, 1600, 25, 1024, 1_557_611_200, "bfloat16",
        3_115_000_000,
    ),
    corpus=CorpusFacts(
        [WEB, WIKI],
        [StepFacts("read", 500, 60_000), StepFacts("left out: filters.length", 13, 7_766)],
        "swallow-v1",
        "default",
        "mecab",
        "fugashi 1.5.2",
        {"neologdn": "0.5.6"},
        487,
        29,
        157_000_000,
        98_700_123,
    ),
    tokenizer=TokenizerFacts("Unigram", 32_000, "lossless", {"fertility": 1.432, "raw_share": 0.41}),
    training=TrainingFacts(
        6000, 512, 3_145_728_000, 31.87, "AdamW", {"learning_rate": 0.0003}, "bf16", ("raccoon", 3000), 7,
        1.7e9, 1.7e9 + 300_000, 280_000.0, (1, 10.4), (6000, 2.61), [("駅伝は", "駅伝は走る")], 5900,
        HardwareFacts(16, 2, "NVIDIA A100-SXM4-40GB", gpus=True, versions={"torch": "2.13.0"}),
        NodeTimeFacts(4_444_200.0, 0.912, 321),
    ),
    energy=ENERGY,
    scores=SCORES,
    task_scores=[
        {"task": "jnli", "metric": "acc", "value": 0.5432, "main": True, "shots": 3, "text": "raw",
         "harness": "lm-eval 0.4.13", "time": 1.7e9, "hub": ["nlp-waseda/JGLUE", "jnli"]},
        {"task": "jnli", "metric": "f1", "value": 0.321, "time": 1.7e9},
    ],
    files={"model.safetensors": 1, "tanuki-q8_0.gguf": 1_650_000_000, "runs/events.1": 2, "report.html": 3},
)  # fmt: skip
BARE = replace(
    FULL,
    commit=None,
    release=Release(),
    corpus=replace(FULL.corpus, preset=None, tools={}),
    tokenizer=replace(FULL.tokenizer, measures={}),
    training=replace(
        FULL.training, origin=None, samples=[], sampled_at=None, hardware=None, node_time=None
    ),
    energy=None,
    scores=None,
    task_scores=[],
    files={},
)


LLAMA = replace(
    FULL,
    model=replace(
        FULL.model, title="Llama", model_class="LlamaForCausalLM", model_type="llama",
        llama=LlamaFacts(8, 5504, 500_000.0, is_tied=False),
    ),
)  # fmt: skip


def both(facts: CardFacts) -> tuple[str, str]:
    return english.text(facts), japanese.text(facts)


def hub(facts: CardFacts) -> ModelCardData:
    """The metadata as the Hub's client reads and checks them."""
    card = ModelCard(f"{metadata.head(facts)}{english.text(facts)}", ignore_metadata_errors=False)
    assert isinstance(card.data, ModelCardData)
    return card.data


def numbers(page: str) -> set[str]:
    return {number.rstrip(".,") for number in re.findall(r"\d[\d,.]*", page)} - {"1"}


@pytest.mark.parametrize("facts", [FULL, BARE], ids=["full", "bare"])
def test_both_languages_have_the_same_figures_sections_and_code(facts: CardFacts) -> None:
    one, other = both(facts)
    assert numbers(one) == numbers(other)
    code = r"```.*?```"
    assert re.findall(code, one, re.DOTALL) == re.findall(code, other, re.DOTALL)
    assert one.count("\n## ") == other.count("\n## ") > 8
    assert re.findall(r"\(http[^)]*\)", one) == re.findall(r"\(http[^)]*\)", other)
    assert "](README_ja.md)" in one
    assert "](README.md)" in other


FIGURES = (
    "1,557,611,200", "3,145,728,000", "| 48 |", "1,600", "1,024", "32,000", "3.12 GB", "9 MB", "51,000",
    "CC-BY-4.0", "jawiki-20220701", "swallow-v1", "filters.length", "| 13 | 7,766 |", "487", "29",
    "98,700,123", "157 MB", "1.432", "524,288", "31.87", "10.400", "2.610", "0.0003", "raccoon", "3,000",
    "NVIDIA A100-SXM4-40GB", "93.3%", "1,234.50", "91.2%", "321", "312 W", "PUE 1.3", "501 kWh",
    "423 g/kWh", "212 kg", "12.2", "1.050", "445.9", "8,765", "24.6 kB", "駅伝は走る", "5,900", "0123abcd",
    "torch 2.13.0", "apache-2.0", "Sato, Hana and Mori, Ken", "year = {2023}", f"[owner/news]({HUB})",
    "fugashi 1.5.2", "| jnli | acc | 0.543 | 3 |", "lm-eval 0.4.13 | 2023-11-14",
    "`tanuki-q8_0.gguf`", "1.65 GB",
    "`runs`", "`report.html`", "41.0%", "1.234", "38.1%",
)  # fmt: skip


def test_every_fact_is_in_both_languages() -> None:
    for page in both(FULL):
        assert [figure for figure in FIGURES if figure not in page] == []


def test_what_is_not_known_is_left_out() -> None:
    for page in both(BARE):
        absent = (
            "None",
            "gguf",
            "jnli",
            "`runs`",
            "report.html",
            "scores.jsonl",
            "GPU",
            "kWh",
            "CO2",
            "A100",
            "fertility",
            "swallow",
            "| nan",
        )
        assert [word for word in absent if word in page] == []
    assert "Tools" not in english.text(BARE)
    assert "goodput" not in english.text(BARE)
    assert "## Samples" not in english.text(BARE)
    assert "has not been scored yet" in english.text(BARE)
    assert "まだ評価していません" in japanese.text(BARE)
    assert "random weights" in english.text(BARE)
    tree = metadata.metadata(BARE)
    assert not {"datasets", "model-index", "co2_eq_emissions"} - {"datasets"} & {*tree}
    assert None not in tree.values()


def test_the_hubs_client_takes_the_metadata() -> None:
    data = hub(FULL)
    assert (data.language, data.license, data.library_name) == (
        ["ja"],
        "apache-2.0",
        "transformers",
    )
    assert data.pipeline_tag == "text-generation"
    assert data.datasets == ["owner/news"]
    assert {"gpt2", "japanese"} <= {*data.tags}
    assert data.model_name == "tanuki"
    results = {r.metric_type: (r.metric_value, r.dataset_type) for r in data.eval_results}
    assert results == {
        "perplexity": (12.2, "tanuki"),
        "bits_per_byte": (1.05, "tanuki"),
        "raw_bits_per_byte": (1.234, "tanuki"),
        "acc": (0.5432, "nlp-waseda/JGLUE"),
    }
    assert data.to_dict()["co2_eq_emissions"]["emissions"] == 212_100
    assert data.to_dict()["co2_eq_emissions"]["hardware_used"] == "16 x NVIDIA A100-SXM4-40GB"
    assert ModelCardData(**yaml.safe_load(data.to_yaml())).to_dict() == data.to_dict()
    assert hub(BARE).to_dict().get("license") == "other"


def test_a_licence_of_ones_own_has_name_and_link() -> None:
    own = Release(license_name="tanuki-1.0", license_link="LICENSE", base_model="owner/raccoon")
    data = hub(replace(FULL, release=own))
    assert (data.license, data.license_name, data.license_link) == (
        "other",
        "tanuki-1.0",
        "LICENSE",
    )
    assert data.base_model == "owner/raccoon"
    for page in both(replace(FULL, release=own)):
        assert "[tanuki-1.0](LICENSE)" in page
        assert "| owner/raccoon |" in page


def test_a_base_model_is_for_a_fork(workdir: Workdir) -> None:
    recipe = workdir.recipe("release.base_model=owner/raccoon")
    run = workdir.workspace.run(recipe.name)
    with pytest.raises(
        ConfigError, match=r"release\.base_model=owner/raccoon has no effect: .* fork"
    ):
        begun.refuse_base_model(run, recipe)
    run.root.mkdir(parents=True)
    write_json(run.origin, {"run": "/runs/raccoon", "step": 1})
    begun.refuse_base_model(run, recipe)


@pytest.mark.parametrize(
    ("algorithm", "spaces", "said"),
    [
        ("Unigram", "lossless", "of 2025-07 or later"),
        ("BPE", "article", "of 2026; characters outside the vocabulary are dropped there"),
        ("BPE", "lossless", None),
    ],
)
def test_the_llama_cpp_that_a_file_needs_is_named(
    algorithm: str, spaces: str, said: str | None
) -> None:
    tokenizer = replace(FULL.tokenizer, algorithm=algorithm, spaces=spaces)
    one, other = both(replace(FULL, tokenizer=tokenizer))
    assert numbers(one) == numbers(other)
    assert (said or "1.65 GB).\n") in one
    assert ("が必要です" in other) == (said is not None)


def test_a_card_of_a_run_in_progress_says_so() -> None:
    moment = Moment(10, 6000, 5_242_880, 0.0003)
    one, other = both(replace(FULL, moment=moment))
    assert "**The training was not finished: step 10 of 6,000, 5,242,880 tokens seen" in one
    assert (
        "**学習の途中のモデルです(全 6,000 ステップのうち 10 ステップ、5,242,880 トークンまで)。**"
        in other
    )
    finished = replace(FULL, moment=replace(moment, step=6000))
    assert "not finished" not in english.text(finished)


@pytest.mark.parametrize(
    ("location", "dataset"),
    [
        (HUB, "owner/news"),
        ("https://hf.co/datasets/a/b.c/raw/main/x.jsonl", "a/b.c"),
        ("/cache/hub/datasets--llm-jp--corpus-v4/snapshots/1/*.jsonl", "llm-jp/corpus-v4"),
        ("https://huggingface.co/owner/model/resolve/main/x.jsonl", None),
        ("https://example.com/x.jsonl", None),
        ("cc100-ja", None),
    ],
)  # fmt: skip
def test_a_data_set_of_the_hub_is_known_by_its_location(location: str, dataset: str | None) -> None:
    assert corpus.dataset_of(location) == dataset


def gpu(power: float | None) -> Any:
    return {"index": 0, "power": power}


def test_power_is_that_of_the_gpus_in_use() -> None:
    assert energy.power([gpu(400), gpu(60), gpu(300), gpu(55)], used=2) == 350
    assert energy.power([gpu(400), gpu(None)], used=2) is None
    assert energy.power([], used=0) is None


def test_energy_is_hours_times_power_times_pue() -> None:
    release = Release(pue=1.25, grid_gco2_per_kwh=400)
    found = energy.estimate(7200 * 8, [300, 500], "a100", release)
    assert found == EnergyFacts(16, 400, measured=True, pue=1.25, kwh=8, grid=400, co2_kg=3.2)
    limit = energy.estimate(3600, [], "h100", Release())
    assert limit is not None
    assert (limit.watts, limit.measured, limit.kwh, limit.co2_kg) == (700, False, 0.7, None)
    assert energy.estimate(3600, [], None, release) is None
    assert all(50 < one.power < 1500 for one in ACCELERATORS.values())
    assert "the limit of the board" in english.text(replace(FULL, energy=limit))
    assert "of the GPUs alone, without a PUE" in english.text(replace(FULL, energy=limit))
    assert "ボードの電力上限" in japanese.text(replace(FULL, energy=limit))


def test_time_held_is_named_for_what_was_held() -> None:
    """A node that is held for 31 s with 2 ranks is 0.02 hours of ranks."""
    on_gpus, none = FULL.training.hardware, None
    assert on_gpus is not None
    cases = [
        (on_gpus, "| GPU time held |", "| GPU の占有時間 |"),
        (replace(on_gpus, gpus=False), "| rank time held |", "| ランクの占有時間 |"),
        (none, "| rank time held |", "| ランクの占有時間 |"),
    ]
    for hardware, *names in cases:
        training = replace(FULL.training, hardware=hardware, node_time=NodeTimeFacts(62, 0.9, 0))
        for name, page in zip(names, both(replace(FULL, training=training)), strict=True):
            assert f"{name} 0.02 " in page


@pytest.mark.parametrize(
    ("positions", "asked", "new"), [(128, 40, 40), (128, 100, 64), (1024, 40, 40), (2, 40, 1)]
)
def test_a_prompt_has_the_context_but_for_what_the_model_writes(
    positions: int, asked: int, new: int
) -> None:
    shape = replace(FULL.model, positions=positions)
    one, other = both(replace(FULL, model=shape, release=Release(max_new_tokens=asked)))
    assert f"up to {new:,} by default, a prompt has up to {positions - new:,}. For" in one
    assert f"最大 {new:,} トークン" in other
    assert f"プロンプトは {positions - new:,} トークンまで" in other


@pytest.mark.parametrize(
    ("attempts", "words"), [(1, "1, of which 0 were"), (2, "2, of which 1 was"), (3, "3, of which 2 were")]
)  # fmt: skip
def test_attempts_are_counted_in_english(attempts: int, words: str) -> None:
    page = english.text(replace(FULL, training=replace(FULL.training, attempts=attempts)))
    assert f"| {words} interrupted and continued |" in page


@pytest.mark.parametrize(
    ("overrides", "shown"),
    [
        ((), {}),
        (("z_loss=1e-4", "labels=inside"), {"z_loss": 1e-4, "labels": "inside"}),
        (("decay_all=true",), {"decay_all": True}),
        (("decay=wsd",), {"decay_share": 0.1, "decay_shape": "1-sqrt"}),
        (
            ("decay=wsd", "decay_share=0.3", "decay_shape=linear"),
            {"decay_share": 0.3, "decay_shape": "linear"},
        ),
    ],
)
def test_settings_that_few_runs_have_are_shown_where_they_are_in_use(
    workdir: Workdir, overrides: tuple[str, ...], shown: dict[str, Any]
) -> None:
    given = workdir.recipe(*(f"training.{one}" for one in overrides)).training
    settings = training._settings(given)
    rare = ("z_loss", "labels", "decay_all", "decay_share", "decay_shape")
    assert {key: settings[key] for key in rare if key in settings} == shown
    for page in both(replace(FULL, training=replace(FULL.training, settings=settings))):
        assert all(f"| {key} | {value} |" in page for key, value in settings.items())


def test_a_citation_is_the_recipes_or_made_of_its_authors() -> None:
    given = "@article{tanuki, title={たぬき}}"
    assert snippets.citation(replace(FULL, release=Release(citation=given))) == given
    assert snippets.citation(BARE) is None


def test_the_citation_of_the_kit_is_that_of_its_file() -> None:
    file = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    shown = snippets.citation_of_kit(FULL)
    assert f"title = {{{file['title']}}}" in shown
    assert f"author = {{{{{file['authors'][0]['name']}}}}}" in shown
    assert f"version = {{{file['version']}}}" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(95, "95秒"), (3, "3秒"), (600, "10分"), (5400, "1時間30分"), (190_800, "2日5時間"), (0.03, "0.03秒")],
)  # fmt: skip
def test_durations_in_japanese(seconds: float, words: str) -> None:
    assert japanese.duration(seconds) == words


def test_the_card_shows_how_to_fine_tune_in_words() -> None:
    code = fine_tuning.snippet("mecab", "lossless")
    assert "tokenizer.eos_token" in code
    for page in both(FULL):
        assert code in page


def test_a_cell_stays_one() -> None:
    assert cell("a|b\nc") == "a\\|b c"


def test_a_card_names_the_architecture_and_what_only_it_has() -> None:
    assert metadata.metadata(FULL)["tags"][0] == "gpt2"
    assert metadata.metadata(LLAMA)["tags"][0] == "llama"
    for of_gpt2, of_llama in zip(both(FULL), both(LLAMA), strict=True):
        assert "GPT-2" in of_gpt2
        assert "`GPT2LMHeadModel`" in of_gpt2
        assert not {"5,504", "500,000"} & {*re.findall(r"[\d,]+", of_gpt2)}
        assert not re.search("GPT|gpt2", of_llama)
        assert {"`LlamaForCausalLM`", "| 8 |", "| 5,504 |", "| 500,000 |"} <= {
            *re.findall(r"`Llama\w+`|\| [\d,]+ \|", of_llama)
        }
    tied = replace(LLAMA, model=replace(LLAMA.model, llama=LlamaFacts(8, 5504, 5e5, is_tied=True)))
    assert all(one != other for one, other in zip(both(tied), both(LLAMA), strict=True))
