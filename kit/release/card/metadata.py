"""The metadata of the model card, which the Hub reads: YAML at the head of README.md.

Keys and values as huggingface_hub.ModelCardData has them (2.4), and as docs/hub/model-cards.md and
model-cards-co2.md of huggingface/hub-docs describe them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.release.card.facts import CardFacts, EnergyFacts, HardwareFacts

_METRICS = (
    ("perplexity", "perplexity"),
    ("bits_per_byte", "bits per byte"),
    ("raw_bits_per_byte", "bits per byte of raw text"),
)


def head(facts: CardFacts) -> str:
    """The metadata between its two lines of dashes."""
    text = yaml.safe_dump(metadata(facts), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def metadata(facts: CardFacts) -> dict[str, Any]:
    """The metadata; what is not known is left out."""
    release = facts.release
    tree: dict[str, Any] = {
        "language": ["ja"],
        "license": release.license,
        "license_name": release.license_name,
        "license_link": release.license_link,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": [facts.model.model_type, "japanese", "base-model", "ekiden"],
        "datasets": sorted({one.dataset for one in facts.corpus.sources if one.dataset}),
        "base_model": release.base_model,
        "co2_eq_emissions": _emissions(facts.energy, facts.training.hardware),
        "model-index": _model_index(facts),
    }
    return {key: value for key, value in tree.items() if value not in (None, [])}


def _emissions(energy: EnergyFacts | None, hardware: HardwareFacts | None) -> dict[str, Any] | None:
    if energy is None or energy.co2_kg is None or hardware is None:
        return None
    return {
        "emissions": round(energy.co2_kg * 1000, 1),  # grams
        "source": "device hours x power x PUE x carbon intensity of the grid; see Energy below",
        "training_type": "pre-training",
        "hardware_used": f"{hardware.ranks} x {hardware.device}",
    }


def _model_index(facts: CardFacts) -> list[dict[str, Any]]:
    """Scores on the held-out documents, and on tasks."""
    results = [_of_task(row) for row in facts.task_scores if row.get("main")]
    if facts.scores is not None:
        metrics = [
            {"type": key, "name": name, "value": facts.scores[key]}
            for key, name in _METRICS
            if key in facts.scores
        ]
        held_out = {"type": facts.name, "name": "held-out documents", "split": "held-out"}
        results.insert(0, _result(held_out, metrics))
    return [{"name": facts.name, "results": results}] if results else []


def _of_task(row: Mapping[str, Any]) -> dict[str, Any]:
    """The main metric of a task; `hub` is its data set on the Hub, and its task there."""
    dataset = row["hub"][0] if "hub" in row else row["task"]
    metric = {
        "type": row["metric"],
        "name": f"{row['task']}/{row['metric']}",
        "value": row["value"],
    }
    return _result({"type": dataset, "name": row["task"]}, [metric])


def _result(dataset: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"task": {"type": "text-generation"}, "dataset": dataset, "metrics": metrics}
