"""JSON schemas of recipes and cluster files, for completion and checks in an editor.

    schema("recipe")    # configs/recipe.schema.json

A YAML file names its schema in its first line: `# yaml-language-server: $schema=recipe.schema.json`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.config.reference import ROOTS, doc, section_within, sentence
from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESOLVED = ("segmenter_version", "precision_reason", "micro_batch_reason")  # never in a file
_DIALECT = "http://json-schema.org/draft-07/schema#"  # the one that every editor knows


def schema(name: str) -> dict[str, Any]:
    """The JSON schema of recipe files or cluster files. Raises ConfigError for any other name.

    It accepts the same files as the loader: text may look like a number, `deepspeed` may be a name. Keys
    that only a resolved recipe sets may be null.
    """
    if name not in ROOTS:
        raise ConfigError(f"no schema {name}; name one of {' and '.join(ROOTS)}")
    tree = ROOTS[name].model_json_schema()
    kinds = {kind.__name__: kind for kind in _sections(ROOTS[name])}
    definitions = {
        title: _tidy(node, kinds[title]) for title, node in sorted(tree.pop("$defs").items())
    }
    head = {"$schema": _DIALECT, "title": f"ekiden {name}"}
    return head | _tidy(tree, ROOTS[name]) | {"definitions": definitions}


def _sections(kind: Any) -> Iterator[Any]:
    """A section and all its nested sections."""
    yield kind
    for field in kind.model_fields.values():
        if (inner := section_within(field.annotation)[0]) is not None:
            yield from _sections(inner)


def _tidy(node: dict[str, Any], kind: Any) -> dict[str, Any]:
    """The schema of a section as written in a file."""
    schema = {
        "type": "object",
        "description": doc(kind),
        "additionalProperties": False,
        "properties": {name: _property(p, name) for name, p in node["properties"].items()},
    }
    if required := [name for name, field in kind.model_fields.items() if field.is_required()]:
        schema["required"] = required
    for group in kind.one_of:
        schema["anyOf"] = [{"required": [key]} for key in group]
    return schema


def _property(node: dict[str, Any], name: str) -> dict[str, Any]:
    text = sentence(node["description"])
    if name in _RESOLVED:
        return {"type": "null", "description": text}
    rest = {k: v for k, v in node.items() if k not in ("title", "description")}
    if "$ref" in rest:
        rest.pop("default", None)  # of a section: its keys have defaults of their own
    return {"description": text} | {
        k: _typed(v) if k == "anyOf" else v for k, v in _typed(rest).items()
    }


def _typed(node: Any) -> Any:
    """A schema in which text may look like a number or a boolean, as in `name: 2024`."""
    if isinstance(node, list):
        return [_typed(item) for item in node]
    if not isinstance(node, dict):
        return node
    typed = {key: _typed(value) if key in ("items", "additionalProperties") else value
             for key, value in node.items()}  # fmt: skip
    if node.get("type") == "string" and "enum" not in node and "const" not in node:
        typed["type"] = ["string", "number", "boolean"]
    if "$ref" in node:
        typed["$ref"] = node["$ref"].replace("#/$defs/", "#/definitions/")
    return typed
