"""The curve that the model card shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.output.charts.picture import save
from kit.store.files import atomic
from kit.tracking import curves

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.release.source import ReleaseSource

PICTURE = "loss.png"


def draw(source: ReleaseSource, recipe: Recipe, folder: Path) -> None:
    """Draw the training and validation loss over the tokens seen into a folder."""
    chart = curves.loss_chart(curves.columns(source.curve(), recipe))
    with atomic(folder / PICTURE) as out:
        save(chart, out=out)
