"""The section `tokenizer` of a recipe: which vocabularies are trained, and which of them is taken."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kit.config.section import Section

Measure = Literal["bits_per_byte", "characters_per_token", "fertility", "vocabulary_used"]
_MOST = 2**31 - 1  # entries: ids are signed 32-bit integers in training


class TokenizerSpec(Section):
    """A tokenizer that is trained: which algorithm, how many entries, and what a space is to it."""

    algorithm: Literal["bpe", "unigram"] = Field(
        default="bpe",
        description="how the entries are found. bpe: byte-pair encoding; unigram: as sentencepiece does. "
        "The article: bpe",
    )
    vocab_size: int = Field(
        default=50_000,
        gt=3,
        le=_MOST,
        description="entries of the vocabulary: 260 at least, with spaces: article 4. Token files take 2 "
        "bytes a token up to 65,535, else 4. The article: 50,000",
    )
    limit_alphabet: int = Field(
        default=8000,
        gt=0,
        description="number of characters that are entries, the most frequent. The article: 8,000",
    )
    spaces: Literal["lossless", "article"] = Field(
        default="lossless",
        description="what a space is. lossless: it is written as ▁ and comes back, a character outside the "
        "alphabet is its bytes; article: a word boundary and no more, and such a character is <unk>. The "
        "article: article",
    )

    @property
    def name(self) -> str:
        """What it is called where there are several."""
        return f"{self.algorithm}-{self.vocab_size}-{self.limit_alphabet}-{self.spaces}"


class Candidate(Section):
    """One tokenizer of several; what is null is as the section `tokenizer` has it."""

    algorithm: Literal["bpe", "unigram"] | None = Field(
        default=None, description="how its entries are found. null: tokenizer.algorithm"
    )
    vocab_size: int | None = Field(
        default=None, gt=3, le=_MOST, description="its entries. null: tokenizer.vocab_size"
    )
    limit_alphabet: int | None = Field(
        default=None,
        gt=0,
        description="characters that are entries of it. null: tokenizer.limit_alphabet",
    )
    spaces: Literal["lossless", "article"] | None = Field(
        default=None, description="what a space is to it. null: tokenizer.spaces"
    )


class Choice(Section):
    """Which candidate becomes the tokenizer, by what was measured on the held-out documents."""

    measure: Measure = Field(
        default="bits_per_byte",
        description="figure by which the best is taken. bits_per_byte: of a unigram model of the tokens, "
        "the fewest; fertility: tokens a word, the fewest; characters_per_token: the most; "
        "vocabulary_used: the share of entries that occur, the greatest",
    )
    margin: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="distance from the best, as a share of it, within which the smallest vocabulary is "
        "taken. 0.01 is one per cent",
    )
    exact: bool = Field(
        default=True,
        description="choose among those that give back every text, if there are any",
    )


class Tokenizer(TokenizerSpec):
    """A vocabulary from counted words: one, or the best of several candidates."""

    min_frequency: int = Field(
        default=2,
        gt=0,
        description="least number of times a pair occurs that BPE merges. The article: 1",
    )
    candidates: list[Candidate] = Field(
        default=[],
        description="several tokenizers to choose from; each overrides keys of this section. Empty: the "
        "section itself is the tokenizer",
    )
    choose: Choice = Field(
        default=Choice(), description="which candidate is taken. Only with several"
    )
    tasks: int = Field(default=1, gt=0, description="array tasks that count words")
    count_mb: float = Field(
        default=1000,
        gt=0,
        description="size of the text of one word-count file, in MB. A larger shard has one by itself",
    )

    def specs(self) -> list[TokenizerSpec]:
        """The candidates, or the section itself, in the order of the recipe."""
        own = {key: getattr(self, key) for key in TokenizerSpec.model_fields}
        given = [candidate.model_dump(exclude_none=True) for candidate in self.candidates]
        return [TokenizerSpec(**(own | changes)) for changes in given or [{}]]

    def named(self, name: str) -> TokenizerSpec:
        """The candidate of that name, which there is."""
        return next(one for one in self.specs() if one.name == name)

    @model_validator(mode="after")
    def _possible(self) -> Tokenizer:
        seen: dict[str, int] = {}
        for number, vocabulary in enumerate(self.specs()):
            place = f"candidates[{number}]: " if self.candidates else ""
            # 3 special tokens, 256 bytes, a character
            least = 4 if vocabulary.spaces == "article" else 260
            if vocabulary.vocab_size < least:
                raise ValueError(
                    f"{place}vocab_size={vocabulary.vocab_size}: with spaces: {vocabulary.spaces} "
                    f"it takes {least} entries at least"
                )
            if vocabulary.name in seen:
                raise ValueError(f"{place}the same as candidates[{seen[vocabulary.name]}]")
            seen[vocabulary.name] = number
        return self
