"""The texts of a recipe to start from: their kinds, guessed from file names, and their sizes.

texts = starter_texts.given(["texts/*.jsonl"])
texts[0].kind                    # "jsonl"
texts[0].rows()                  # its rows in the recipe
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.recipe import is_remote, named_kind
from kit.errors import ConfigError
from kit.plan.text_key import DEFAULT, text_key
from kit.store import listing

if TYPE_CHECKING:
    from collections.abc import Sequence

PUBLISHED = ("jawiki-20220701", "cc100-ja")
_ARCHIVE = "https://archive.org/download/jawiki-20220701/jawiki-20220701-pages-articles-multistream.xml.bz2"
_EXPANSION = {".xz": 4, ".gz": 3, ".bz2": 4, ".zst": 4}  # uncompressed size, approximately


@dataclass(frozen=True)
class Text:
    """A source of the recipe."""

    name: str
    kind: str
    location: str
    size: float | None  # bytes uncompressed, approximately; None: not downloaded yet
    text_key: str = DEFAULT  # jsonl
    other_keys: tuple[str, ...] = ()  # that also hold text

    def rows(self) -> list[str]:
        """Its rows below `sources`."""
        plain = re.fullmatch(r"[\w./-]+", self.location) and not self.location.startswith("-")
        location = self.location if plain else json.dumps(self.location, ensure_ascii=False)
        rows = [f"    {self.name}:", f"      kind: {self.kind}", f"      location: {location}"]
        if self.text_key != DEFAULT:
            key = json.dumps(self.text_key, ensure_ascii=False)
            others = ", ".join(self.other_keys[:3])
            comment = f" # the longest text; others: {others}" if others else ""
            rows.append(f"      text_key: {key}{comment}")
        if self.location == PUBLISHED[0]:
            rows += ["      mirrors:", f"        - {_ARCHIVE}"]
        return rows


def given(locations: Sequence[str]) -> list[Text]:
    """The texts at these locations, each with a name of its own. Raises ConfigError."""
    return _with_unique_names([_inspect(location) for location in locations])


def _inspect(location: str) -> Text:
    """The name, kind and size of a text."""
    if is_remote(location):
        if kind := named_kind(location):
            return Text(location.split("-", maxsplit=1)[0], kind, location, None)
        return Text(_name(location), _kind(location), location, None)
    files = _files(location)
    if not files:
        raise ConfigError(
            f"--text {location}: no such file; give a path, a folder, a pattern such as 'texts/*.txt', a "
            "URL, or a name: jawiki-20220701, cc100-ja"
        )
    size = sum(file.stat().st_size * _EXPANSION.get(file.suffix, 1) for file in files)
    name, kind = _name(location), _kind(files[0].name)
    for file in files:
        if (other := _kind(file.name)) != kind:
            raise ConfigError(
                f"--text {location}: {files[0].name} looks like {kind}, {file.name} like {other}; give "
                "each kind by a --text of its own, such as 'texts/*.txt'"
            )
    key, others = text_key(files[0]) if kind == "jsonl" else (DEFAULT, [])
    return Text(name, kind, location, float(size), key, tuple(others))


def _with_unique_names(texts: list[Text]) -> list[Text]:
    """Append a number to repeated names: `web`, `web-2`, `web-3`."""
    counts: dict[str, int] = {}
    unique = []
    for text in texts:
        counts[text.name] = counts.get(text.name, 0) + 1
        number = counts[text.name]
        unique.append(text if number == 1 else replace(text, name=f"{text.name}-{number}"))
    return unique


def _files(location: str) -> list[Path]:
    try:
        return [*map(Path, listing.files(str(Path(location).expanduser())))]
    except listing.SameFile as error:
        raise ConfigError(
            f"--text {location}: {error}; remove the link, or name other files"
        ) from None
    except OSError as error:
        raise ConfigError(f"--text {location}: {error.filename}: {error.strerror}") from None


def _kind(name: str) -> str:
    """The kind of a text, guessed from its file name."""
    bare = re.sub(r"\.(xz|gz|bz2|zst)$", "", name)
    if bare.endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    if bare.endswith(".parquet"):
        return "parquet"
    return "wikipedia" if bare.endswith(".xml") else "plaintext"


def _name(location: str) -> str:
    """A source name made from the name of a file or folder; of a pattern `texts/*.txt` it is `texts`."""
    path = Path(location)
    parts = (path.name.split(".")[0], path.parent.name)
    names = (re.sub(r"[^A-Za-z0-9_-]+", "-", part).strip("-_") for part in parts)
    return next(filter(None, names), "text")
