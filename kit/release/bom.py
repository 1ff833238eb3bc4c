"""The bill of materials of a release: model, data and packages in CycloneDX 1.6, `bom.cdx.json`.

Specification: https://cyclonedx.org/docs/1.6/json/. The same run gives the same bytes: the serial number is
made of the run's id and its weights, the time is that of the last row of the curve.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kit.config.licenses import spdx_of
from kit.release import verification
from kit.store.files import read_json, sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from kit.release.card.facts import CardFacts, SourceFacts
    from kit.release.croissant import ShardFile
    from kit.store.paths import Run

FILE = "bom.cdx.json"
_MODEL = "model"
_CORPUS = "data:corpus"
_METRICS = ("loss", "perplexity", "bits_per_byte")


def bill(
    facts: CardFacts, run: Run, folder: Path, weights: str, files: Sequence[ShardFile]
) -> dict[str, Any]:
    """The bill of an export in `folder`, whose files it lists.

    `weights` is the hash of the checkpoint, `files` are those of the corpus.
    """
    released = [*_files(folder)]
    data = [_corpus(facts, files), *map(_source, facts.corpus.sources)]
    packages = [*_packages(run)]
    refs = [component["bom-ref"] for component in (*released, *data[:1], *packages)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, f"{_identity(run)} {weights}").urn,
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(facts.training.ended)),
            "tools": {"components": [_tool(facts)]},
            "component": _model(facts),
        },
        "components": [*released, *data, *packages],
        "dependencies": [
            {"ref": _MODEL, "dependsOn": sorted(refs)},
            {"ref": _CORPUS, "dependsOn": sorted(one["bom-ref"] for one in data[1:])},
        ],
    }


def _identity(run: Run) -> str:
    """The id of the run; its name in a run of an earlier version."""
    return str(read_json(run.identity)["id"]) if run.identity.is_file() else run.root.name


def _tool(facts: CardFacts) -> dict[str, Any]:
    properties = _properties({"ekiden:commit": facts.commit})
    tool = {"type": "application", "name": "ekiden", "version": facts.version}
    return tool | ({"properties": properties} if properties else {})


def _model(facts: CardFacts) -> dict[str, Any]:
    """The model, with its card."""
    model, training, release = facts.model, facts.training, facts.release
    energy = facts.energy
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": facts.name,
        "version": f"step-{training.step}",
        "description": f"{model.title} language model for Japanese with {model.parameters:,} parameters",
        **({"authors": [{"name": name} for name in release.authors]} if release.authors else {}),
        "licenses": [_license(release.license_name or release.license)],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "self-supervised"},
                "task": "text-generation",
                "architectureFamily": "transformer",
                "modelArchitecture": model.model_class,
                "datasets": [{"ref": _CORPUS}],
                "inputs": [{"format": "text"}],
                "outputs": [{"format": "text"}],
            },
            **_performance(facts),
            "considerations": {
                "useCases": ["continuing Japanese text", "a base to fine-tune"],
                "technicalLimitations": [
                    "a base model: not tuned to follow instructions or to refuse",
                    f"a context of {model.positions:,} tokens",
                ],
            },
        },
        "properties": _properties(
            {
                "ekiden:parameters": model.parameters,
                "ekiden:dtype": model.dtype,
                "ekiden:training_tokens_seen": training.tokens_seen,
                "ekiden:attempts": training.attempts,
                "ekiden:energy_kwh": energy and round(energy.kwh, 3),
                "ekiden:co2_kg": energy and energy.co2_kg and round(energy.co2_kg, 3),
            }
        ),
    }


def _performance(facts: CardFacts) -> dict[str, Any]:
    if facts.scores is None:
        return {}
    metrics = [
        {"type": key, "value": str(facts.scores[key]), "slice": "held-out documents"}
        for key in _METRICS
    ]
    return {"quantitativeAnalysis": {"performanceMetrics": metrics}}


def _files(folder: Path) -> Iterator[dict[str, Any]]:
    """The files of the release but its pages, which its author completes."""
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        name = path.relative_to(folder).as_posix()
        if verification.PAGE.fullmatch(name):
            continue
        hashes = [{"alg": "SHA-256", "content": sha256(path)}]
        yield {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": hashes}


def _corpus(facts: CardFacts, files: Sequence[ShardFile]) -> dict[str, Any]:
    """The corpus, of which each shard is a file."""
    corpus = facts.corpus
    return {
        "type": "data",
        "bom-ref": _CORPUS,
        "name": f"{facts.name}-corpus",
        "description": f"{corpus.documents:,} documents for training, {corpus.held_out:,} held out",
        "data": [{"type": "dataset", "name": f"{facts.name}-corpus"}],
        "components": [
            {
                "type": "file",
                "bom-ref": f"shard:{one.path}",
                "name": one.path,
                "hashes": [{"alg": "SHA-256", "content": one.sha256}],
            }
            for one in files
        ],
    }


def _source(source: SourceFacts) -> dict[str, Any]:
    """A raw text."""
    tree: dict[str, Any] = {
        "type": "data",
        "bom-ref": f"data:{source.name}",
        "name": source.name,
        "description": f"{source.location} ({source.kind})",
        "data": [{"type": "dataset", "name": source.name}],
    }
    if source.license:
        tree["licenses"] = [_license(source.license)]
    if source.url:
        tree["externalReferences"] = [{"type": "distribution", "url": source.url}]
    if source.sha256:
        tree["hashes"] = [{"alg": "SHA-256", "content": source.sha256}]
    return tree


def _packages(run: Run) -> Iterator[dict[str, Any]]:
    """The packages on record, which every node of the run had."""
    if not run.environment.is_file():
        return
    for line in run.environment.read_text(encoding="utf-8").split():
        name, _, version = line.partition("==")
        purl = f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version)}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _license(text: str) -> dict[str, Any]:
    spdx = spdx_of(text)
    return {"license": {"id": spdx} if spdx else {"name": text}}


def _properties(values: Mapping[str, object]) -> list[dict[str, str]]:
    """Properties of a component, without those that are not known."""
    known: Iterable[tuple[str, object]] = ((k, v) for k, v in values.items() if v is not None)
    return [{"name": name, "value": str(value)} for name, value in known]
