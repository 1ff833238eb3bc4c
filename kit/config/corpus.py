"""The section `corpus` of a recipe: which raw texts there are, and how they become shards."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from kit.config.section import Section

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_NAMED = {  # published texts by name: kit/corpus/raw/sources.py knows where they are
    "wikipedia": r"[a-z][a-z_]*wiki-\d{8}",
    "plaintext": r"cc100-[A-Za-z]{2,3}([_-][A-Za-z]+)?",
}


class Source(Section):
    """One raw text: a Wikipedia dump, plain text with an empty line between documents, or JSON lines."""

    kind: Literal["wikipedia", "plaintext", "jsonl"] = Field(
        description="format of the raw text. wikipedia: a dump in XML; plaintext: an empty line between "
        "documents; jsonl: a JSON object a line. The article: a Wikipedia dump, and CC-100 as plaintext"
    )
    location: str = Field(
        description="a path, a folder or a pattern of files, relative to the recipe's file; an http(s) "
        "URL; or a name: jawiki-YYYYMMDD, cc100-ja. The article: jawiki-20220701 and CC-100's ja"
    )
    mirrors: list[str] = Field(
        default=[],
        description="URLs of the same file, tried in turn. Only for a location that is fetched",
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the one file, in hexadecimal: another file is refused. null: not checked",
    )
    sha1: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{40}$",
        description="SHA-1 of the one file, as Wikimedia publishes it. null: not checked, unless location "
        "is the name of a dump, whose published sum is looked up",
    )
    index: str | None = Field(
        default=None,
        description="multistream index of a wikipedia dump: a path relative to the recipe's file, or a "
        "URL. Not needed: without it the dump is scanned for its streams",
    )
    title: Literal["line", "drop"] = Field(
        default="line",
        description="title of a wikipedia article. line: it is the first line of the text; drop: left out",
    )
    text_key: str = Field(default="text", description="key of a jsonl object that holds the text")


class Normalise(Section):
    """What neologdn would destroy in running text and mode `default` keeps; `article` keeps none."""

    keep_ranges: bool = Field(default=True, description="keep the 〜 of ranges: 1995〜2001年")
    keep_url_tildes: bool = Field(default=True, description="keep the ~ of URLs")
    keep_accent_spaces: bool = Field(
        default=True, description="keep the spaces behind accented letters: café au lait"
    )


class Length(Section):
    """Documents by their characters."""

    min: int = Field(
        default=0, ge=0, description="least number of characters of a document that is kept"
    )
    max: int | None = Field(
        default=None,
        gt=0,
        description="greatest number of characters of a document that is kept. null: no bound",
    )


class MinimumShare(Section):
    """Documents in which something has at least this share."""

    min_share: float = Field(
        gt=0, le=1, description="least share of a document that is kept. 0.5 is a half"
    )


class MaximumShare(Section):
    """Documents in which something has at most this share."""

    max_share: float = Field(
        ge=0, lt=1, description="greatest share of a document that is kept. 0.5 is a half"
    )


class Filters(Section):
    """Which documents are left out; a filter that is null is not used. They count what they remove."""

    length: Length | None = Field(
        default=None, description="documents by length, in characters. null: any length"
    )
    japanese: MinimumShare | None = Field(
        default=None,
        description="documents by kana and kanji, as a share of the characters that are no white space. "
        "null: any share",
    )
    symbols: MaximumShare | None = Field(
        default=None,
        description="documents by characters that are neither letters nor digits, as a share of those that "
        "are no white space. null: any share",
    )
    repeated_lines: MaximumShare | None = Field(
        default=None,
        description="documents by lines that stood in them before, as a share of their lines. null: any "
        "share",
    )
    duplicates: bool = Field(
        default=False,
        description="leave out a document that stood in the corpus before, as a whole. Takes two array "
        "jobs more",
    )


class Corpus(Section):
    """From raw dumps to shards of segmented documents."""

    sources: dict[str, Source] = Field(
        description="raw texts, each under a name of yours: letters, digits, '.', '_' and '-'. At least one"
    )
    downloads: str | None = Field(
        default=None,
        description="folder of fetched files, relative to the recipe's file; workspaces may share it. "
        "null: in the workspace",
    )
    unit_mb: float = Field(
        default=64.0, gt=0, description="size of the raw text of one shard, in MB"
    )
    tasks: int = Field(
        default=8,
        gt=0,
        description="array tasks of jobs.preprocess, over which the shards are spread. What comes out does "
        "not depend on it",
    )
    held_out: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="share of the documents kept from training and tokenizer, for validation. It has to "
        "give a block at least",
    )
    mode: Literal["default", "article"] = Field(
        default="default",
        description="what the text is like. default: what a reader saw, paragraphs included; article: one "
        "normalised sentence a line, byte for byte as the article's script. The article: article",
    )
    normalise: Normalise = Field(
        default=Normalise(), description="what mode `default` keeps of what neologdn would destroy"
    )
    segmenter: Literal["auto", "mecab", "jumanpp"] = Field(
        default="auto",
        description="program that finds the words. auto: Juman++ if `jumanpp` is on the PATH, else MeCab "
        "with JumanDIC; decided when the run is submitted. The article: Juman++",
    )
    segmenter_version: str | None = Field(
        default=None,
        description="version of the segmenter. Set when the recipe is resolved, never in a file",
    )
    filters: Filters = Field(default=Filters(), description="which documents are left out")
    on_bad_input: Literal["stop", "skip"] = Field(
        default="stop",
        description="what a bad line, page or document does, such as one with invalid UTF-8. stop: it ends "
        "the task; skip: it is passed over, and counted",
    )

    @field_validator("sources")
    @classmethod
    def _named(cls, sources: dict[str, Source]) -> dict[str, Source]:
        for name in sources:
            if not re.match(NAME, name):
                raise ValueError(
                    f"a source's name is letters, digits, '.', '_' and '-', not {name!r}"
                )
        if not sources:
            raise ValueError("at least one source")
        return sources


def is_url(location: str) -> bool:
    """Whether a source's location is to be fetched over the network."""
    return location.startswith(("http://", "https://"))


def named_kind(location: str) -> str | None:
    """The kind of the published text that a location names, as jawiki-20220701; None for no name."""
    return next((kind for kind, name in _NAMED.items() if re.fullmatch(name, location)), None)


def is_remote(location: str) -> bool:
    """Whether a source's location is no path: a URL, or the name of a published text."""
    return is_url(location) or named_kind(location) is not None
