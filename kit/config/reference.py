"""The reference of all keys of recipes and cluster files: single keys, and the page docs/recipes.md.

    print(explain("training.precision"))    # its type, default and description
    print(page())                           # docs/recipes.md

Everything is generated from the sections: the types, defaults and descriptions of their fields. The keys
of a cluster file begin with `cluster.`, as in overrides.
"""

from __future__ import annotations

import difflib
import json
import textwrap
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic_core import to_jsonable_python

from kit.config.cluster import Cluster
from kit.config.fields import alternatives, is_section
from kit.config.recipe import Recipe
from kit.config.section import first_sentence
from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo

NAME, INDEX = "NAME", "N"  # placeholders for a name of the user's, and for the index of an element
ROOTS: dict[str, Any] = {"recipe": Recipe, "cluster": Cluster}
_PLAIN = {bool: "true or false", int: "integer", float: "number", str: "text"}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_SECTION, _BY_NAME, _LISTED = "section", "sections by name", "list of sections"
_CLUSTER = "cluster."  # prefix of the keys of a cluster file
_WIDTH = 100
_MAX_SUGGESTIONS = 3


@dataclass(frozen=True)
class Key:
    """One key: its dotted name, type in words, default as in YAML (None: required) and description."""

    name: str
    takes: str
    default: str | None
    text: str
    section: Any = None  # the type of a section, or of the sections in a mapping or list

    @property
    def state(self) -> str:
        """The default in a word or two, for a list of keys."""
        if self.section is not None:
            return _SECTION if self.default is not None else f"{_SECTION}, required"
        return "required" if self.default is None else self.default

    def as_dict(self) -> dict[str, Any]:
        """The key as JSON, for programs."""
        facts = {"key": self.name, "takes": self.takes, "required": self.default is None}
        return {**facts, "default": self.default, "description": self.text}


def every_key() -> Iterator[Key]:
    """All keys of recipes, followed by those of cluster files."""
    for name, kind in ROOTS.items():
        yield from _below(kind, "" if name == "recipe" else _CLUSTER)


def keys_at(name: str | None) -> list[Key]:
    """The key of that name, followed by its direct children if it is a section; None: the outermost keys.

    A name of the user's, such as that of a source, or an index may be given as such or as NAME or N.
    Raises ConfigError, with suggestions.
    """
    keys = {key.name: key for key in every_key()}
    if name is None:
        return [key for key in keys.values() if not key.name.removeprefix(_CLUSTER).count(".")]
    canonical = "" if name == "cluster" else _canonical(name)
    if canonical is None:
        raise ConfigError(f"unknown key {name}; {_suggestion(name, [*keys])}")
    prefix = f"{canonical or name}."
    below = [key for key in keys.values() if key.name.startswith(prefix)]
    cluster = Key(name, _SECTION, None, doc(Cluster), Cluster)
    parent = keys[canonical] if canonical else cluster
    depth = f"{prefix}{_step(parent)}".count(".")
    return [parent, *(key for key in below if key.name.count(".") == depth)]


def explain(name: str | None = None) -> str:
    """Describe a key, or a section with its keys; without a name all sections. Raises ConfigError."""
    keys = keys_at(name)
    if name is None:
        hint = "explain SECTION lists the keys of a section, explain SECTION.KEY describes one in full."
        return "\n".join([*_rows(keys), "", hint])
    first, *others = keys
    if first.section is None:
        default = "required" if first.default is None else f"default {first.default}"
        lines = textwrap.wrap(sentence(first.text), _WIDTH - 2)
        return "\n".join(
            [f"{first.name}: {first.takes}; {default}", *(f"  {line}" for line in lines)]
        )
    head = textwrap.wrap(f"{first.name}{_step(first)}: {doc(first.section)}", _WIDTH)
    return "\n".join([*head, *_rows(others, f"{first.name}{_step(first)}.")])


def page() -> str:
    """The reference of all keys as a page of Markdown."""
    outermost = keys_at(None)
    sections = [key for key in every_key() if key.section is not None]
    parts = []
    for head, kind, mine in (
        (_HEAD, Recipe, lambda key: not key.name.startswith(_CLUSTER)),
        (_CLUSTER_HEAD, Cluster, lambda key: key.name.startswith(_CLUSTER)),
    ):
        parts += [head, doc(kind), "", *_table([*filter(mine, outermost)])]
        for key in filter(mine, sections):
            inside = f"{key.name}{_step(key)}"
            parts += [f"### `{inside}`", "", _cell(doc(key.section)), ""]
            parts += _table(keys_at(key.name)[1:], f"{inside}.")
    return "\n".join(parts).rstrip() + "\n"


def sentence(description: str) -> str:
    """A description as a full sentence: capitalised, with a full stop."""
    return f"{description[:1].upper()}{description[1:]}{'' if description.endswith('.') else '.'}"


def doc(kind: Any) -> str:
    """The docstring of a section on one line."""
    return " ".join((kind.__doc__ or "").split())


def section_within(annotation: Any) -> tuple[Any, str]:
    """The section that a field holds, if any, and the infix before the section's keys: ``, `NAME.`, `N.`"""
    for kind in alternatives(annotation):
        if is_section(kind):
            return kind, ""
        container = get_origin(kind)
        if container in (dict, list) and is_section(get_args(kind)[-1]):
            return get_args(kind)[-1], f"{NAME if container is dict else INDEX}."
    return None, ""


