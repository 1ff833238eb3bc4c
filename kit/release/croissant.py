"""The corpus of a release in Croissant 1.1: `croissant.json`, JSON-LD that says which files the shards are.

Specification: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html. The shards lie in the
workspace, and are not released; their paths are relative to it. Provenance is in PROV-O, as the
specification recommends.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.config.licenses import url_of
from kit.data import shards, tokens
from kit.release.card import snippets
from kit.store.files import sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.recipe import Recipe
    from kit.release.card.facts import CardFacts, SourceFacts

FILE = "croissant.json"
_ZSTD, _TEXT = "application/zstd", "text/plain"
_TERMS = (  # of Croissant's namespace
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet",
    "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
    "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
    "transform",
)  # fmt: skip
_CONTEXT: dict[str, Any] = {
    "@language": "ja",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}


@dataclass(frozen=True)
class ShardFile:
    """A file of the corpus."""

    unit: str
    part: str  # shards.TRAIN or HELD_OUT
    path: str  # relative to the workspace
    bytes: int
    sha256: str


def shard_files(recipe: Recipe) -> list[ShardFile]:
    """All files of a corpus, which are read. Raises StageError if one is missing."""
    units = [unit.shard for unit in tokens.complete(recipe)]
    places = [
        (one, part, shards.part_file(one.folder, part)) for one in units for part in shards.PARTS
    ]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # the disk is the limit
        sums = [*pool.map(lambda place: sha256(place[2]), places)]
    return [
        ShardFile(one.name, part, f"shards/{one.name}/{path.name}", path.stat().st_size, found)
        for (one, part, path), found in zip(places, sums, strict=True)
    ]


def description(facts: CardFacts, files: Sequence[ShardFile]) -> dict[str, Any]:
    """The corpus as JSON-LD."""
    corpus = facts.corpus
    tree: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": f"{facts.name}-corpus",
        "description": (
            f"Japanese text that the language model {facts.name} was trained on: {corpus.documents:,} "
            f"documents for training and {corpus.held_out:,} held out, normalised by neologdn and "
            "segmented into words. One sentence a line, words separated by a space, an empty line after "
            "each document."
        ),
        "license": _licenses(corpus.sources),
        "creator": [{"@type": "sc:Person", "name": name} for name in facts.release.authors],
        "citeAs": snippets.citation(facts),
        "inLanguage": "ja",
        "isLiveDataset": False,
        "distribution": [*map(_file, files), *(_texts(part, files) for part in shards.PARTS)],
        "recordSet": [_records(part) for part in shards.PARTS],
        "prov:wasDerivedFrom": [_origin(one) for one in corpus.sources],
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"ekiden {facts.version}, jobs.preprocess: "
            + ", ".join(f"{name} {version}" for name, version in sorted(corpus.tools.items())),
        },
    }
    return {key: value for key, value in tree.items() if value not in (None, [])}


def _licenses(sources: Sequence[SourceFacts]) -> list[str]:
    """The licences of all sources: URLs where SPDX lists them, else words."""
    return sorted({url_of(one.license) or one.license for one in sources if one.license})


def _file(file: ShardFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": _id(file),
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": _ZSTD,
        "sha256": file.sha256,
    }


def _id(file: ShardFile) -> str:
    return f"{file.unit}/{file.part}"


def _texts(part: str, files: Sequence[ShardFile]) -> dict[str, Any]:
    """The text in the compressed files of a part."""
    return {
        "@type": "cr:FileSet",
        "@id": part,
        "name": part,
        "description": f"the texts in the zstd-compressed files of the part {part}",
        "containedIn": [{"@id": _id(file)} for file in files if file.part == part],
        "encodingFormat": _TEXT,
        "includes": "*.txt",
    }


def _records(part: str) -> dict[str, Any]:
    """The documents of a part."""
    name = f"{part}-documents"
    field = {
        "@type": "cr:Field",
        "@id": f"{name}/text",
        "name": "text",
        "description": "a document: sentences, each of words and ended by a line feed",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": part},
            "extract": {"fileProperty": "content"},
            "transform": {"separator": "\n\n"},
        },
    }
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"the documents of the part {part}",
        "field": [field],
    }


def _origin(source: SourceFacts) -> dict[str, Any]:
    """A raw text."""
    tree: dict[str, Any] = {
        "@type": "prov:Entity",
        "@id": source.url or f"urn:ekiden:source:{source.name}",
        "prov:label": f"{source.name}: {source.location} ({source.kind})",
        "sha256": source.sha256,
        "license": source.license and (url_of(source.license) or source.license),
    }
    return {key: value for key, value in tree.items() if value is not None}
