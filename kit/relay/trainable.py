"""Whether a recipe can be trained on a cluster, as far as the two show: what a submission, a fork, an
amendment and a plan refuse alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.config import contradictions, deepspeed_file
from kit.errors import ConfigError, EkidenError
from kit.plan import schedule
from kit.training import batches, loss_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe


def check(recipe: Recipe, cluster: Cluster, *, begun: bool = False, here: bool = False) -> None:
    """Raise ConfigError with a line for each of the `problems`."""
    if lines := [*problems(recipe, cluster, begun=begun, here=here)]:
        raise ConfigError(*lines)


def problems(
    recipe: Recipe, cluster: Cluster, *, begun: bool = False, here: bool = False
) -> Iterator[str]:
    """Why the ranks could not train it.

    `begun`: it has been trained with, so keys without effect stay in its DeepSpeed file; `here`: with this
    environment's packages, in which training runs.
    """
    training = recipe.training
    assert isinstance(training.deepspeed, dict)
    yield from refused(lambda: batches.check_shares(training, cluster.training.ranks))
    yield from contradictions.lines(recipe)
    if not begun:
        yield from deepspeed_file.idle(training.deepspeed)
        yield from refused(lambda: schedule.check(training))
    yield from refused(lambda: loss_kernel.check(training, cluster.device, here=here))


def refused(check: Callable[[], object]) -> Iterator[str]:
    """The lines of the error that a check raises, if it does."""
    try:
        check()
    except EkidenError as error:
        yield from map(str, error.args)
