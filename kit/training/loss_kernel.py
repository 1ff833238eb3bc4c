"""Whether `training.loss_kernel` can be had, without importing torch: at submission, and on each rank."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from kit.errors import ConfigError

if TYPE_CHECKING:
    from kit.config.recipe import Training


def check(training: Training, device: str, *, here: bool = True) -> None:
    """Raise ConfigError if the kernel cannot compute the loss on `device`, cpu or cuda.

    `here`: with this environment's packages. False: training has its own.
    """
    if training.loss_kernel == "torch":
        return
    refused = f"training.loss_kernel={training.loss_kernel}"
    if device == "cpu":
        raise ConfigError(f"{refused}: it needs a GPU, and device is cpu; leave it out")
    if here and importlib.util.find_spec("liger_kernel") is None:
        raise ConfigError(
            f"{refused}: liger-kernel is not installed; pip install 'ekiden[liger]', or leave it out"
        )
