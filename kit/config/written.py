r"""Values as written by the user, in a YAML file or after the `=` of an override.

YAML guesses types: `2024` is a number, `no` a boolean, and ` #` begins a comment. Here the type of the
field decides: a field that takes text gets the text as written.

    read("name: 2024\nworkspace: /data/exp\n", Recipe)       # {"name": "2024", ...}
    value("/data/exp #1", type_at(Recipe, ["workspace"]))     # "/data/exp #1"
"""

from __future__ import annotations

import copy
import functools
import re
from types import NoneType
from typing import Any

import yaml

from kit.config.fields import alternatives, takes, takes_text, type_at

_HASH = "\ue000"  # private use: replaces # in an override, in which YAML would see a comment
_STRING = "tag:yaml.org,2002:str"


def read(text: str, kind: Any) -> Any:
    """Parse the text of a YAML file for a section of that kind. Raises yaml.YAMLError."""
    return _as_written(kind, _load(text, typed=True), _load(text, typed=False))


def value(text: str, annotation: Any) -> Any:
    """Parse the text of an override for a field of that type, as plain YAML if the type is unknown.

    A field that takes text gets it as the shell passes it on, except for `null` if the field may be null.
    Any other value is YAML without comments, or text if it is not valid YAML.
    """
    flow = text.startswith("{") and takes(annotation, dict)
    if takes_text(annotation) and not flow:
        return None if text == "null" and NoneType in alternatives(annotation) else text
    if not text:
        return text
    hidden = text.replace("#", _HASH)
    try:
        parsed = _as_written(annotation, _load(hidden, typed=True), _load(hidden, typed=False))
    except yaml.YAMLError:
        return text
    return _with_hashes(parsed)


def _load(text: str, *, typed: bool) -> Any:
    return copy.deepcopy(_parsed(text, typed=typed))


@functools.lru_cache(maxsize=256)  # a view of a run reads the same texts at every look
def _parsed(text: str, *, typed: bool) -> Any:
    return yaml.load(text, _Loader if typed else _Texts)  # noqa: S506  SafeLoaders both


def _as_written(annotation: Any, parsed: Any, text: Any) -> Any:
    """The values that YAML parsed, replaced by the text of each field that takes text."""
    if annotation in (None, Any):
        return parsed
    if isinstance(parsed, dict) and isinstance(text, dict):
        return {
            key: _as_written(type_at(annotation, [key]), parsed[key], text[key]) for key in parsed
        }
    if isinstance(parsed, list) and isinstance(text, list):
        inner = type_at(annotation, ["0"])
        return [_as_written(inner, *pair) for pair in zip(parsed, text, strict=True)]
    return text if parsed is not None and takes_text(annotation) else parsed


def _with_hashes(value: Any) -> Any:
    if isinstance(value, dict):
        return {_with_hashes(key): _with_hashes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_hashes(item) for item in value]
    return value.replace(_HASH, "#") if isinstance(value, str) else value


class _Texts(yaml.SafeLoader):
    """YAML in which every value except null is text, and so are the keys of mappings."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """See yaml.SafeLoader. Refuses duplicate keys, of which the first would have no effect."""
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                raise yaml.MarkedYAMLError(
                    problem=f"duplicate key {key.value}", problem_mark=key.start_mark
                )
            keys.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """See yaml.SafeLoader."""
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = _STRING
        return super().construct_mapping(node, deep)


class _Loader(_Texts):
    """YAML without its surprises: `no` and `24:00:00` are text, `1e-4` is a number."""


_Texts.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag.rsplit(":", 1)[-1] in ("null", "merge")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _rule, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", "-+0123456789"),
    (
        "float",
        r"^[-+]?(?:[0-9][0-9_]*)?(?:\.[0-9]*(?:e[-+]?[0-9]+)?|e[-+]?[0-9]+)$",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_rule), list(_first))
