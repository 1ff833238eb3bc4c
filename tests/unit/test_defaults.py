"""Records of sections: what has its default is not in them, and an older record may hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import Field

from kit.config.defaults import NonDefaults
from kit.config.filters import (
    Compression,
    HojiChar,
    JapaneseLetters,
    NearDuplicates,
    Repetition,
    SentenceLength,
    Shares,
    WordList,
)
from kit.config.recipe import Corpus, Filters, Length, Normalise, Release, Source
from kit.config.section import Section
from kit.config.tokenizer import Candidate, Choice, Tokenizer
from kit.corpus import download
from kit.data import shards, tokens
from kit.release import export, generate
from kit.store import manifest
from kit.store.manifest import reduce_like
from tests.later import later

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Yarn(Section):
    wool: int = 1
    dye: str | None = None
    tags: list[str] = Field(default_factory=list)


class Loom(Section):
    threads: int
    yarn: Yarn = Yarn(wool=2)
    spare: Yarn | None = None
    shelf: dict[str, Yarn] = Field(default={})
    basket: list[Yarn] = Field(default=[])


FULL = {"wool": 1, "dye": None, "tags": []}


def test_what_has_its_default_is_left_out_however_it_came_about() -> None:
    assert NonDefaults(Loom(threads=1)) == {"threads": 1}
    assert NonDefaults(Loom(threads=1, yarn=Yarn(wool=2), spare=None, basket=[])) == {"threads": 1}


def test_sections_within_sections_are_told_by_what_they_set() -> None:
    made = Loom(
        threads=1, yarn=Yarn(dye="red"), spare=Yarn(), shelf={"a": Yarn()}, basket=[Yarn(wool=4)]
    )
    assert NonDefaults(made) == {
        "threads": 1,
        "yarn": {"dye": "red"},  # its wool is not the one of Loom's default, and Yarn's own
        "spare": {},  # there, and as it comes: not null
        "shelf": {"a": {}},
        "basket": [{"wool": 4}],
    }


def test_a_record_with_every_default_reads_as_one_without() -> None:
    given = NonDefaults(Loom(threads=1, spare=Yarn()), frozenset({"basket"}))
    found = {
        "threads": 1,
        "yarn": {"wool": 2, "dye": None, "tags": []},
        "spare": FULL,
        "shelf": {},
        "basket": [FULL],
    }
    assert reduce_like({"section": given}, {"section": found}) == {"section": given}
    assert reduce_like(
        {"inputs": {"a": {"section": given}}}, {"inputs": {"a": {"section": found}}}
    ) == {"inputs": {"a": {"section": given}}}


@pytest.mark.parametrize(
    "found",
    [
        {"threads": 2},
        {"threads": 1, "yarn": {"wool": 1}},
        {"threads": 1, "spare": FULL},
        {"threads": 1, "unknown": None},
        {"threads": 1, "basket": [FULL]},
        {},
    ],
)
def test_a_record_that_says_something_else_differs(found: Mapping[str, object]) -> None:
    given = NonDefaults(Loom(threads=1))
    assert reduce_like(given, found) != given


@pytest.mark.parametrize("kind", [Loom, Yarn], ids=lambda kind: kind.__name__)
def test_a_key_that_is_new_and_not_set_changes_no_record(kind: type[Section]) -> None:
    made = kind.model_validate({"threads": 1, "spare": {}} if kind is Loom else {"wool": 5})
    assert NonDefaults(later(kind).model_validate(made.model_dump())) == NonDefaults(made)


# The keys that every recipe once had to give, as it gave them: a record of then has them all.
ONCE_REQUIRED = {
    Corpus: {"unit_mb": 64, "tasks": 8, "held_out": 0.01},
    Tokenizer: {"vocab_size": 50_000},
}


@pytest.mark.parametrize("others", [{}, {"mode": "article", "spaces": "article"}], ids=str)
@pytest.mark.parametrize("kind", ONCE_REQUIRED, ids=lambda kind: kind.__name__)
def test_what_was_made_when_a_key_was_required_is_still_done(
    kind: type[Section], others: Mapping[str, Any], tmp_path: Path
) -> None:
    sources = {"web": {"kind": "plaintext", "location": "/web.txt"}}
    tree = {"sources": sources} if kind is Corpus else {}
    tree |= {key: value for key, value in others.items() if key in kind.model_fields}
    leave_out = frozenset({"sources", "tasks"})
    now = manifest.causes("stage", 1, NonDefaults(kind.model_validate(tree), leave_out), {})
    old = {key: v for key, v in (tree | ONCE_REQUIRED[kind]).items() if key not in leave_out}
    assert now["section"] != old  # the new record leaves them out
    manifest.commit(tmp_path, {"stage": "stage", "version": 1, "section": old, "inputs": {}})
    assert manifest.state(tmp_path, now) == "done"
    for key in old.keys() & ONCE_REQUIRED[kind].keys():
        changed = kind.model_validate({**tree, key: ONCE_REQUIRED[kind][key] / 2})
        wanted = manifest.causes("stage", 1, NonDefaults(changed, leave_out), {})
        assert manifest.state(tmp_path, wanted) == "stale"


# What the recorded keys mean where they are left out. A default that changes makes other files from the
# same record: raise the VERSION of every stage that has the section, then write the new default here.
VERSIONS = {
    "download": (download.VERSION, 1),
    "preprocess": (shards.VERSION, 6),
    "tokenizer": (tokens.TOKENIZER_VERSION, 3),
    "export": (export.VERSION, 9),
    "generate": (generate.VERSION, 2),
}
DEFAULTS = {
    Source: {"mirrors": [], "sha256": None, "sha1": None, "index": None, "title": "line",
             "text_key": "text", "url_key": None, "id_key": None, "license": None},
    Corpus: {"downloads": None, "unit_mb": 64.0, "tasks": 8, "held_out": 0.01,
                    "mode": "default", "segmenter": "auto", "segmenter_version": None,
                    "on_bad_input": "stop", "remove": None},
    Normalise: {"keep_ranges": True, "keep_url_tildes": True, "keep_tildes": True,
                "keep_accent_spaces": True, "keep_spaces": True, "keep_dashes": True,
                "keep_minus": True, "keep_quotes": True, "keep_yen": True, "compose": True},
    Length: {"min": 0, "max": None},
    Filters: {"preset": None, "length": None, "japanese": None, "symbols": None, "kana": None,
              "japanese_letters": None, "hiragana": None, "katakana": None, "kanji": None,
              "sentence_length": None, "full_stops": None, "ellipses": None, "punctuated_lines": None,
              "bullet_lines": None, "ellipsis_lines": None, "word_count": None, "word_length": None,
              "words_with_letters": None, "stop_words": None, "hashes_per_word": None,
              "ellipses_per_word": None, "line_ends_per_word": None, "top_word_ngrams": None,
              "repeated_word_ngrams": None,
              "repeated_lines": None, "repeated_sentences": None, "top_ngrams": None,
              "repeated_ngrams": None, "compression": None, "words": {}, "urls": {},
              "hojichar": {}, "duplicates": False, "near_duplicates": None},
    NearDuplicates: {"ngram": 5, "unit": "characters", "bands": 20, "rows": 10},
    Repetition: {"max_share": 1.0, "max_character_share": 1.0},
    Shares: {"min_share": 0.0, "max_share": 1.0},
    JapaneseLetters: {"min": 0, "min_share": 0.0},
    SentenceLength: {"min_mean": 0.0, "max_mean": None, "max": None},
    Compression: {"min": 0.0, "max": None},
    WordList: {"max": 0},
    HojiChar: {"arguments": {}},
    Tokenizer: {"algorithm": "bpe", "vocab_size": 50_000, "limit_alphabet": 8000,
                "spaces": "lossless", "min_frequency": 2, "candidates": [], "tasks": 1, "count_mb": 1000.0},
    Candidate: {"algorithm": None, "vocab_size": None, "limit_alphabet": None, "spaces": None},
    Choice: {"measure": "bits_per_byte", "margin": 0.0, "exact": True},
    Release: {"dtype": "bfloat16", "license": "other", "license_name": None, "license_link": None,
                     "authors": [], "citation": None, "base_model": None, "pue": None,
                     "grid_gco2_per_kwh": None, "bos": "</s>", "gguf": [],
                     "prompts": ["日本の"],
                     "max_new_tokens": 40, "temperature": 0.8, "top_p": 0.95, "seed": 0,
                     "tasks": [], "tasks_data": None, "tasks_text": "segmented"},
}  # fmt: skip


@pytest.mark.parametrize("kind", DEFAULTS, ids=lambda kind: kind.__name__)
def test_a_default_changes_with_the_version_of_its_stage_alone(kind: type[Section]) -> None:
    found = {
        name: field.get_default(call_default_factory=True)
        for name, field in kind.model_fields.items()
        if not field.is_required()
    }
    plain = {name: value for name, value in found.items() if not isinstance(value, Section)}
    assert plain == DEFAULTS[kind], "raise the VERSION of its stages, as kit/store/manifest.py says"


@pytest.mark.parametrize("stage", VERSIONS)
def test_the_defaults_above_are_those_of_the_version(stage: str) -> None:
    version, of_the_defaults = VERSIONS[stage]
    assert version == of_the_defaults, (
        "look through the defaults above, then write its version here"
    )
