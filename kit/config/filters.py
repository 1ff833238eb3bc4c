"""The section `corpus.filters` of a recipe: which documents are left out, and the presets of others.

A preset is a set of thresholds under a name; a key beside it replaces one of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kit.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]
Ngrams = dict[Annotated[int, Field(ge=1, le=20)], Share]


class Length(Section):
    """Bounds on the length of a document."""

    min: int = Field(default=0, ge=0, description="shortest document that is kept, in characters")
    max: int | None = Field(
        default=None,
        gt=0,
        description="longest document that is kept, in characters. null: no limit",
    )


class MinimumShare(Section):
    """A lower bound on a share of the document."""

    min_share: float = Field(
        gt=0, le=1, description="smallest share with which a document is kept. 0.5 is one half"
    )


class MaximumShare(Section):
    """An upper bound on a share of the document."""

    max_share: float = Field(
        ge=0, lt=1, description="largest share with which a document is kept. 0.5 is one half"
    )


class Maximum(Section):
    """An upper bound on a ratio."""

    max: float = Field(ge=0, description="largest ratio with which a document is kept")


class Shares(Section):
    """Bounds on a share."""

    min_share: Share = Field(
        default=0.0, description="smallest share with which a document is kept"
    )
    max_share: Share = Field(default=1.0, description="largest share with which a document is kept")


class Repetition(Section):
    """Upper bounds on repeated lines or sentences."""

    max_share: Share = Field(
        default=1.0, description="largest share of them that repeat an earlier one"
    )
    max_character_share: Share = Field(
        default=1.0, description="largest share of characters in those that repeat an earlier one"
    )


class JapaneseLetters(Section):
    """Lower bounds on Japanese letters: kana, kanji, and the marks 、，。．！？."""

    min: int = Field(default=0, ge=0, description="smallest number of them")
    min_share: Share = Field(default=0.0, description="smallest share of all characters")


class SentenceLength(Section):
    """Bounds on the lengths of sentences, in characters."""

    min_mean: float = Field(default=0.0, ge=0, description="smallest mean")
    max_mean: float | None = Field(default=None, gt=0, description="largest mean. null: no limit")
    max: int | None = Field(default=None, gt=0, description="longest sentence. null: no limit")


class PunctuatedLines(MinimumShare):
    """A lower bound on lines that end as a sentence does."""

    quotes: bool = Field(
        default=True,
        description="whether a closing quotation mark or bracket counts as such an end",
    )


class WordCount(Section):
    """Bounds on the number of words."""

    min: int = Field(default=0, ge=0, description="smallest number of words")
    max: int | None = Field(default=None, gt=0, description="largest number of words. null: none")


class WordLength(Section):
    """Bounds on the mean length of words, in characters."""

    min_mean: float = Field(default=0.0, ge=0, description="smallest mean")
    max_mean: float | None = Field(default=None, gt=0, description="largest mean. null: no limit")


class StopWords(Section):
    """Words of which a text has to have some."""

    words: list[Annotated[str, Field(pattern=r"^\S+$")]] = Field(
        min_length=1, description="the words, as the segmenter cuts them"
    )
    min: int = Field(default=2, gt=0, description="smallest number of different ones")


class FullStops(Section):
    """A bound on text without full stops."""

    every: float = Field(gt=0, description="largest number of characters for each 。, on average")


class Kana(Section):
    """Where a document has to show that it is Japanese."""

    within: int = Field(gt=0, description="the first characters, which have to hold a kana")


class Compression(Section):
    """Bounds on the size after zlib at level 9, as a share of the size of the text in UTF-8."""

    min: float = Field(default=0.0, ge=0, description="smallest ratio: less repeats itself")
    max: float | None = Field(
        default=None, gt=0, description="largest ratio: more is noise. null: none"
    )


class WordList(Section):
    """Words that a document may hold a few times."""

    file: str = Field(
        min_length=1, description="words, one a line, in UTF-8; relative to the recipe's file"
    )
    max: int = Field(default=0, ge=0, description="how often they may occur together")


class UrlList(Section):
    """Domains and URLs whose documents are left out."""

    file: str = Field(
        min_length=1,
        description="domains, each with its subdomains, or URLs, each with those below it, one a line, in "
        "UTF-8; relative to the recipe's file",
    )


class HojiChar(Section):
    """A filter of the package HojiChar that refuses documents."""

    filter: str = Field(
        pattern=r"^[A-Za-z]\w*$", description="name of its class, such as DiscardAds"
    )
    arguments: dict[str, str | int | float | bool] = Field(
        default={}, description="arguments of the class, by name"
    )


class NearDuplicates(Section):
    """Which documents count as nearly the same: MinHash over n-grams, banded."""

    ngram: int = Field(default=5, gt=0, le=100, description="length of an n-gram, in units")
    unit: Literal["characters", "words"] = Field(
        default="characters",
        description="unit of an n-gram; words are those of corpus.segmenter, and cost its time again",
    )
    bands: int = Field(
        default=20, gt=0, le=200, description="number of bands; equal in one of them is enough"
    )
    rows: int = Field(
        default=10,
        gt=0,
        le=100,
        description="hashes of a band. A pair that shares s of its n-grams is found with probability "
        "1 - (1 - s^rows)^bands",
    )


class Filters(Section):
    """Filters that remove documents, and count them; a filter that is null is off."""

    preset: Literal["swallow-v1", "llm-jp-v1", "fineweb2-jpn"] | None = Field(
        default=None,
        description="thresholds of a published corpus; a key beside it replaces one of them. null: none",
    )
    length: Length | None = Field(
        default=None, description="filter by length, in characters. null: off"
    )
    japanese: MinimumShare | None = Field(
        default=None,
        description="filter by kana and kanji, as a share of all characters except white space. null: off",
    )
    symbols: MaximumShare | None = Field(
        default=None,
        description="filter by characters that are neither letters nor digits, as a share of all "
        "characters except white space. null: off",
    )
    kana: Kana | None = Field(
        default=None, description="filter by kana at the beginning of a document. null: off"
    )
    japanese_letters: JapaneseLetters | None = Field(
        default=None, description="filter by the number and share of Japanese letters. null: off"
    )
    hiragana: Shares | None = Field(
        default=None,
        description="filter by hiragana, as a share of the Japanese letters. null: off",
    )
    katakana: Shares | None = Field(
        default=None,
        description="filter by katakana, as a share of the Japanese letters. null: off",
    )
    kanji: Shares | None = Field(
        default=None, description="filter by kanji, as a share of the Japanese letters. null: off"
    )
    sentence_length: SentenceLength | None = Field(
        default=None, description="filter by the lengths of sentences, in characters. null: off"
    )
    full_stops: FullStops | None = Field(
        default=None, description="filter by text without full stops. null: off"
    )
    ellipses: MaximumShare | None = Field(
        default=None, description="filter by sentences that end with … or ・, as a share. null: off"
    )
    punctuated_lines: PunctuatedLines | None = Field(
        default=None,
        description="filter by lines that end with a full stop, a question or exclamation mark, or a "
        "closing quotation mark or bracket, as a share. null: off",
    )
    bullet_lines: MaximumShare | None = Field(
        default=None, description="filter by lines that begin with • or -, as a share. null: off"
    )
    ellipsis_lines: MaximumShare | None = Field(
        default=None, description="filter by lines that end with … or ..., as a share. null: off"
    )
    repeated_lines: Repetition | None = Field(
        default=None,
        description="filter by lines that repeat an earlier line of the document. null: off",
    )
    repeated_sentences: Repetition | None = Field(
        default=None,
        description="filter by sentences that repeat an earlier sentence of the document. null: off",
    )
    top_ngrams: Ngrams | None = Field(
        default=None,
        description="filter by the most frequent n-gram of characters, as a share of all, by its length: "
        "{2: 0.2}. null: off",
    )
    repeated_ngrams: Ngrams | None = Field(
        default=None,
        description="filter by n-grams of characters that occur more than once, as a share of the "
        "different ones, by their length: {5: 0.15}. null: off",
    )
    compression: Compression | None = Field(
        default=None, description="filter by how far zlib compresses the text. null: off"
    )
    words: dict[str, WordList] = Field(
        default={}, description="lists of words that a document may not hold, each under a name"
    )
    urls: dict[str, UrlList] = Field(
        default={},
        description="lists of domains and URLs whose documents are left out, each under a name. For "
        "wikipedia dumps and sources with url_key",
    )
    hojichar: dict[str, HojiChar] = Field(
        default={},
        description="filters of HojiChar, each under a name, for which install ekiden[hojichar]",
    )
    word_count: WordCount | None = Field(
        default=None,
        description="filter by the number of words, without those of punctuation alone. null: off",
    )
    word_length: WordLength | None = Field(
        default=None,
        description="filter by the mean length of words, without those of punctuation alone. null: off",
    )
    words_with_letters: MinimumShare | None = Field(
        default=None,
        description="filter by words with a letter (kana and kanji are letters), as a share. null: off",
    )
    stop_words: StopWords | None = Field(
        default=None, description="filter by words that running text has. null: off"
    )
    hashes_per_word: Maximum | None = Field(
        default=None, description="filter by # characters, for each word. null: off"
    )
    ellipses_per_word: Maximum | None = Field(
        default=None, description="filter by … and ..., for each word. null: off"
    )
    line_ends_per_word: Maximum | None = Field(
        default=None, description="filter by line ends, for each word. null: off"
    )
    top_word_ngrams: Ngrams | None = Field(
        default=None,
        description="filter by the most frequent n-gram of words: all its occurrences, with a space "
        "between words, as a share of the characters, by its length: {2: 0.2}. null: off",
    )
    repeated_word_ngrams: Ngrams | None = Field(
        default=None,
        description="filter by n-grams of words that repeat an earlier one, as a share of the "
        "characters, by their length: {5: 0.15}. null: off",
    )
    duplicates: bool = Field(
        default=False,
        description="remove exact duplicates of earlier documents of the corpus. Takes two more array jobs",
    )
    near_duplicates: NearDuplicates | None = Field(
        default=None,
        description="of documents that are nearly the same, keep the longest, among equally long ones the "
        "first. Takes three more jobs. null: off",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, tree: Any) -> Any:
        preset = PRESETS.get(tree.get("preset")) if isinstance(tree, dict) else None
        return tree if preset is None else preset | tree


PRESETS: dict[str | None, dict[str, Any]] = {
    # swallow-llm/swallow-corpus, quality.py, apply_v1; arXiv 2404.17733, section 3.
    "swallow-v1": {
        "japanese_letters": {"min": 400, "min_share": 0.5},
        "hiragana": {"min_share": 0.2},
        "katakana": {"max_share": 0.5},
        "sentence_length": {"min_mean": 20, "max_mean": 90, "max": 200},
        "ellipses": {"max_share": 0.2},
        "repeated_lines": {"max_share": 0.3, "max_character_share": 0.2},
        "repeated_sentences": {"max_share": 0.3, "max_character_share": 0.2},
        "top_ngrams": {2: 0.2, 3: 0.18, 4: 0.16},
        "repeated_ngrams": {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1},
    },
    # llm-jp/llm-jp-corpus, scripts/filter_data.py, ja_cc without its lists of words and domains.
    "llm-jp-v1": {
        "kana": {"within": 50},
        "hojichar": {"ads": {"filter": "DiscardAds", "arguments": {"max_allowed_num": 10}}},
        "full_stops": {"every": 250},
        "compression": {"min": 0.3, "max": 0.7},
    },
    # huggingface/fineweb-2, configs/jpn_Jpan.yml and step 5 of fineweb-2-pipeline.py, without
    # language_score; what neither sets is the default of datatrove 0.10.
    "fineweb2-jpn": {
        "repeated_lines": {"max_share": 0.328, "max_character_share": 0.1},
        "punctuated_lines": {"min_share": 0.096, "quotes": False},
        "bullet_lines": {"max_share": 0.9},
        "ellipsis_lines": {"max_share": 0.3},
        "line_ends_per_word": {"max": 0.13},
        "word_count": {"min": 50, "max": 100_000},
        "word_length": {"min_mean": 1, "max_mean": 6},
        "words_with_letters": {"min_share": 0.759},
        "stop_words": {"words": [*"のにをはたてがとで年し・月れさ"], "min": 2},
        "hashes_per_word": {"max": 0.1},
        "ellipses_per_word": {"max": 0.1},
        "top_word_ngrams": {2: 0.239, 3: 0.196, 4: 0.172},
        "repeated_word_ngrams": {5: 0.243, 6: 0.225, 7: 0.207, 8: 0.19, 9: 0.175, 10: 0.159},
    },
}
