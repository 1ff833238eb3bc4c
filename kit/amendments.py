"""What was changed in a run in mid-run, and is on record: a row a line in `amendments.jsonl`.

    {"time": ..., "key": "training.steps", "old": 160, "new": 200}

A key of the cluster has the name of its cluster beside it. A key of the run's end has a `schedule`: with
`continue` the learning rate goes on from where it is, with `anew` it is that of the new end from step 0
(kit/schedule.py). `code` has the hashes of the two snapshots, `environment` the packages that differ. The
record is written first: `recipe.json` and `cluster.json` follow it, and whoever reads a recipe anew puts
the record on top of it again, so that the recipe's file need not be changed and a crash between the two
files is made good.
"""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.config.load import changed_cluster, changed_recipe
from kit.config.section import Section, SectionT, validate
from kit.errors import ConfigError
from kit.store.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import Run

Row = dict[str, Any]

CLUSTER = "cluster."
CODE, ENVIRONMENT = "code", "environment"
END = ("training.steps", "training.epochs")
CONTINUE, ANEW = "continue", "anew"
# None of them changes what was already computed, or the samples of a step to come. A name with a dot
# at its end is a section.
MAY_CHANGE = (
    CLUSTER,
    *END,
    "training.micro_batch",
    "training.validate_every",
    "training.checkpoint_every",
    "training.keep",
    "training.keep_every",
    "training.save_tries",
    "training.save_pause",
    "training.health.",
    "tracking.",
    "release.",
)
_CHOSEN_AT_SUBMISSION = ("cluster.name", "cluster.kind")
# A checkpoint was trained on these tokens, and holds weights and optimizer of this shape: they are
# another run's from its step 0.
BOUND = (
    "workspace", "corpus.", "tokenizer.", "tokens.",
    "model.n_layer", "model.n_embd", "model.n_head", "model.n_positions", "model.pad_vocab_to",
    "training.precision", "training.precision_reason", "training.decay_all",
)  # fmt: skip


@dataclass(frozen=True)
class Amendment:
    """What a run is to become, and the rows that say so; no rows where it is so already."""

    recipe: Recipe
    cluster: Cluster
    rows: list[Row]


def recorded(run: Run) -> list[Row]:
    """The amendments of a run, in order."""
    if not run.amendments.is_file():
        return []
    return [json.loads(line) for line in run.amendments.read_text(encoding="utf-8").splitlines()]


def since(run: Run, start: dict[str, Any]) -> list[Row]:
    """The amendments that an attempt does not know of; `start` is its `start.json`."""
    rows = recorded(run)
    return rows[start.get("amendments", len(rows)) :]


def record(run: Run, rows: Sequence[Row]) -> None:
    """Add amendments to the record: all of them, or none."""
    lines = [json.dumps(row, ensure_ascii=False) for row in (*recorded(run), *rows)]
    write_text(run.amendments, "".join(f"{line}\n" for line in lines))


def on_recipe(rows: Sequence[Row], recipe: Recipe) -> Recipe:
    """A recipe with its run's amendments, whether or not it holds some of them already.

    An amendment counts where the recipe still has a value that the run has had. Another one is the
    user's, and newer: it stays, for `submission.prepare` to refuse.
    """
    return _on_top([row for row in rows if not row["key"].startswith(CLUSTER)], recipe)


def on_cluster(rows: Sequence[Row], cluster: Cluster) -> Cluster:
    """The same of a cluster, with the amendments that were made while the run was on it."""
    mine = [row for row in rows if row.get("cluster") == cluster.name]
    return _on_top([{**row, "key": row["key"].removeprefix(CLUSTER)} for row in mine], cluster)


def propose(
    run: Run,
    recipe: Recipe,
    cluster: Cluster,
    changes: Sequence[str],
    schedule: str | None = None,
) -> Amendment:
    """What `key=value ...` make of a run. Raises ConfigError where one may not be; writes nothing.

    `schedule`: CONTINUE, which None is too, or ANEW.
    """
    after = (changed_recipe(recipe, changes), changed_cluster(cluster, changes))
    now = time.time()
    rows = [
        {"time": now, "key": key, "old": old, "new": new}
        | ({"schedule": schedule or CONTINUE} if key in END else {})
        for key, (old, new) in differences(recipe, after[0]).items()
    ] + [
        {"time": now, "key": f"{CLUSTER}{key}", "old": old, "new": new, "cluster": cluster.name}
        for key, (old, new) in differences(cluster, after[1]).items()
    ]
    if schedule == ANEW and not any(row["key"] in END for row in rows):
        rows += [_once_more(recipe, key, now) for key in END if _names(changes, key)]
    for row in rows:
        _refuse_key(run, row["key"], row["new"])
    _refuse_uneven_ranks(*after)
    if any(row["key"] in END for row in rows):
        _refuse_past_end(run, after[0])
    elif schedule is not None:
        raise ConfigError(
            f"--schedule {schedule}: the run's end is not amended; give training.steps or "
            "training.epochs with it"
        )
    return Amendment(*after, rows)


def differences(one: SectionT, other: SectionT) -> dict[str, tuple[Any, Any]]:
    """The values of the keys in which two configurations of one kind differ, by dotted key.

    Unlike `sections.differing_keys` a mapping of the user's own names is one value: what was amended
    is put back as a whole.
    """
    before, after = _values(one), _values(other)
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def _names(changes: Sequence[str], key: str) -> bool:
    return any(change.partition("=")[0] == key for change in changes)


def _once_more(recipe: Recipe, key: str, now: float) -> Row:
    """The end that the run has already, now with the schedule of that from step 0."""
    value = getattr(recipe.training, key.removeprefix("training."))
    return {"time": now, "key": key, "old": value, "new": value, "schedule": ANEW}


def _on_top(rows: Sequence[Row], section: SectionT) -> SectionT:
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


def _refuse_key(run: Run, key: str, new: Any) -> None:
    if key in _CHOSEN_AT_SUBMISSION:
        raise ConfigError(f"{key}: is not amended; submit the run with another --cluster")
    if is_of(key, MAY_CHANGE):
        return
    allowed = ", ".join(f"{name}*" if name.endswith(".") else name for name in MAY_CHANGE)
    if is_of(key, BOUND):
        way = "for this key begin a run of another name= and workspace=, from step 0"
    else:
        change = [] if key == "name" else [f"{key}={new}"]
        fork = ["fork", str(run.root), "--at", "STEP", "name=NEW", *change]
        way = f"the rest is for a new run: python -m jobs.train {shlex.join(fork)}"
    raise ConfigError(f"{key}: is not to be changed in mid-run; what may: {allowed}; {way}")


def _refuse_uneven_ranks(recipe: Recipe, cluster: Cluster) -> None:
    training, ranks = recipe.training, cluster.training.ranks
    if training.global_batch % (training.micro_batch * ranks):
        raise ConfigError(
            f"cluster.training: {ranks} ranks cannot share training.global_batch="
            f"{training.global_batch} in micro-batches of {training.micro_batch}; give another number of "
            "them, or another training.micro_batch"
        )


def _refuse_past_end(run: Run, recipe: Recipe) -> None:
    from kit.data import tokens

    made = run.committed_checkpoints().values()
    _, newest = max(((attempt, step) for step, attempt in made), default=(0, 0))
    if newest and (end := tokens.steps_over(recipe)) < newest:
        key = "epochs" if recipe.training.steps is None else "steps"
        raise ConfigError(
            f"training.{key}={getattr(recipe.training, key)}: the run would end at step {end}, and its "
            f"newest checkpoint is of step {newest}; give at least that, or fork an earlier checkpoint"
        )
