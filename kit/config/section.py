"""The base of all configuration sections: typed, frozen, and validated with one line for each mistake.

The line names the key, its value and its origin (a file or an override).
"""

from __future__ import annotations

import difflib
import os
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from kit.config import relocation
from kit.config.fields import alternatives, dotted_keys, field_at, is_section, keys_of, type_at
from kit.errors import ConfigError
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

# Similarity of two keys by difflib: of a typo, and of a different word with the same meaning.
_TYPO, _SIMILAR = 0.8, 0.5
# pydantic would look through all packages of the environment for plugins: 30 ms, in each task.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
RECORDED = "recorded"  # the validation context of a configuration from a run directory
_MAX_SUGGESTIONS = 3  # keys of one name in other sections


class Section(BaseModel):
    """A frozen part of a configuration; a key it does not know is an error."""

    # Validators are built with the first value: most sections are only parts of another.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    one_of: ClassVar[tuple[tuple[str, ...], ...]] = ()  # groups of keys, one of each is required
    # The keys that `jobs.train amend` may change during a run, and those that not even a fork may change;
    # a nested section is listed with all its keys. Any other key may be changed by a fork only.
    AMENDABLE: ClassVar[frozenset[str]] = frozenset()
    BOUND: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Assert that both list existing keys, and have none in common."""
        assert cls.model_fields.keys() >= cls.AMENDABLE | cls.BOUND, cls
        assert not cls.AMENDABLE & cls.BOUND, cls


SectionT = TypeVar("SectionT", bound=Section)


def read_resolved(path: Path, kind: type[SectionT]) -> SectionT:
    """Read a recipe or cluster from a run directory, with its paths adjusted if that has moved."""
    return validate(kind, relocation.relocate(read_json(path), path), str(path), {}, recorded=True)


def differing_keys(old: Section, new: Section) -> list[str]:
    """The dotted keys in which two configurations differ, as `key: old -> new`.

    The paths of the workspace and the texts do not count: see kit/config/relocation.py.
    """
    trees = [relocation.without_paths(section.model_dump(mode="json")) for section in (old, new)]
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
    """Validate a tree read from `place`; `origin` maps a dotted key to the override that set it.

    `others` are the dotted keys of all configurations, as suggestions for an override. A `recorded`
    configuration was valid when its run began, and is exempt from rules added since. Raises ConfigError,
    with a line for each mistake: the key, its value, its origin, and the allowed values.
    """
    try:
        return kind.model_validate(tree, context=RECORDED if recorded else None)
    except ValidationError as error:
        # One for each key, even if several types are allowed.
        lines: dict[tuple[str, ...], str] = {}
        problems = error.errors()
        misspelt = _misspelt(kind, problems)  # required keys: one mistake, not two
        for problem in problems:
            keys = _keys_of_location(kind, problem["loc"])
            if problem["type"] == "missing" and (*keys,) in misspelt:
                continue
            override = override_of(keys, origin)
            all_keys = others if override else [*dotted_keys(kind)]
            section = type_at(kind, keys)
            if problem["type"] == "literal_error" and (*keys,) in lines:  # a number or a word
                lines[(*keys,)] += f", or {problem['ctx']['expected']}"
                continue
            if problem["type"] == "missing" and is_section(section):
                lines |= {path: f"{place}: {line}" for path, line in _required(section, keys)}
                continue
            lines.setdefault(
                (*keys,), f"{override or place}: {_line(kind, keys, problem, all_keys)}"
            )
        for path, line in _undecided(kind, tree, [], misspelt):
            lines.setdefault(path, f"{override_of([*path], origin) or place}: {line}")
        raise ConfigError(*lines.values()) from None


def override_of(keys: Sequence[str], origin: Mapping[str, str]) -> str | None:
    """The override of the key or of a section around it, else one of a key below it.

    The latter is to blame if the section as a whole is unknown or inconsistent.
    """
    key = ".".join(keys)
    around = [origin[k] for k in origin if f"{key}.".startswith(f"{k}.")]
    below = [origin[k] for k in origin if f"{k}.".startswith(f"{key}.")]
    return next(iter(around + below[::-1]), None)


def first_sentence(description: str | None) -> str:
    """The start of a description: the key in one phrase."""
    return (description or "").split(". ")[0]


def _required(section: Any, keys: list[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The required keys of a section that is missing as a whole, with a line for each."""
    for name, field in section.model_fields.items():
        path = [*keys, name]
        if field.is_required() and is_section(field.annotation):
            yield from _required(field.annotation, path)
        elif field.is_required():
            phrase = first_sentence(field.description)
            yield (*path,), f"{'.'.join(path)}: field required ({phrase})"
    yield from _undecided(section, {}, keys)


def _undecided(
    section: Any,
    tree: dict[str, Any],
    keys: list[str],
    misspelt: Container[tuple[str, ...]] = (),
) -> Iterator[tuple[tuple[str, ...], str]]:
    """The sections of a tree that lack all keys of a group of which one is required."""
    for group in section.one_of:
        if all(tree.get(key) is None and (*keys, key) not in misspelt for key in group):
            yield (*keys,), f"{'.'.join(keys)}: give {' or '.join(group)}"
    for name, field in section.model_fields.items():
        if is_section(field.annotation) and isinstance(tree.get(name), dict):
            yield from _undecided(field.annotation, tree[name], [*keys, name], misspelt)


def _misspelt(kind: type[Section], problems: Sequence[ErrorDetails]) -> set[tuple[str, ...]]:
    """The keys of the same section that unknown ones seem to mean."""
    found = set()
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            keys = _keys_of_location(kind, problem["loc"])
            found |= {(*keys[:-1], key) for key in _near(kind, keys, [*dotted_keys(kind)])}
    return found


def _keys_of_location(kind: type[Section], location: tuple[int | str, ...]) -> list[str]:
    """The keys that lead to a value, without the type that pydantic adds if several are allowed."""
    keys: list[str] = []
    for part in map(str, location):
        types = [t for t in alternatives(type_at(kind, keys)) if t is not NoneType]
        if len(types) > 1:
            break
        keys.append(part)
    return keys


def _line(
    kind: type[Section], keys: list[str], problem: ErrorDetails, all_keys: Sequence[str]
) -> str:
    key = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}; {_hint(kind, keys, all_keys)}"
    message = problem["msg"].removeprefix("Value error, ")
    message = f"{message[0].lower()}{message[1:]}"
    if problem["type"] == "missing":
        field = field_at(kind, keys)
        phrase = first_sentence(field.description if field else None)
        return f"{key}: {message} ({phrase})" if phrase else f"{key}: {message}"
    given = problem["input"]
    value = "" if isinstance(given, dict | BaseModel) else f"={given!r:.80}"
    return f"{key}{value}: {message}" if key else message


def _hint(kind: type[Section], keys: list[str], all_keys: Sequence[str]) -> str:
    """Suggestions for an unknown key."""
    near = _near(kind, keys, all_keys)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"allowed: {', '.join(keys_of(type_at(kind, keys[:-1])))}"


def _near(kind: type[Section], keys: list[str], all_keys: Sequence[str]) -> list[str]:
    """Keys that an unknown one may mean: a similar one, or one of the same name in another section."""
    *sections, unknown = keys
    here = keys_of(type_at(kind, sections))
    near = difflib.get_close_matches(unknown, here, 1, cutoff=_TYPO)
    near = near or [key for key in all_keys if key.rsplit(".", 1)[-1] == unknown][:_MAX_SUGGESTIONS]
    return near or difflib.get_close_matches(unknown, here, 1, cutoff=_SIMILAR)


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
