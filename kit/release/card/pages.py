"""Writes the model card: README.md with its metadata, README_ja.md, and the picture of the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.release.card import english, japanese, metadata, picture
from kit.store.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.release.card.facts import CardFacts
    from kit.release.source import ReleaseSource


def write(facts: CardFacts, source: ReleaseSource, recipe: Recipe, folder: Path) -> None:
    """Write the card of an export into its folder."""
    write_text(folder / japanese.OTHER, f"{metadata.head(facts)}{english.text(facts)}")
    write_text(folder / english.OTHER, japanese.text(facts))
    picture.draw(source, recipe, folder)
