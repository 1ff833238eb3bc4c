"""The section `tokenizer` of a recipe: which vocabularies are trained, and which of them is taken."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kit.config.section import Section

_MOST = 2**31 - 1  # entries: ids are signed 32-bit integers in training


class Vocabulary(Section):
    """A tokenizer that is trained: which algorithm, how many entries, and what a space is to it."""

    algorithm: Literal["bpe", "unigram"] = "bpe"
    vocab_size: int = Field(gt=3, le=_MOST)
    limit_alphabet: int = Field(
        default=8000, gt=0, description="the most frequent characters, which are entries"
    )
    spaces: Literal["lossless", "article"] = Field(
        default="lossless",
        description="lossless: a space is written as ▁ and comes back, a character outside the alphabet "
        "is its bytes; article: a space is a word boundary and no more, and such a character is <unk>",
    )

    @property
    def name(self) -> str:
        """What it is called where there are several."""
        return f"{self.algorithm}-{self.vocab_size}-{self.limit_alphabet}-{self.spaces}"


class Candidate(Section):
    """One tokenizer of several; what is null is as the section `tokenizer` has it."""

    algorithm: Literal["bpe", "unigram"] | None = None
    vocab_size: int | None = Field(default=None, gt=3, le=_MOST)
    limit_alphabet: int | None = Field(default=None, gt=0)
    spaces: Literal["lossless", "article"] | None = None


class Choice(Section):
    """Which candidate becomes the tokenizer, by what was measured on the held-out documents."""

    measure: Literal["bits_per_byte", "characters_per_token", "fertility", "vocabulary_used"] = (
        "bits_per_byte"
    )
    margin: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of those so near to the best, as a share of it, the smallest vocabulary",
    )
    exact: bool = Field(
        default=True, description="only of those that give back every text, where there are any"
    )


class Tokenizer(Vocabulary):
    """A vocabulary from counted words: one, or the best of several candidates."""

    min_frequency: int = Field(default=2, gt=0, description="of a pair that BPE merges")
    candidates: list[Candidate] = Field(
        default=[],
        description="what each has otherwise than this section; none: the section itself",
    )
    choose: Choice = Choice()
    tasks: int = Field(default=1, gt=0, description="array tasks that count words")
    count_mb: float = Field(
        default=1000,
        gt=0,
        description="text of one word-count file, MB; a larger shard is one by itself",
    )

    def vocabularies(self) -> list[Vocabulary]:
        """The candidates, or the section itself, in the order of the recipe."""
        own = {key: getattr(self, key) for key in Vocabulary.model_fields}
        given = [candidate.model_dump(exclude_none=True) for candidate in self.candidates]
        return [Vocabulary(**(own | changes)) for changes in given or [{}]]

    def named(self, name: str) -> Vocabulary:
        """The candidate of that name, which there is."""
        return next(one for one in self.vocabularies() if one.name == name)

    @model_validator(mode="after")
    def _possible(self) -> Tokenizer:
        seen: dict[str, int] = {}
        for number, vocabulary in enumerate(self.vocabularies()):
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
