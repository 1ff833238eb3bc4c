"""A recipe as MLflow's parameters: its keys joined by dots, within MLflow's limits.

The tag `ekiden.cut` names the keys that a limit cuts; the artifact `recipe.json` has the whole recipe.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kit.config import relocation
from kit.output import redaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_VALUE, _MAX_KEY = 6000, 250  # characters: mlflow/utils/validation.py of 3.17
_MAX_PARAMS = 2000  # of a run: more make its page slow
_CUT = " ... (cut)"
_FORBIDDEN = re.compile(r"[^\w.\- /:]")  # in a key


@dataclass
class Params:
    """Parameters by name, and the keys of which something was cut."""

    values: dict[str, str] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)


def of_recipe(recipe: Any) -> Params:
    """The parameters of a recipe, a section with its sections; credentials in URLs are masked."""
    return within_limits(flat(relocation.without_secrets(recipe.model_dump(mode="json"))))


def flat(tree: Any, key: str = "") -> dict[str, Any]:
    """The values of a tree by dotted key; a list of plain values is one value, as JSON."""
    return dict(_leaves(tree, key))


def within_limits(values: Mapping[str, Any]) -> Params:
    """Values as text that MLflow takes."""
    params = Params()
    for key, value in values.items():
        name = _FORBIDDEN.sub("_", key)[:_MAX_KEY]
        text = redaction.without_credentials(str(value))
        if len(params.values) == _MAX_PARAMS or name in params.values:
            params.cut.append(key)
            continue
        if len(text) > _MAX_VALUE:
            text = text[: _MAX_VALUE - len(_CUT)] + _CUT
            params.cut.append(key)
        elif len(key) > _MAX_KEY:
            params.cut.append(key)
        params.values[name] = text
    return params


def _leaves(tree: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for name, value in tree.items():
            yield from _leaves(value, f"{key}.{name}" if key else name)
    elif isinstance(tree, list) and any(isinstance(value, dict) for value in tree):
        for number, value in enumerate(tree):
            yield from _leaves(value, f"{key}.{number}")
    elif isinstance(tree, list | dict):
        yield key, json.dumps(tree, ensure_ascii=False)
    else:
        yield key, tree
