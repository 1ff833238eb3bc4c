"""The facts of corpus and tokenizer, from the manifests of the workspace."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.recipe import is_remote, is_url
from kit.corpus import report
from kit.data import shards, tokens
from kit.output import redaction
from kit.release.card.facts import CorpusFacts, SourceFacts, StepFacts, TokenizerFacts
from kit.store import manifest
from kit.store.files import read_json
from kit.store.paths import MANIFEST, Workspace
from kit.tokenizer import huggingface

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config.corpus import Source
    from kit.config.recipe import Recipe
    from kit.data.tokens import TokenUnit
    from kit.store.records import Manifest

# A file of a data set on the Hub, by its URL or in the cache of the Hub's client.
_ON_THE_HUB = (
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/datasets/(?P<owner>[^/]+)/(?P<name>[^/?#]+)",
    r"(?:^|/)datasets--(?P<owner>.+?)--(?P<name>[^/]+)/",
)


def corpus_facts(recipe: Recipe) -> CorpusFacts:
    """The facts of a recipe's corpus. Raises StageError if a shard or its tokens are missing."""
    units = tokens.complete(recipe)
    of_shards = [manifest.read(unit.shard.folder, "jobs.preprocess") for unit in units]
    of_tokens = [manifest.read(unit.folder, "jobs.tokenize") for unit in units]
    steps = report.total(of_shards)["steps"]
    corpus = recipe.corpus

    def total(part: str, key: str) -> int:
        return sum(one["counts"][part].get(key, 0) for one in of_tokens)

    return CorpusFacts(
        _sources(recipe, units, of_shards),
        [StepFacts(n, s.get("documents", 0), s.get("characters", 0)) for n, s in steps.items()],
        corpus.filters.preset,
        corpus.mode,
        corpus.segmenter,
        corpus.segmenter_version,
        {name: version for one in of_shards for name, version in one.get("tools", {}).items()},
        total(shards.TRAIN, "documents"),
        total(shards.HELD_OUT, "documents"),
        total(shards.TRAIN, "bytes"),
        sum(one["tokens"][shards.TRAIN] for one in of_tokens),
    )


def tokenizer_facts(recipe: Recipe) -> TokenizerFacts:
    """The facts of the workspace's tokenizer. Raises StageError if there is none."""
    workspace = Workspace(Path(recipe.workspace))
    chosen = manifest.read(workspace.tokenizer, "jobs.tokenizer")
    candidate = workspace.candidate(chosen["candidate"]) if "candidate" in chosen else None
    measures: Mapping[str, float] = {}
    if candidate is not None and (candidate / MANIFEST).is_file():
        measures = manifest.read(candidate, "jobs.tokenizer").get("measures", {})
    return TokenizerFacts(
        str(read_json(workspace.tokenizer / huggingface.FILE)["model"]["type"]),
        tokens.tokenizer_info(recipe).size,
        chosen["spaces"],
        measures,
    )


def dataset_of(location: str) -> str | None:
    """The data set on the Hub that a source's location lies in, as OWNER/NAME."""
    found = next((m for one in _ON_THE_HUB if (m := re.search(one, location))), None)
    return f"{found['owner']}/{found['name']}" if found else None


def _sources(
    recipe: Recipe, units: Sequence[TokenUnit], of_shards: Sequence[Manifest]
) -> list[SourceFacts]:
    sums: dict[str, Counter[str]] = {}
    for unit, one in zip(units, of_shards, strict=True):
        train = one["counts"][shards.TRAIN]
        counted = {key: train.get(key, 0) for key in ("documents", "characters")}
        of_source = sums.setdefault(unit.shard.piece["source"], Counter())
        of_source.update(counted | {"raw_bytes": one.get("bytes_in", 0)})
    sources = sorted(recipe.corpus.sources.items())
    return [_source(name, source, sums.get(name, Counter())) for name, source in sources]


def _source(name: str, source: Source, sums: Mapping[str, int]) -> SourceFacts:
    location = redaction.without_credentials(source.location)
    return SourceFacts(
        name,
        source.kind,
        location if is_remote(source.location) else Path(location).name,
        location if is_url(source.location) else None,
        source.license,
        dataset_of(source.location),
        source.sha256,
        sums["raw_bytes"],
        sums["documents"],
        sums["characters"],
    )
