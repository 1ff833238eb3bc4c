"""The keys of recipes and cluster files: explained one by one, and as a page.

    print(explain("training.precision"))    # what it is, what it takes, its default
    print(page())                           # docs/recipes.md

All of it is made from the sections themselves: the types, defaults and descriptions of their fields. The
keys of a cluster file begin with `cluster.`, as in overrides.
"""

from __future__ import annotations

import difflib
import json
import textwrap
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic_core import to_jsonable_python

from kit.config.cluster import Cluster
from kit.config.fields import alternatives, is_section
from kit.config.recipe import Recipe
from kit.config.section import first_sentence
from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

NAME, INDEX = "NAME", "N"  # stand for a name of the user's, and for the index of an element
ROOTS: dict[str, Any] = {"recipe": Recipe, "cluster": Cluster}
_PLAIN = {bool: "true or false", int: "integer", float: "number", str: "text"}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_SECTION, _BY_NAME, _LISTED = "section", "sections by name", "list of sections"
_CLUSTER = "cluster."  # before the keys of a cluster file
_WIDTH = 100
_SUGGESTED = 3


@dataclass(frozen=True)
class Key:
    """One key: its dotted name, what it takes, its default as in YAML (None: required), what it is."""

    name: str
    takes: str
    default: str | None
    text: str
    section: Any = None  # of a section, or of sections in a mapping or a list: their type

    @property
    def state(self) -> str:
        """Its default in a word or two."""
        if self.section is not None:
            return _SECTION if self.default is not None else f"{_SECTION}, required"
        return "required" if self.default is None else self.default

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        facts = {"key": self.name, "takes": self.takes, "required": self.default is None}
        return {**facts, "default": self.default, "description": self.text}


def every_key() -> Iterator[Key]:
    """All keys of recipes, then those of cluster files."""
    for name, kind in ROOTS.items():
        yield from _below(kind, "" if name == "recipe" else _CLUSTER)


def keys_at(name: str | None) -> list[Key]:
    """The key of that name, followed by those right below it if it is a section; None: the outermost.

    Names of the user's, as that of a source, and indices stand for themselves or as NAME and N. Raises
    ConfigError, with what may have been meant.
    """
    everything = {key.name: key for key in every_key()}
    if name is None:
        return [
            key for key in everything.values() if not key.name.removeprefix(_CLUSTER).count(".")
        ]
    wanted = "" if name == "cluster" else _canonical(name)
    if wanted is None:
        raise ConfigError(f"unknown key {name}; {_suggestion(name, [*everything])}")
    depth = f"{wanted or name}."
    below = [k for k in everything.values() if k.name.startswith(depth)]
    above = Key(name, _SECTION, None, doc(Cluster), Cluster) if not wanted else everything[wanted]
    inner = f"{depth}{_step(above)}".count(".")
    return [above, *(key for key in below if key.name.count(".") == inner)]


def explain(name: str | None = None) -> str:
    """What a key is, or a section with its keys; without a name all sections. Raises ConfigError."""
    found = keys_at(name)
    if name is None:
        hint = "explain SECTION shows its keys, explain SECTION.KEY all about one."
        return "\n".join([*_rows(found), "", hint])
    first, *others = found
    if first.section is None:
        default = "required" if first.default is None else f"default {first.default}"
        lines = textwrap.wrap(sentence(first.text), _WIDTH - 2)
        return "\n".join(
            [f"{first.name}: {first.takes}; {default}", *(f"  {line}" for line in lines)]
        )
    head = textwrap.wrap(f"{first.name}{_step(first)}: {doc(first.section)}", _WIDTH)
    return "\n".join([*head, *_rows(others, f"{first.name}{_step(first)}.")])


def page() -> str:
    """All keys as a page of Markdown."""
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
    """A description as a sentence of its own."""
    return f"{description[:1].upper()}{description[1:]}{'' if description.endswith('.') else '.'}"


def doc(kind: Any) -> str:
    """What a section is, in a line."""
    return " ".join((kind.__doc__ or "").split())


