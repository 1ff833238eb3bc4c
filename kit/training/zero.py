"""ZeRO's buckets of gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.plan import shape

if TYPE_CHECKING:
    from collections.abc import MutableMapping


def bound_buckets(configuration: MutableMapping[str, Any], parameters: int) -> None:
    """Make the buckets of gradients in a DeepSpeed configuration no larger than the model.

    DeepSpeed allocates them whole, in each micro-batch. The order of its sums does not change.
    """
    options = configuration.get("zero_optimization", {})
    if options.get("stage", 0) > 0:
        size = shape.bucket(options, parameters)
        configuration["zero_optimization"] = {**options, "reduce_bucket_size": size}
