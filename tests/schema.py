"""What a JSON schema refuses: the keywords that the kit's schemas use, and no others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
    "integer": int, "number": (int, float),
}  # fmt: skip
_WORDS = {"title", "description", "default", "$schema", "definitions"}  # which refuse nothing


def refused(schema: dict[str, Any], value: Any) -> list[str]:
    """Why the schema refuses a value, a line a reason; empty if it takes it."""
    return [*_refused(schema, value, schema, "")]


def _refused(node: dict[str, Any], value: Any, root: dict[str, Any], at: str) -> Iterator[str]:
    for keyword, rule in node.items():
        if keyword not in _WORDS:
            yield from _CHECKS[keyword](rule, value, root, at, node)


def _ref(rule: str, value: Any, root: dict[str, Any], at: str, _: Any) -> Iterator[str]:
    target = root
    for part in rule.removeprefix("#/").split("/"):
        target = target[part]
    yield from _refused(target, value, root, at)


def _type(rule: str | list[str], value: Any, _r: Any, at: str, _: Any) -> Iterator[str]:
    names = [rule] if isinstance(rule, str) else rule
    if not any(
        isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
        for name in names
    ):
        yield f"{at}: {value!r} is not of type {rule}"


def _properties(
    rule: dict[str, Any], value: Any, root: dict[str, Any], at: str, _: Any
) -> Iterator[str]:
    for key in rule.keys() & value.keys() if isinstance(value, dict) else ():
        yield from _refused(rule[key], value[key], root, f"{at}.{key}")


def _additional(rule: Any, value: Any, root: dict[str, Any], at: str, node: Any) -> Iterator[str]:
    for key in value if isinstance(value, dict) else ():
        if key not in node.get("properties", {}):
            if rule is False:
                yield f"{at}: unknown key {key}"
            elif rule is not True:
                yield from _refused(rule, value[key], root, f"{at}.{key}")


def _any_of(
    rule: list[dict[str, Any]], value: Any, root: dict[str, Any], at: str, _: Any
) -> Iterator[str]:
    if all([*_refused(one, value, root, at)] for one in rule):
        yield f"{at}: {value!r} is none of what is allowed"


def _required(rule: list[str], value: Any, _r: Any, at: str, _: Any) -> Iterator[str]:
    for key in rule if isinstance(value, dict) else ():
        if key not in value:
            yield f"{at}: no {key}"


def _items(
    rule: dict[str, Any], value: Any, root: dict[str, Any], at: str, _: Any
) -> Iterator[str]:
    for index, one in enumerate(value if isinstance(value, list) else ()):
        yield from _refused(rule, one, root, f"{at}.{index}")


def _bound(holds: Any) -> Any:
    def check(rule: float, value: Any, _r: Any, at: str, _: Any) -> Iterator[str]:
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and not holds(value, rule)
        ):
            yield f"{at}: {value} is out of bounds ({rule})"

    return check


def _text(holds: Any) -> Any:
    def check(rule: Any, value: Any, _r: Any, at: str, _: Any) -> Iterator[str]:
        if isinstance(value, str) and not holds(value, rule):
            yield f"{at}: {value!r} does not fit {rule!r}"

    return check


def _enum(rule: list[Any], value: Any, _r: Any, at: str, _: Any) -> Iterator[str]:
    if value not in rule:
        yield f"{at}: {value!r} is none of {rule}"


def _const(rule: Any, value: Any, _r: Any, at: str, _: Any) -> Iterator[str]:
    if value != rule:
        yield f"{at}: {value!r} is not {rule!r}"


_CHECKS = {
    "$ref": _ref, "type": _type, "properties": _properties, "additionalProperties": _additional,
    "anyOf": _any_of, "required": _required, "items": _items, "enum": _enum,
    "const": _const,
    "minimum": _bound(lambda value, rule: value >= rule),
    "maximum": _bound(lambda value, rule: value <= rule),
    "exclusiveMinimum": _bound(lambda value, rule: value > rule),
    "exclusiveMaximum": _bound(lambda value, rule: value < rule),
    "pattern": _text(lambda value, rule: re.search(rule, value)),
    "minLength": _text(lambda value, rule: len(value) >= rule),
}  # fmt: skip
