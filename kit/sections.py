"""What the sections of every configuration have: they are typed and frozen, and a mistake is told in one
line that names the key, its value and where it came from.
"""

from __future__ import annotations

import difflib
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from kit.errors import ConfigError
from kit.files import read_json

if TYPE_CHECKING:
    from pathlib import Path


class Section(BaseModel):
    """A frozen part of a configuration; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)


def read_resolved(path: Path, kind: type[SectionT]) -> SectionT:
    """A recipe or cluster as it stands in a run directory."""
    return validate(kind, read_json(path), str(path), {})


def differing_keys(one: Section, other: Section) -> list[str]:
    """The dotted keys in which two configurations differ, as `key: one -> other`."""
    left, right = (_flat(section.model_dump(mode="json")) for section in (one, other))
    return [
        f"{key}: {left.get(key)} -> {right.get(key)}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def validate(
    kind: type[SectionT], tree: dict[str, Any], place: str, origin: dict[str, str]
) -> SectionT:
    """A tree read from `place` as a configuration; `origin` tells which override a key came from.

    Raises ConfigError, which names the key, its value, and where it came from.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        # The override of the key or of a section around it; or one of a key below it, where the
        # section as a whole is unknown or does not fit together.
        around = [origin[k] for k in origin if f"{key}.".startswith(f"{k}.")]
        below = [origin[k] for k in origin if f"{k}.".startswith(f"{key}.")]
        where = (around + below[::-1] + [place])[0]
        if first["type"] == "extra_forbidden":
            *sections, unknown = (str(part) for part in first["loc"])
            known = _keys_of(kind, sections)
            close = difflib.get_close_matches(unknown, known, 1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {key}; {hint}") from None
        given = first["type"] != "missing" and not isinstance(first["input"], dict)
        value = f"={first['input']!r:.80}" if given else ""
        message = first["msg"].removeprefix("Value error, ")
        at = f"{key}{value}: " if key else ""
        raise ConfigError(f"{where}: {at}{message[0].lower()}{message[1:]}") from None


def _keys_of(kind: type[Section], sections: list[str]) -> list[str]:
    """The keys allowed in a section of a configuration."""
    model: Any = kind
    for section in sections:
        # The keys of a mapping are the user's own names, those of a list numbers.
        several = getattr(model, "__origin__", None) in (dict, list)
        model = model.__args__[-1] if several else model.model_fields[section].annotation
        if isinstance(model, UnionType):  # a section or None
            model = next(one for one in model.__args__ if one is not type(None))
    return sorted(model.model_fields)


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
