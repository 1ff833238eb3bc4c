r"""Values as a user wrote them, in a YAML file or behind the `=` of an override.

YAML guesses: `2024` is a number, `no` a truth, and what follows ` #` nothing at all. Here the field that
a value is for decides: where it takes text, the text stands as it was written.

    read("name: 2024\nworkspace: /data/exp\n", Recipe)       # {"name": "2024", ...}
    value("/data/exp #1", type_at(Recipe, ["workspace"]))     # "/data/exp #1"
"""

from __future__ import annotations

import re
from types import NoneType
from typing import Any

import yaml

from kit.config.fields import alternatives, takes, takes_text, type_at

_HASH = "\ue000"  # of a private use: stands for # while YAML reads an override, to which it is a comment
_STRING = "tag:yaml.org,2002:str"


def read(text: str, kind: Any) -> Any:
    """A YAML file that is to become a section of that kind. Raises yaml.YAMLError."""
    return _as_written(kind, _load(text, _Loader), _load(text, _Texts))


def value(text: str, annotation: Any) -> Any:
    """The text of an override as a value for a field of that type; of an unknown one as YAML has it.

    Text is taken as the shell hands it over; `null` is none of it where the field may be null. All else
    is YAML without comments. What is no YAML stays text.
    """
    flow = text.startswith("{") and takes(annotation, dict)
    if takes_text(annotation) and not flow:
        return None if text == "null" and NoneType in alternatives(annotation) else text
    if not text:
        return text
    hidden = text.replace("#", _HASH)
    try:
        found = _as_written(annotation, _load(hidden, _Loader), _load(hidden, _Texts))
    except yaml.YAMLError:
        return text
    return _with_hashes(found)


def _load(text: str, loader: type[yaml.SafeLoader]) -> Any:
    return yaml.load(text, loader)  # noqa: S506  a SafeLoader


def _as_written(annotation: Any, found: Any, text: Any) -> Any:
    """What YAML found, with the text in its place where a field takes text."""
    if annotation in (None, Any):
        return found
    if isinstance(found, dict) and isinstance(text, dict):
        return {
            key: _as_written(type_at(annotation, [key]), found[key], text[key]) for key in found
        }
    if isinstance(found, list) and isinstance(text, list):
        inner = type_at(annotation, ["0"])
        return [_as_written(inner, *pair) for pair in zip(found, text, strict=True)]
    return text if found is not None and takes_text(annotation) else found


def _with_hashes(found: Any) -> Any:
    if isinstance(found, dict):
        return {_with_hashes(key): _with_hashes(item) for key, item in found.items()}
    if isinstance(found, list):
        return [_with_hashes(item) for item in found]
    return found.replace(_HASH, "#") if isinstance(found, str) else found


class _Texts(yaml.SafeLoader):
    """YAML in which every value but null is text, as are the keys of mappings."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """See yaml.SafeLoader. Of two equal keys the first would have no effect."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value} is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
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