def section_within(annotation: Any) -> tuple[Any, str]:
    """The section that a field holds, if any, and the step between its key and the section's: `NAME.`"""
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
    """What stands between the name of a key and those of the keys below it, but for the dot."""
    return {_BY_NAME: f".{NAME}", _LISTED: f".{INDEX}"}.get(key.takes, "")


def _canonical(name: str) -> str | None:
    """A dotted name with NAME and N in place of the user's names; None if there is no such key."""
    kind: Any = Recipe
    parts = name.split(".")
    found = []
    if parts[0] == "cluster":
        kind, found, parts = Cluster, parts[:1], parts[1:]
    while parts:
        part = parts.pop(0)
        field = kind.model_fields.get(part) if is_section(kind) else None
        if field is None:
            return None
        found.append(part)
        kind, step = section_within(field.annotation)
        if step and len(parts) > 1:
            parts.pop(0)
            found.append(step[:-1])
        elif step and parts:  # corpus.sources.web: the section of a source
            parts.pop(0)
    return ".".join(found)


def _suggestion(name: str, known: list[str]) -> str:
    """Keys of that name in other sections, or those that are spelt like it."""
    last = name.rsplit(".", 1)[-1]
    near = [key for key in known if key.rsplit(".", 1)[-1] == last]
    near = near or difflib.get_close_matches(name, known, 1, cutoff=0.8)
    tails: dict[str, str] = {}
    for key in known:
        tails.setdefault(key.rsplit(".", 1)[-1], key)
    near = near or [tails[tail] for tail in difflib.get_close_matches(last, tails, 1, cutoff=0.6)]
    if near:
        return f"did you mean {' or '.join(near[:_SUGGESTED])}?"
    return "explain without a key lists the sections"


def _takes(field: FieldInfo) -> str:
    """What a field takes, in words: `integer > 0 or null`."""
    kinds = alternatives(field.annotation)
    words = [word for kind in kinds if kind is not NoneType for word in _words(kind)]
    bounds = [
        f"{sign} {getattr(rule, name):,}"
        for rule in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]
    words[-1] += f" {', '.join(bounds)}" if bounds else ""
    return _either([*words, *(["null"] if NoneType in kinds else [])])


def _either(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _words(kind: Any) -> list[str]:
    """What a type takes: given words one by one, or the one word for it."""
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
    """As YAML has it; of a section an empty text."""
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if is_section(type(value)):
        return ""
    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _rows(keys: list[Key], prefix: str = "") -> list[str]:
    """A line a key: name, default, what it is."""
    wide = max((len(key.name) - len(prefix) for key in keys), default=0)
    state = max((len(key.state) for key in keys), default=0)
    rows = []
    for key in keys:
        start = f"  {key.name.removeprefix(prefix):{wide}}  {key.state:{state}}  "
        room = max(_WIDTH - len(start), 30)
        first, *rest = textwrap.wrap(first_sentence(key.text), room) or [""]
        rows += [f"{start}{first}".rstrip(), *(" " * len(start) + line for line in rest)]
    return rows


def _table(keys: list[Key], prefix: str = "") -> list[str]:
    """The lines of a table of keys."""
    head = ["| key | takes | default | what it is |", "| --- | --- | --- | --- |"]
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

This page is made from the code by `make reference`. `python -m jobs.pipeline explain KEY` shows the same of
one key or section, and `python -m jobs.pipeline new NAME` writes a recipe to start from.

A recipe needs a name, a workspace, a source, the shape of the model, and steps or epochs; all else has a
default. On the command line a key is `section.key=value`, such as `training.micro_batch=4`, a key of the
cluster file `cluster.section.key=value`. A relative path is relative to the file it is written in, on the
command line to the current directory. NAME stands for a name of yours, N for the index of an element, from
0. "The article" is the published training of a GPT-2 XL for Japanese: `configs/gpt2-xl-ja-article.yaml`.

## Recipes
"""
_CLUSTER_HEAD = """\
## Cluster files
"""
