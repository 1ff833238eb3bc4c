"""The section `corpus` of a recipe: the raw texts, and how they become shards."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from kit.config.filters import Filters
from kit.config.section import RECORDED, Section
from kit.config.wikipedia import Wikipedia

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_PUBLISHED_TEXTS = {  # by kind, patterns of their names; kit/corpus/raw/sources.py has their URLs
    "wikipedia": r"[a-z][a-z_]*wiki-\d{8}",
    "plaintext": r"cc100-[A-Za-z]{2,3}([_-][A-Za-z]+)?",
}


class Source(Section):
    """One raw text: a Wikipedia dump, plain text with an empty line between documents, JSON or parquet."""

    kind: Literal["wikipedia", "plaintext", "jsonl", "parquet"] = Field(
        description="format of the raw text. wikipedia: an XML dump; plaintext: an empty line between "
        "documents; jsonl: one JSON object per line; parquet: one row per document, for which install "
        "ekiden[parquet]. The article: a Wikipedia dump, and CC-100 as plaintext"
    )
    location: str = Field(
        description="a path, a folder or a glob pattern, relative to the recipe's file; an http(s) URL; or "
        "a name: jawiki-YYYYMMDD, cc100-ja. The article: jawiki-20220701 and CC-100's ja"
    )
    mirrors: list[str] = Field(
        default=[],
        description="further URLs of the same file, tried in turn. Only for a location that is downloaded",
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the file, in hexadecimal; any other file is refused. null: not checked",
    )
    sha1: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{40}$",
        description="SHA-1 of the file, as Wikimedia publishes it. null: not checked, unless location "
        "names a dump, whose published checksum is looked up",
    )
    index: str | None = Field(
        default=None,
        description="multistream index of a wikipedia dump: a path relative to the recipe's file, or a "
        "URL. Optional: without it the dump is scanned for its streams",
    )
    title: Literal["line", "drop"] = Field(
        default="line",
        description="title of a wikipedia article. line: the first line of its text; drop: left out",
    )
    text_key: str = Field(
        default="text",
        description="key of a jsonl object, or column of a parquet file, that holds the text",
    )
    url_key: str | None = Field(
        default=None,
        min_length=1,
        description="key of a jsonl object, or column of a parquet file, that holds the URL of a document. "
        "For corpus.remove, corpus.filters.urls and `preprocess show`; articles of a wikipedia dump have "
        "the URLs of their wiki. null: none",
    )
    id_key: str | None = Field(
        default=None,
        min_length=1,
        description="key or column that holds an id of a document, text or an integer. For corpus.remove "
        "and `preprocess show`; articles of a wikipedia dump have the ids of their pages. null: none",
    )
    license: str | None = Field(
        default=None,
        min_length=1,
        description="licence of the text, as an SPDX identifier or in words, for `preprocess show` and the "
        "model card. null: not given",
    )

    @field_validator("location", "index")
    @classmethod
    def _names_a_file(cls, given: str | None, info: ValidationInfo) -> str | None:
        lacks_it = given is not None and is_url(given) and file_of(given) is None
        if lacks_it and info.context != RECORDED:
            raise ValueError("has no file name; give the URL of a dump or a text file")
        return given


class Normalise(Section):
    """Details that neologdn would destroy and mode `default` preserves; `article` preserves none."""

    keep_ranges: bool = Field(default=True, description="keep the 〜 of ranges: 1995〜2001年")
    keep_url_tildes: bool = Field(default=True, description="keep the ~ of URLs")
    keep_tildes: bool = Field(default=True, description="keep all other tildes: すご〜い, ~/bin")
    keep_accent_spaces: bool = Field(
        default=True, description="keep the spaces after accented letters: café au lait"
    )
    keep_spaces: bool = Field(
        default=True,
        description="keep one space of those between letters or digits, full-width or not: 東京 大阪",
    )
    keep_dashes: bool = Field(default=True, description="keep dashes: ――, —, –, ──")
    keep_minus: bool = Field(
        default=True,
        description="write － as -, unless a katakana comes before and no digit after: －５℃ is -5℃, and "
        "センタ－ is センター. Also keep ⁻ and ₋: 10⁻³",
    )
    keep_quotes: bool = Field(default=True, description="keep ‘ ’ “ ”: “何？”")
    keep_yen: bool = Field(default=True, description="keep ¥: ¥1000")
    compose: bool = Field(
        default=True,
        description="compose letters and the combining marks after them, as file names of macOS have them: "
        "か and U+3099 become が",
    )


class Corpus(Section):
    """From raw dumps to shards of segmented documents."""

    sources: dict[str, Source] = Field(
        description="raw texts, each under a name you choose: letters, digits, '.', '_' and '-'. At least "
        "one"
    )
    downloads: str | None = Field(
        default=None,
        description="folder of downloaded files, relative to the recipe's file; workspaces may share it. "
        "null: in the workspace",
    )
    unit_mb: float = Field(default=64.0, gt=0, description="raw text per shard, in MB")
    tasks: int = Field(
        default=8,
        gt=0,
        description="array tasks of `preprocess`, which share the shards. The result does not depend on "
        "it",
    )
    held_out: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="share of the documents held out from training and tokenizer, for validation. It has "
        "to amount to at least one block",
    )
    mode: Literal["default", "article"] = Field(
        default="default",
        description="form of the text. default: as a reader saw it, with paragraphs; article: one "
        "normalised sentence per line, byte for byte as the article's script. The article: article",
    )
    wikipedia: Wikipedia = Field(
        default=Wikipedia(), description="markup of Wikipedia's articles in mode `default`"
    )
    normalise: Normalise = Field(
        default=Normalise(), description="details that mode `default` preserves from neologdn"
    )
    segmenter: Literal["auto", "mecab", "jumanpp"] = Field(
        default="auto",
        description="word segmenter. auto: Juman++ if `jumanpp` is on the PATH, else MeCab with JumanDIC; "
        "decided at submission. The article: Juman++",
    )
    segmenter_version: str | None = Field(
        default=None,
        description="version of the segmenter. Set when the recipe is resolved, never in a file",
    )
    filters: Filters = Field(default=Filters(), description="filters that remove documents")
    remove: str | None = Field(
        default=None,
        min_length=1,
        description="file that names documents to leave out, one a line, by URL, SOURCE:ID, or the hash "
        "that `preprocess show` prints; relative to the recipe's file. null: none",
    )
    on_bad_input: Literal["stop", "skip"] = Field(
        default="stop",
        description="action on a bad line, page or document, such as one with invalid UTF-8. stop: fail "
        "the task; skip: leave it out, and count it",
    )

    @field_validator("sources")
    @classmethod
    def _named(cls, sources: dict[str, Source]) -> dict[str, Source]:
        for name in sources:
            if not re.fullmatch(NAME, name):
                raise ValueError(
                    f"a source's name consists of letters, digits, '.', '_' and '-', not {name!r}"
                )
        if not sources:
            raise ValueError("give at least one source")
        return sources


def file_of(url: str) -> str | None:
    """The name of the file at a URL; None if it has none."""
    name = PurePosixPath(urlsplit(url).path).name
    return None if name in ("", "..") else name


def is_url(location: str) -> bool:
    """Whether a source's location is a URL."""
    return location.startswith(("http://", "https://"))


def named_kind(location: str) -> str | None:
    """The kind of the published text that a location names, such as jawiki-20220701, or None."""
    names = _PUBLISHED_TEXTS.items()
    return next((kind for kind, pattern in names if re.fullmatch(pattern, location)), None)


def is_remote(location: str) -> bool:
    """Whether a source's location is a URL or the name of a published text, not a path."""
    return is_url(location) or named_kind(location) is not None
