"""Text and hyperparameters of a run as the protos of TensorBoard."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from kit.config import relocation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.config.recipe import Recipe
    from kit.tracking.rows import SampleRow

# Shown on the page HPARAMS; those that it finds itself it does not show for a single run.
_METRICS = ("train/bits_per_byte", "train/validation_loss", "train/loss", "train/goodput")


def text(tag: str, markdown: str) -> Any:
    """A Summary.Value of Markdown."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    return Summary.Value(
        tag=tag,
        metadata=create_summary_metadata(display_name=tag, description=""),
        tensor=make_tensor_proto(markdown.encode()),
    )


def fenced(plain: str, language: str = "") -> str:
    """Plain text as Markdown that shows it as it is."""
    longest = max([2, *(len(ticks) for ticks in re.findall("`+", plain))])
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{plain}\n{fence}"


def recipe_text(recipe: Recipe) -> Any:
    """The resolved recipe."""
    return tree_text(relocation.without_secrets(recipe.model_dump(mode="json")))


def tree_text(tree: Mapping[str, Any]) -> Any:
    """A resolved recipe, as far as it may be shown."""
    return text("recipe", fenced(json.dumps(tree, indent=2, ensure_ascii=False), "json"))


def sample_text(row: SampleRow) -> Any:
    """A text that the model wrote at a validation."""
    return text(f"samples/{' '.join(row['prompt'].split())}", fenced(row["text"]))


def hparams_start(recipe: Recipe, name: str, began: float) -> list[Any]:
    """The hyperparameters of a run that began at a Unix time, for the page HPARAMS."""
    from tensorboard.plugins.hparams import api_pb2, metadata, summary_v2

    values = flat(recipe)
    experiment = api_pb2.Experiment(time_created_secs=began)
    for key, value in values.items():
        info = experiment.hparam_infos.add(name=key, type=getattr(api_pb2, _type(value)))
        if isinstance(value, bool):
            info.domain_discrete.extend([False, True])
    for tag in _METRICS:
        experiment.metric_infos.add().name.tag = tag
    started = summary_v2.hparams_pb(values, trial_id=name, start_time_secs=began)
    return [_hparams(metadata.EXPERIMENT_TAG, experiment=experiment), *started.value]


def hparams_end(ended: float) -> Any:
    """The end of a run that is done."""
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    info = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=ended)
    return _hparams(metadata.SESSION_END_INFO_TAG, session_end_info=info)


def _hparams(tag: str, **message: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    data = plugin_data_pb2.HParamsPluginData(**message)
    return Summary.Value(
        tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
    )


def _type(value: bool | float | str) -> str:
    if isinstance(value, bool):
        return "DATA_TYPE_BOOL"
    return "DATA_TYPE_STRING" if isinstance(value, str) else "DATA_TYPE_FLOAT64"


def flat(recipe: Recipe) -> dict[str, bool | int | float | str]:
    """The keys of tokenizer, model and training by dotted name, those that are null left out."""
    sections = recipe.model_dump(mode="json", include={"tokenizer", "model", "training"})
    return dict(_leaves(sections, ""))


def _leaves(tree: Mapping[str, Any], prefix: str) -> Any:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False)
        elif value is not None:
            yield f"{prefix}{name}", value
