"""JSON schemas of recipes and cluster files, with which an editor completes and checks keys.

    schema("recipe")    # configs/recipe.schema.json

A YAML file names its schema in its first line: `# yaml-language-server: $schema=recipe.schema.json`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.config.reference import ROOTS, doc, section_within, sentence
from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESOLVED = ("segmenter_version", "precision_reason")  # never in a file
_DIALECT = "http://json-schema.org/draft-07/schema#"  # which every editor knows


def schema(name: str) -> dict[str, Any]:
    """The JSON schema of recipe files or cluster files. Raises ConfigError for another name.

    It takes what the loader takes: text may look like a number, `deepspeed` may be a name. What only a
    resolved recipe has may be null.
    """
    if name not in ROOTS:
        raise ConfigError(f"there is no schema {name}; there are {' and '.join(ROOTS)}")
    made = ROOTS[name].model_json_schema()
    kinds = {kind.__name__: kind for kind in _sections(ROOTS[name])}
    definitions = {
        title: _tidy(node, kinds[title]) for title, node in sorted(made.pop("$defs").items())
    }
    head = {"$schema": _DIALECT, "title": f"ekiden {name}"}
    return head | _tidy(made, ROOTS[name]) | {"definitions": definitions}


def _sections(kind: Any) -> Iterator[Any]:
    """A section and all those within it."""
    yield kind
    for field in kind.model_fields.values():
        if (inner := section_within(field.annotation)[0]) is not None:
            yield from _sections(inner)


def _tidy(node: dict[str, Any], kind: Any) -> dict[str, Any]:
    """The schema of a section as files have it."""
    made = {
        "type": "object",
        "description": doc(kind),
        "additionalProperties": False,
        "properties": {name: _property(p, name) for name, p in node["properties"].items()},
    }
    if required := [name for name, field in kind.model_fields.items() if field.is_required()]:
        made["required"] = required
    for group in kind.one_of:
        made["anyOf"] = [{"required": [key]} for key in group]
    return made


def _property(node: dict[str, Any], name: str) -> dict[str, Any]:
    text = sentence(node["description"])
    if name in _RESOLVED:
        return {"type": "null", "description": text}
    kept = {k: v for k, v in node.items() if k not in ("title", "description")}
    if "$ref" in kept:
        kept.pop("default", None)  # of a section: its own keys have theirs
    return {"description": text} | {
        k: _typed(v) if k == "anyOf" else v for k, v in _typed(kept).items()
    }


def _typed(node: Any) -> Any:
    """A schema whose text may look like a number or a truth, as in `name: 2024`."""
    if isinstance(node, list):
        return [_typed(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: _typed(value) if key in ("items", "additionalProperties") else value
            for key, value in node.items()}  # fmt: skip
    if node.get("type") == "string" and "enum" not in node and "const" not in node:
        made["type"] = ["string", "number", "boolean"]
    if "$ref" in node:
        made["$ref"] = node["$ref"].replace("#/$defs/", "#/definitions/")
    return made
