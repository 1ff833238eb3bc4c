"""A section of a configuration without the keys that have their default: what a record keeps of it.

A section gains keys from version to version. A record without defaults stays equal as long as nobody
sets a new key; one that an older version wrote in full is read as if it had been written like that.

    given = NonDefaults(recipe.corpus, frozenset({"tasks"}))
    given == alike(given, {"held_out": 0.1, "mode": "default", "filters": {"length": None}})
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin

from pydantic_core import to_jsonable_python

from kit.config.fields import alternatives, is_section
from kit.store.manifest import Reduced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel


class NonDefaults(Reduced):
    """What a section says beyond its defaults, as JSON.

    `leave_out` names keys of no interest; `also` holds what belongs to the record from elsewhere.
    """

    def __init__(
        self,
        section: BaseModel,
        leave_out: frozenset[str] = frozenset(),
        also: Mapping[str, Any] | None = None,
    ) -> None:
        self._kind, self._leave_out = type(section), leave_out
        super().__init__(self.reduce(section.model_dump(mode="json")) | dict(also or {}))

    def reduce(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The same of a tree that holds such a section, with its defaults or without."""
        kept = {key: tree[key] for key in tree if key not in self._leave_out}
        return without_defaults(self._kind, kept)


def without_defaults(kind: type[BaseModel], tree: Mapping[str, Any]) -> dict[str, Any]:
    """A section as JSON without the keys that have their default, in the sections within it as well.

    A key that the section does not know is kept.
    """
    fields, kept = _fields(kind), {}
    for key, value in tree.items():
        field = fields.get(key)
        reduced = value if field is None else _reduced(field.annotation, value)
        if field is None or field.required or reduced != field.default:
            kept[key] = reduced
    return kept


class _Field(NamedTuple):
    annotation: Any
    required: bool
    default: Any  # reduced, as JSON


@functools.cache
def _fields(kind: type[BaseModel]) -> dict[str, _Field]:
    found = {}
    for name, field in kind.model_fields.items():
        required = field.is_required()
        default = None if required else field.get_default(call_default_factory=True)
        reduced = _reduced(field.annotation, to_jsonable_python(default))
        found[name] = _Field(field.annotation, required, reduced)
    return found


def _reduced(annotation: Any, value: Any) -> Any:
    """A value of a field without defaults: a section, or sections in a mapping or a list."""
    for kind in alternatives(annotation):
        container = get_origin(kind)
        if isinstance(value, list) and container is list:
            return [_reduced(get_args(kind)[0], item) for item in value]
        if isinstance(value, dict) and container is dict:
            return {key: _reduced(get_args(kind)[1], item) for key, item in value.items()}
        if isinstance(value, dict) and is_section(kind):
            return without_defaults(kind, value)
    return value
