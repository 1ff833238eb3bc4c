"""Sections as a later version may have them: each with keys that its user has never heard of."""

from __future__ import annotations

import copy
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, create_model

from kit.config.section import Section


class Part(Section):
    """A section that is new within others."""

    size: int = 3
    name: str | None = None


def later(kind: type[Any]) -> Any:
    """The kind of a section, with a switch, a key that is null and a section added, also within it."""
    changed = {name: _later(field.annotation) for name, field in kind.model_fields.items()}
    fields = {
        name: (annotation, copy.copy(kind.model_fields[name]))
        for name, annotation in changed.items()
        if annotation is not kind.model_fields[name].annotation
    }
    return create_model(
        f"Later{kind.__name__}",
        __base__=kind,
        added=(int | None, None),
        added_switch=(bool, False),
        added_part=(Part, Part()),
        **fields,
    )


def _later(annotation: Any) -> Any:
    """The type of a field, its sections as `later` has them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return later(annotation)
    origin, inner = get_origin(annotation), get_args(annotation)
    found = (
        tuple(_later(one) for one in inner) if origin in (dict, list, Union, UnionType) else inner
    )
    if all(one is other for one, other in zip(found, inner, strict=True)):
        return annotation
    return Union[found] if origin in (Union, UnionType) else origin[found]  # noqa: UP007  a tuple of types
