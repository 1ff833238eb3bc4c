"""Amendments: recorded changes of a run in progress, one JSON object per line of `amendments.jsonl`.

    {"time": ..., "key": "training.steps", "old": 160, "new": 200}

A key of the cluster comes with the name of its cluster. A key of the run's end comes with a `schedule`:
with `continue` the learning rate continues from its current value, with `anew` it follows the schedule of
the new end from step 0 (kit/plan/schedule.py). `code` has the hashes of the two snapshots, `environment`
the packages that differ. The record is written before `recipe.json` and `cluster.json`, and applied again
whenever a recipe is read from its file: you need not change that file, and a crash in between is harmless.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from kit.config.cluster import Cluster
from kit.config.fields import keys_in
from kit.config.recipe import Recipe
from kit.config.section import Section, SectionT, validate
from kit.store.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.store.paths import Run
    from kit.store.records import Start


class Amendment(TypedDict):
    """The amendment of one key."""

    time: float  # Unix
    key: str
    old: Any
    new: Any
    schedule: NotRequired[str]  # of the run's end: `CONTINUE` or `ANEW`
    reason: NotRequired[str]  # of a micro-batch that was `auto`: why it is this one
    cluster: NotRequired[str]  # of a cluster's key: its name


CLUSTER = "cluster."
CODE, ENVIRONMENT = "code", "environment"
END = ("training.steps", "training.epochs")
CONTINUE, ANEW = "continue", "anew"
# From the sections; a name that ends in a dot is a section.
MAY_CHANGE = (CLUSTER, *keys_in(Recipe, "AMENDABLE"))
# A checkpoint was trained on these tokens, and holds weights and optimizer states of this shape: to change
# these keys takes a new run from step 0.
BOUND = (*keys_in(Recipe, "BOUND"),)
OF_SUBMISSION = (*keys_in(Cluster, "BOUND", CLUSTER),)


def read(run: Run) -> list[Amendment]:
    """The amendments of a run, in order."""
    if not run.amendments.is_file():
        return []
    return [json.loads(line) for line in run.amendments.read_text(encoding="utf-8").splitlines()]


def since(run: Run, start: Start) -> list[Amendment]:
    """The amendments made after an attempt began; `start` is its `start.json`."""
    rows = read(run)
    return rows[start.get("amendments", len(rows)) :]


def to_publish(rows: Sequence[Amendment]) -> list[Amendment]:
    """The amendments that the ledger may have, which others publish: without addresses of `alerts`."""
    return [row for row in rows if not row["key"].startswith("alerts.")]


def record(run: Run, rows: Sequence[Amendment]) -> None:
    """Add amendments to the record: all of them, or none."""
    lines = [json.dumps(row, ensure_ascii=False) for row in (*read(run), *rows)]
    write_text(run.amendments, "".join(f"{line}\n" for line in lines))


def apply_to_recipe(rows: Sequence[Amendment], recipe: Recipe) -> Recipe:
    """Apply a run's amendments to its recipe, which may already hold some of them.

    A key is amended only if its value is one that the run has had. Any other value is a newer one of the
    user's: it stays, and `prepare` in kit/run/directory.py refuses it.
    """
    return _apply([row for row in rows if not row["key"].startswith(CLUSTER)], recipe)


def apply_to_cluster(rows: Sequence[Amendment], cluster: Cluster) -> Cluster:
    """Apply the amendments that were made while the run was on this cluster."""
    own = [row for row in rows if row.get("cluster") == cluster.name]
    return _apply([{**row, "key": row["key"].removeprefix(CLUSTER)} for row in own], cluster)


def differences(old: SectionT, new: SectionT) -> dict[str, tuple[Any, Any]]:
    """The pairs of values in which two configurations of one kind differ, by dotted key.

    Unlike in `differing_keys`, a mapping with keys of the user's is a single value: it is amended as a
    whole. So is a section that is null in one of the two.
    """
    before, after = _values(old), _values(new)
    for key in {*before} ^ {*after}:  # keys of a section that is null in the other one, and its own
        if parent := next((other for other in before | after if key.startswith(f"{other}.")), None):
            before.pop(key, None)
            after.pop(key, None)
            before.setdefault(parent, _value_at(old, parent))
            after.setdefault(parent, _value_at(new, parent))
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def _value_at(section: Section, key: str) -> Any:
    value: Any = section.model_dump(mode="json")
    for name in key.split("."):
        value = value[name]
    return value


def _apply(rows: Sequence[Amendment], section: SectionT) -> SectionT:
    values = _values(section)
    tree = section.model_dump(mode="json")
    past: dict[str, list[Any]] = {}
    for row in rows:
        past.setdefault(row["key"], []).append(row["old"])
    for row in rows:  # the last one counts
        if row["key"] in values and values[row["key"]] in [*past[row["key"]], row["new"]]:
            *sections, last = row["key"].split(".")
            node = tree
            for name in sections:
                node = node[name]
            node[last] = row["new"]
    return validate(type(section), tree, "amendments", {}, recorded=True)


def _values(section: Section, prefix: str = "") -> dict[str, Any]:
    """The values of a configuration by dotted key, as in JSON."""
    plain = section.model_dump(mode="json")
    values: dict[str, Any] = {}
    for name, value in plain.items():
        child = getattr(section, name)
        below = isinstance(child, Section)
        values |= _values(child, f"{prefix}{name}.") if below else {f"{prefix}{name}": value}
    return values


def is_in(key: str, names: Sequence[str]) -> bool:
    """Whether a key is one of the names, or belongs to a section among them (a name that ends in a dot)."""
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in names)
