"""What the sections of every configuration have: they are typed and frozen, and each mistake is told in one
line that names the key, its value and where it came from.
"""

from __future__ import annotations

import difflib
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from kit.config import relocation
from kit.config.fields import alternatives, dotted_keys, field_at, is_section, keys_of, type_at
from kit.errors import ConfigError
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

# How much alike two keys are, by difflib: a slip of the finger, and perhaps another word.
_NEARLY, _LIKE = 0.8, 0.5
RECORDED = "recorded"  # the context in which a configuration of a run directory is validated
_SUGGESTED = 3  # keys of one name in other sections


class Section(BaseModel):
    """A frozen part of a configuration; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    one_of: ClassVar[
        tuple[tuple[str, ...], ...]
    ] = ()  # groups of keys of which one has to be given
    # Keys of this section that `jobs.train amend` may change in mid-run, and those that not even a fork
    # may; a section among them is meant with all that is in it. Any other key is a fork's to change.
    AMENDABLE: ClassVar[frozenset[str]] = frozenset()
    BOUND: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Both name keys that there are, and none of them twice."""
        assert cls.model_fields.keys() >= cls.AMENDABLE | cls.BOUND, cls
        assert not cls.AMENDABLE & cls.BOUND, cls


SectionT = TypeVar("SectionT", bound=Section)


def read_resolved(path: Path, kind: type[SectionT]) -> SectionT:
    """A recipe or cluster as it stands in a run directory; its paths are those of where that lies now."""
    return validate(kind, relocation.follow(read_json(path), path), str(path), {}, recorded=True)


def differing_keys(one: Section, other: Section) -> list[str]:
    """The dotted keys in which two configurations differ, as `key: one -> other`.

    Where the workspace and the texts lie is no difference: see kit/config/relocation.py.
    """
    trees = [relocation.without_places(section.model_dump(mode="json")) for section in (one, other)]
    left, right = map(_flat, trees)
    return [
        f"{key}: {left.get(key)} -> {right.get(key)}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def validate(
    kind: type[SectionT],
    tree: dict[str, Any],
    place: str,
    origin: dict[str, str],
    others: Sequence[str] = (),
    *,
    recorded: bool = False,
) -> SectionT:
    """A tree read from `place` as a configuration; `origin` tells which override a key came from.

    `others` are the dotted keys of all configurations that an override may be for. What is `recorded` was
    good when a run began, and is not held against later rules. Raises ConfigError, with a line for each
    mistake: the key, its value, where it came from, and what is allowed.
    """
    try:
        return kind.model_validate(tree, context=RECORDED if recorded else None)
    except ValidationError as error:
        lines: dict[
            tuple[str, ...], str
        ] = {}  # one for each key, also where several types are allowed
        for problem in error.errors():
            keys = _keys_of_location(kind, problem["loc"])
            where = _where(keys, origin)
            known = others if where else [*dotted_keys(kind)]
            section = type_at(kind, keys)
            if problem["type"] == "missing" and is_section(section):
                lines |= {at: f"{place}: {line}" for at, line in _required(section, keys)}
                continue
            lines.setdefault((*keys,), f"{where or place}: {_line(kind, keys, problem, known)}")
        for at, line in _undecided(kind, tree, []):
            lines.setdefault(at, f"{_where([*at], origin) or place}: {line}")
        raise ConfigError(*lines.values()) from None


def first_sentence(description: str | None) -> str:
    """What a key is, in one phrase: the start of its description."""
    return (description or "").split(". ")[0]


def _required(section: Any, keys: list[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The keys that a section needs, with a line for each, where all of it is missing."""
    for name, field in section.model_fields.items():
        at = [*keys, name]
        if field.is_required() and is_section(field.annotation):
            yield from _required(field.annotation, at)
        elif field.is_required():
            what = first_sentence(field.description)
            yield (*at,), f"{'.'.join(at)}: field required ({what})"
    yield from _undecided(section, {}, keys)


def _undecided(
    section: Any, tree: dict[str, Any], keys: list[str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """The sections of a tree that have none of several keys of which one has to be given."""
    for group in section.one_of:
        if all(tree.get(key) is None for key in group):
            yield (*keys,), f"{'.'.join(keys)}: give {' or '.join(group)}"
    for name, field in section.model_fields.items():
        if is_section(field.annotation) and isinstance(tree.get(name), dict):
            yield from _undecided(field.annotation, tree[name], [*keys, name])


def _keys_of_location(kind: type[Section], location: tuple[int | str, ...]) -> list[str]:
    """The keys that lead to a value, without the type that pydantic names where several are allowed."""
    keys: list[str] = []
    for part in map(str, location):
        types = [one for one in alternatives(type_at(kind, keys)) if one is not NoneType]
        if len(types) > 1:
            break
        keys.append(part)
    return keys


def _where(keys: list[str], origin: dict[str, str]) -> str | None:
    """The override of the key or of a section around it; or one of a key below it, where the section as
    a whole is unknown or does not fit together.
    """
    key = ".".join(keys)
    around = [origin[k] for k in origin if f"{key}.".startswith(f"{k}.")]
    below = [origin[k] for k in origin if f"{k}.".startswith(f"{key}.")]
    return next(iter(around + below[::-1]), None)


def _line(kind: type[Section], keys: list[str], problem: ErrorDetails, known: Sequence[str]) -> str:
    key = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}; {_hint(kind, keys, known)}"
    message = problem["msg"].removeprefix("Value error, ")
    message = f"{message[0].lower()}{message[1:]}"
    if problem["type"] == "missing":
        field = field_at(kind, keys)
        what = first_sentence(field.description if field else None)
        return f"{key}: {message} ({what})" if what else f"{key}: {message}"
    given = problem["input"]
    value = "" if isinstance(given, dict | BaseModel) else f"={given!r:.80}"
    return f"{key}{value}: {message}" if key else message


def _hint(kind: type[Section], keys: list[str], known: Sequence[str]) -> str:
    """What an unknown key may have been meant to be: one like it, or one of its name in another section."""
    *sections, unknown = keys
    here = keys_of(type_at(kind, sections))
    near = difflib.get_close_matches(unknown, here, 1, cutoff=_NEARLY)
    near = near or [key for key in known if key.rsplit(".", 1)[-1] == unknown][:_SUGGESTED]
    near = near or difflib.get_close_matches(unknown, here, 1, cutoff=_LIKE)
    return f"did you mean {' or '.join(near)}?" if near else f"allowed: {', '.join(here)}"


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
