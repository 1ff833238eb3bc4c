"""A section of a configuration reduced to the keys that differ from their defaults, for records.

A section gains keys from version to version. A record without defaults stays equal until somebody sets a
new key; a full record, written by an older version, is reduced when it is read.

    given = NonDefaults(recipe.corpus, frozenset({"tasks"}))
    given == reduce_like(given, {"held_out": 0.1, "mode": "default", "filters": {"length": None}})
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
    """The keys of a section that differ from their defaults, as JSON.

    `leave_out` names keys to ignore; `also` adds facts from elsewhere to the record.
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
        """Reduce a tree that holds such a section, with or without its defaults."""
        rest = {key: tree[key] for key in tree if key not in self._leave_out}
        return without_defaults(self._kind, rest)


def without_defaults(kind: type[BaseModel], tree: Mapping[str, Any]) -> dict[str, Any]:
    """A section as JSON without the keys that equal their defaults, nested sections included.

    A key that the section does not know stays.
    """
    fields, rest = _fields(kind), {}
    for key, value in tree.items():
        field = fields.get(key)
        reduced = value if field is None else _reduced(field.annotation, value)
        if field is None or field.required or reduced != field.default:
            rest[key] = reduced
    return rest


def as_recorded(section: BaseModel, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A section as JSON for the version that wrote `recorded`, which may refuse the keys of a later one.

    A key that it did not write is left out while it has its default.
    """
    full = section.model_dump(mode="json")
    return _known(full, without_defaults(type(section), full), recorded)


def _known(
    full: Mapping[str, Any], own: Mapping[str, Any], recorded: Mapping[str, Any]
) -> dict[str, Any]:
    tree = {}
    for key, value in full.items():
        before = recorded.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            tree[key] = _known(value, own.get(key, {}), before)
        elif key in recorded or key in own:
            tree[key] = value
    return tree


class _Field(NamedTuple):
    annotation: Any
    required: bool
    default: Any  # reduced, as JSON


@functools.cache
def _fields(kind: type[BaseModel]) -> dict[str, _Field]:
    fields = {}
    for name, field in kind.model_fields.items():
        required = field.is_required()
        default = None if required else field.get_default(call_default_factory=True)
        reduced = _reduced(field.annotation, to_jsonable_python(default))
        fields[name] = _Field(field.annotation, required, reduced)
    return fields


def _reduced(annotation: Any, value: Any) -> Any:
    """The value of a field without defaults, if it is a section, or a mapping or list of sections."""
    for kind in alternatives(annotation):
        container = get_origin(kind)
        if isinstance(value, list) and container is list:
            return [_reduced(get_args(kind)[0], item) for item in value]
        if isinstance(value, dict) and container is dict:
            return {key: _reduced(get_args(kind)[1], item) for key, item in value.items()}
        if isinstance(value, dict) and is_section(kind):
            return without_defaults(kind, value)
    return value
