"""The section `tokenizer` of a recipe: the vocabularies to train, and the rule that chooses among them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kit.config.section import Section

Measure = Literal[
    "bits_per_byte", "characters_per_token", "fertility", "vocabulary_used", "raw_share"
]
_MAX_ENTRIES = 2**31 - 1  # ids are signed 32-bit integers in training


class TokenizerSpec(Section):
    """A tokenizer to train: its algorithm, its number of entries, and its treatment of spaces."""

    algorithm: Literal["bpe", "unigram"] = Field(
        default="bpe",
        description="training algorithm. bpe: byte-pair encoding; unigram: as in sentencepiece. The "
        "article: bpe",
    )
    vocab_size: int = Field(
        default=50_000,
        gt=3,
        le=_MAX_ENTRIES,
        description="entries of the vocabulary: at least 260, or 4 with spaces: article. A token takes 2 "
        "bytes on disk up to 65,535 entries, else 4. The article: 50,000",
    )
    limit_alphabet: int = Field(
        default=8000,
        gt=0,
        description="number of characters in the vocabulary, the most frequent ones. The article: 8,000",
    )
    spaces: Literal["lossless", "article"] = Field(
        default="lossless",
        description="treatment of spaces. lossless: a space is written as ▁ and restored, a character "
        "outside the alphabet becomes its bytes; article: a space is only a word boundary, and such a "
        "character becomes <unk>. The article: article",
    )

    @property
    def name(self) -> str:
        """Its name among the candidates."""
        return f"{self.algorithm}-{self.vocab_size}-{self.limit_alphabet}-{self.spaces}"


class Candidate(Section):
    """One tokenizer of several; a key that is null is taken from the section `tokenizer`."""

    algorithm: Literal["bpe", "unigram"] | None = Field(
        default=None, description="its training algorithm. null: tokenizer.algorithm"
    )
    vocab_size: int | None = Field(
        default=None,
        gt=3,
        le=_MAX_ENTRIES,
        description="its number of entries. null: tokenizer.vocab_size",
    )
    limit_alphabet: int | None = Field(
        default=None,
        gt=0,
        description="number of characters in its vocabulary. null: tokenizer.limit_alphabet",
    )
    spaces: Literal["lossless", "article"] | None = Field(
        default=None, description="its treatment of spaces. null: tokenizer.spaces"
    )


class Choice(Section):
    """The rule that chooses a candidate by measurements on the held-out documents."""

    measure: Measure = Field(
        default="bits_per_byte",
        description="measure to choose by. bits_per_byte: of a unigram model of the tokens, the lowest; "
        "fertility: tokens per word, the lowest; characters_per_token: the highest; vocabulary_used: the "
        "share of entries that occur, the highest; raw_share: the share of sentences that get the same "
        "tokens without a segmenter, the highest",
    )
    margin: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="among candidates within this fraction of the best, take the smallest vocabulary. 0.01 "
        "is one per cent",
    )
    exact: bool = Field(
        default=True,
        description="choose only among candidates that restore every text exactly, if there are any",
    )


class Tokenizer(TokenizerSpec):
    """A vocabulary trained on word counts: a single one, or the best of several candidates."""

    min_frequency: int = Field(
        default=2,
        gt=0,
        description="minimum number of occurrences of a pair that BPE merges. The article: 1",
    )
    candidates: list[Candidate] = Field(
        default=[],
        description="several tokenizers to choose from; each overrides keys of this section. Empty: the "
        "section itself is the tokenizer",
    )
    choose: Choice = Field(
        default=Choice(), description="rule that chooses a candidate. Only with several"
    )
    tasks: int = Field(default=1, gt=0, description="array tasks that count words")
    count_mb: float = Field(
        default=1000,
        gt=0,
        description="text per word-count file, in MB. A larger shard has a file of its own",
    )

    def specs(self) -> list[TokenizerSpec]:
        """The candidates, or the section itself, in the order of the recipe."""
        own = {key: getattr(self, key) for key in TokenizerSpec.model_fields}
        given = [candidate.model_dump(exclude_none=True) for candidate in self.candidates]
        return [TokenizerSpec(**(own | changes)) for changes in given or [{}]]

    def spec(self, name: str) -> TokenizerSpec:
        """The candidate of that name, which must exist."""
        return next(spec for spec in self.specs() if spec.name == name)

    @model_validator(mode="after")
    def _possible(self) -> Tokenizer:
        numbers: dict[str, int] = {}
        for number, spec in enumerate(self.specs()):
            place = f"candidates[{number}]: " if self.candidates else ""
            # 3 special tokens, 256 bytes, a character
            minimum = 4 if spec.spaces == "article" else 260
            if spec.vocab_size < minimum:
                raise ValueError(
                    f"{place}vocab_size={spec.vocab_size}: spaces: {spec.spaces} needs at least {minimum} "
                    "entries"
                )
            if spec.name in numbers:
                raise ValueError(f"{place}the same as candidates[{numbers[spec.name]}]")
            numbers[spec.name] = number
        return self
