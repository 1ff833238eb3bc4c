"""What was changed in a run in mid-run, and is on record: a row a line in `amendments.jsonl`.

    {"time": ..., "key": "training.steps", "old": 160, "new": 200}

A key of the cluster has the name of its cluster beside it. A key of the run's end has a `schedule`: with
`continue` the learning rate goes on from where it is, with `anew` it is that of the new end from step 0
(kit/plan/schedule.py). `code` has the hashes of the two snapshots, `environment` the packages that
differ. The record is written first: `recipe.json` and `cluster.json` follow it, and whoever reads a recipe
anew puts the record on top of it again, so that the recipe's file need not be changed and a crash between
the two files is made good.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from kit.config.cluster import Cluster
from kit.config.fields import marked
from kit.config.recipe import Recipe
from kit.config.section import Section, SectionT, validate
from kit.store.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.store.paths import Run
    from kit.store.records import Start


class Amendment(TypedDict):
    """An amendment of one key."""

    time: float  # Unix
    key: str
    old: Any
    new: Any
    schedule: NotRequired[str]  # of the run's end: CONTINUE or ANEW
    cluster: NotRequired[str]  # of a cluster's key: its name


CLUSTER = "cluster."
CODE, ENVIRONMENT = "code", "environment"
END = ("training.steps", "training.epochs")
CONTINUE, ANEW = "continue", "anew"
# As the sections have it; a name with a dot at its end is a section.
MAY_CHANGE = (CLUSTER, *marked(Recipe, "AMENDABLE"))
# A checkpoint was trained on these tokens, and holds weights and optimizer of this shape: they are
# another run's from its step 0.
BOUND = (*marked(Recipe, "BOUND"),)
OF_SUBMISSION = (*marked(Cluster, "BOUND", CLUSTER),)


def recorded(run: Run) -> list[Amendment]:
    """The amendments of a run, in order."""
    if not run.amendments.is_file():
        return []
    return [json.loads(line) for line in run.amendments.read_text(encoding="utf-8").splitlines()]


def since(run: Run, start: Start) -> list[Amendment]:
    """The amendments that an attempt does not know of; `start` is its `start.json`."""
    rows = recorded(run)
    return rows[start.get("amendments", len(rows)) :]


def record(run: Run, rows: Sequence[Amendment]) -> None:
    """Add amendments to the record: all of them, or none."""
    lines = [json.dumps(row, ensure_ascii=False) for row in (*recorded(run), *rows)]
    write_text(run.amendments, "".join(f"{line}\n" for line in lines))


def on_recipe(rows: Sequence[Amendment], recipe: Recipe) -> Recipe:
    """A recipe with its run's amendments, whether or not it holds some of them already.

    An amendment counts where the recipe still has a value that the run has had. Another one is the
    user's, and newer: it stays, for `prepare` in kit/run/directory.py to refuse.
    """
    return _on_top([row for row in rows if not row["key"].startswith(CLUSTER)], recipe)


def on_cluster(rows: Sequence[Amendment], cluster: Cluster) -> Cluster:
    """The same of a cluster, with the amendments that were made while the run was on it."""
    mine = [row for row in rows if row.get("cluster") == cluster.name]
    return _on_top([{**row, "key": row["key"].removeprefix(CLUSTER)} for row in mine], cluster)


def differences(one: SectionT, other: SectionT) -> dict[str, tuple[Any, Any]]:
    """The values of the keys in which two configurations of one kind differ, by dotted key.

    Unlike `differing_keys` a mapping of the user's own names is one value: what was amended
    is put back as a whole.
    """
    before, after = _values(one), _values(other)
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def _on_top(rows: Sequence[Amendment], section: SectionT) -> SectionT:
    values = _values(section)
    tree = section.model_dump(mode="json")
    had: dict[str, list[Any]] = {}
    for row in rows:
        had.setdefault(row["key"], []).append(row["old"])
    for row in rows:  # the last one counts
        if row["key"] in values and values[row["key"]] in [*had[row["key"]], row["new"]]:
            *sections, last = row["key"].split(".")
            node = tree
            for name in sections:
                node = node[name]
            node[last] = row["new"]
    return validate(type(section), tree, "amendments", {}, recorded=True)


def _values(section: Section, prefix: str = "") -> dict[str, Any]:
    """The values of a configuration as JSON has them, by dotted key."""
    plain = section.model_dump(mode="json")
    values: dict[str, Any] = {}
    for name, value in plain.items():
        child = getattr(section, name)
        below = isinstance(child, Section)
        values |= _values(child, f"{prefix}{name}.") if below else {f"{prefix}{name}": value}
    return values


def is_of(key: str, names: Sequence[str]) -> bool:
    """Whether a key is one of the names, or lies in a section that ends in a dot among them."""
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in names)