def _below(kind: Any, prefix: str) -> Iterator[Key]:
    for name, field in kind.model_fields.items():
        inner, step = section_within(field.annotation)
        dotted = f"{prefix}{name}"
        yield Key(dotted, _takes(field), _default(field), field.description or "", inner)
        if inner is not None:
            yield from _below(inner, f"{dotted}.{step}")


def _step(key: Key) -> str:
    """The placeholder between the name of a key and those of its children, with a leading dot."""
    return {_BY_NAME: f".{NAME}", _LISTED: f".{INDEX}"}.get(key.takes, "")


def _canonical(name: str) -> str | None:
    """A dotted name with NAME and N in place of names and indices; None if there is no such key."""
    kind: Any = Recipe
    parts = name.split(".")
    path = []
    if parts[0] == "cluster":
        kind, path, parts = Cluster, parts[:1], parts[1:]
    while parts:
        part = parts.pop(0)
        field = kind.model_fields.get(part) if is_section(kind) else None
        if field is None:
            return None
        path.append(part)
        kind, step = section_within(field.annotation)
        if step and len(parts) > 1:
            parts.pop(0)
            path.append(step[:-1])
        elif step and parts:  # corpus.sources.web: the section of a source
            parts.pop(0)
    return ".".join(path)


def _suggestion(name: str, all_keys: list[str]) -> str:
    """Suggest keys of that name in other sections, or of a similar spelling."""
    last = name.rsplit(".", 1)[-1]
    near = [key for key in all_keys if key.rsplit(".", 1)[-1] == last]
    near = near or difflib.get_close_matches(name, all_keys, 1, cutoff=0.8)
    tails: dict[str, str] = {}
    for key in all_keys:
        tails.setdefault(key.rsplit(".", 1)[-1], key)
    near = near or [tails[tail] for tail in difflib.get_close_matches(last, tails, 1, cutoff=0.6)]
    if near:
        return f"did you mean {' or '.join(near[:_MAX_SUGGESTIONS])}?"
    return "run explain without a key to list the sections"


def _takes(field: FieldInfo) -> str:
    """The type of a field in words: `integer > 0 or null`."""
    kinds = alternatives(field.annotation)
    words = [word for kind in kinds if kind is not NoneType for word in _words(kind)]
    words[-1] += _bounds(field.metadata)
    return _either([*words, *(["null"] if NoneType in kinds else [])])


def _bounds(rules: Iterable[Any]) -> str:
    """The bounds among the rules of a field, with a space before them."""
    bounds = [
        f"{sign} {getattr(rule, name):,}"
        for rule in rules
        for name, sign in _BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]
    return f" {', '.join(bounds)}" if bounds else ""


def _either(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _words(kind: Any) -> list[str]:
    """The words of a Literal, or the one word for any other type, with the bounds of its own."""
    if get_origin(kind) is Annotated:
        plain, field = get_args(kind)
        return [f"{_word(plain)}{_bounds(field.metadata)}"]
    return [*map(str, get_args(kind))] if get_origin(kind) is Literal else [_word(kind)]


def _word(kind: Any) -> str:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if is_section(kind):
        return _SECTION
    container = get_origin(kind)
    inner = get_args(kind)[-1]
    if container is list:
        return _LISTED if is_section(inner) else "list of text"
    if inner is Any:
        return "mapping"
    return _BY_NAME if is_section(inner) else "text by name"


def _default(field: FieldInfo) -> str | None:
    """The default as in YAML; empty for a section, None for a required key."""
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if is_section(type(value)):
        return ""
    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _rows(keys: list[Key], prefix: str = "") -> list[str]:
    """One line per key: name, default, description."""
    wide = max((len(key.name) - len(prefix) for key in keys), default=0)
    state = max((len(key.state) for key in keys), default=0)
    rows = []
    for key in keys:
        start = f"  {key.name.removeprefix(prefix):{wide}}  {key.state:{state}}  "
        width = max(_WIDTH - len(start), 30)
        first, *rest = textwrap.wrap(first_sentence(key.text), width) or [""]
        rows += [f"{start}{first}".rstrip(), *(" " * len(start) + line for line in rest)]
    return rows


def _table(keys: list[Key], prefix: str = "") -> list[str]:
    """The lines of a table of keys."""
    head = ["| key | type | default | description |", "| --- | --- | --- | --- |"]
    rows = [
        f"| `{key.name.removeprefix(prefix)}` | {_cell(key.takes)} | {_state(key)} | "
        f"{_cell(sentence(key.text))} |"
        for key in keys
    ]
    return [*head, *rows, ""]


def _state(key: Key) -> str:
    if key.default is None:
        return "**required**"
    return f"`{key.default}`" if key.default else "its own"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


_HEAD = """\
# The keys of recipes and cluster files

This page is generated from the code by `make reference`. `ekiden pipeline explain KEY` shows a single key
or section, and `ekiden pipeline new NAME` writes a recipe to start from.

A recipe needs a name, a workspace, a source, the shape of the model, and steps or epochs; everything else
has a default. On the command line, write `section.key=value` to override a key, such as
`training.micro_batch=4`, and `cluster.section.key=value` for a key of the cluster file. A relative path is
relative to the file that contains it, on the command line to the current directory. NAME stands for a name
you choose, N for the index of an element, from 0. "The article" is the published training of a GPT-2 XL for
Japanese: `configs/gpt2-xl-ja-article.yaml`.

## Recipes
"""
_CLUSTER_HEAD = """\
## Cluster files
"""
