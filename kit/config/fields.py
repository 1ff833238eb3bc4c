"""The fields of a section, by dotted key, and the types that they take."""

from __future__ import annotations

from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic.fields import FieldInfo


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, NoneType included; any other type alone."""
    several = get_origin(annotation) in (Union, UnionType)
    return get_args(annotation) if several else (annotation,)


def is_section(kind: Any) -> bool:
    """Whether a type is a section of a configuration."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def takes_text(annotation: Any) -> bool:
    """Whether a value may be text: any text, or one of several given words."""
    return any(kind is str or get_origin(kind) is Literal for kind in alternatives(annotation))


def takes(annotation: Any, container: type[Any]) -> bool:
    """Whether a value may be a `container`: a list, or a dict with keys of the user's."""
    return any(get_origin(kind) is container for kind in alternatives(annotation))


def type_at(annotation: Any, keys: Sequence[str]) -> Any:
    """The type of the value at a path of keys, names and indices; None if there is no such key."""
    for key in keys:
        annotation = _below(annotation, key)
    return annotation


def field_at(annotation: Any, keys: Sequence[str]) -> FieldInfo | None:
    """The field at a path of keys; None if there is none, or if the path ends in a name of the user's."""
    for kind in alternatives(type_at(annotation, keys[:-1])):
        if is_section(kind):
            field: FieldInfo | None = kind.model_fields.get(keys[-1])
            return field
    return None


def keys_of(annotation: Any) -> list[str]:
    """The keys of a section, sorted; none for any other type."""
    return sorted(
        key for kind in alternatives(annotation) if is_section(kind) for key in kind.model_fields
    )


def dotted_keys(annotation: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a section and its nested sections; NAME stands for a name of the user's."""
    for kind in alternatives(annotation):
        if get_origin(kind) is dict:
            yield from dotted_keys(get_args(kind)[1], f"{prefix}NAME.")
        for key, field in kind.model_fields.items() if is_section(kind) else ():
            yield f"{prefix}{key}"
            yield from dotted_keys(field.annotation, f"{prefix}{key}.")


def keys_in(kind: Any, variable: str, prefix: str = "") -> Iterator[str]:
    """The dotted keys listed by a class variable of a section and of its nested sections, in order.

    The key of a section that is listed as a whole ends in a dot.
    """
    for key, field in kind.model_fields.items():
        below = next(filter(is_section, alternatives(field.annotation)), None)
        if key in getattr(kind, variable):
            yield f"{prefix}{key}." if below else f"{prefix}{key}"
        elif below:
            yield from keys_in(below, variable, f"{prefix}{key}.")


def _below(annotation: Any, key: str) -> Any:
    for kind in alternatives(annotation):
        if get_origin(kind) in (dict, list):
            return get_args(kind)[-1]
        if is_section(kind) and key in kind.model_fields:
            return kind.model_fields[key].annotation
    return None
