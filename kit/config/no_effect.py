"""What of a recipe or cluster has no effect under the rest of it: refused where somebody gives it.

    refuse(idle(recipe), tree, origin, "configs/demo.yaml")

A key that a person wrote into a file or an override and that nothing reads would be believed to be in
force. A key that a file gives is let pass where an override made it idle: a quick try of
`training.decay=constant` need not take the file's `minimum_learning_rate` out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.config.cluster import Cluster, TaskResources
from kit.config.recipe import Normalise, Recipe, is_remote
from kit.config.tokenizer import TokenizerSpec
from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kit.config.section import Section


@dataclass(frozen=True)
class Idle:
    """A key (or a section, with all that is in it) that has no effect, and why."""

    key: str
    because: str  # after "has no effect"
    by: tuple[str, ...] = ()  # the keys that make it so
    remedy: str = "leave it out"
    in_file: bool = True  # off: only an override is refused


def idle(section: Section) -> Iterator[Idle]:
    """The keys of a recipe or a cluster that nothing would read."""
    if isinstance(section, Recipe):
        yield from _of_recipe(section)
    elif isinstance(section, Cluster):
        yield from _of_cluster(section)


def refuse(
    keys: Iterable[Idle],
    tree: Mapping[str, Any],
    origin: Mapping[str, str],
    place: str | None,
) -> None:
    """Raises ConfigError with a line for each key given that has no effect.

    `tree` is what was read from `place` with the overrides on top, whose words `origin` has by key; without
    a place only overrides are somebody's, as of a run directory.
    """
    given = dict(_leaves(tree))
    lines: dict[str, str] = {}
    for one in keys:
        tolerated = not one.in_file or any(_overlap(by, o) for by in one.by for o in origin)
        for key, value in given.items():
            if value is None or not _within(key, one.key):
                continue
            override = next((origin[o] for o in origin if _overlap(key, o)), None)
            if where := override or (None if tolerated else place):
                what = "" if key in origin else f"{key}={value!r:.80} "
                line = f"{where}: {what}has no effect {one.because}; {one.remedy}"
                lines.setdefault(key, line)
    if lines:
        raise ConfigError(*lines.values())


def _of_recipe(recipe: Recipe) -> Iterator[Idle]:
    yield from _of_sources(recipe)
    yield from _of_corpus(recipe)
    yield from _of_tokenizer(recipe)
    yield from _of_training(recipe)
    if recipe.tracking.mlflow is None:
        by = "tracking.mlflow"
        yield Idle("tracking.experiment", f"with {by}=null: it is MLflow's", (by,))


def _of_cluster(cluster: Cluster) -> Iterator[Idle]:
    """As a cluster file has them."""
    if cluster.kind == "slurm":
        yield Idle("preempt_at_step", "with kind: slurm: it is a drill of kind: local", ("kind",))
        return
    for key in _FOR_SLURM:
        yield Idle(key, "with kind: local: it is asked of Slurm", ("kind",))
    # What is made of a checkpoint beside a training has a GPU only if single.gpus says so, here too.
    of_single = [f"single.{key}" for key in TaskResources.model_fields if key != "gpus"]
    for key in ("network", *of_single):
        remedy = "give arrays.parallel, arrays.cpus or arrays.retries"
        yield Idle(key, "with kind: local: arrays is for all tasks there", ("kind",), remedy)


_FOR_SLURM = (
    "arrays.partition", "arrays.gpus", "arrays.memory_gb", "arrays.minutes",
    "training.partition", "training.gpus_per_node", "training.cpus_per_rank", "training.memory_gb",
    "setup", "sbatch",
)  # fmt: skip


def _of_sources(recipe: Recipe) -> Iterator[Idle]:
    for name, source in recipe.corpus.sources.items():
        at = f"corpus.sources.{name}"
        kind = f"with {at}.kind={source.kind}"
        if source.kind != "wikipedia":
            for key in ("title", "index"):
                yield Idle(f"{at}.{key}", f"{kind}: it is of a wikipedia dump", (f"{at}.kind",))
        if source.kind != "jsonl":
            yield Idle(f"{at}.text_key", f"{kind}: it is of jsonl", (f"{at}.kind",))
        if not is_remote(source.location):
            by = f"{at}.location"
            yield Idle(f"{at}.mirrors", "with a location that is a path, not fetched", (by,))


def _of_corpus(recipe: Recipe) -> Iterator[Idle]:
    corpus = recipe.corpus
    if corpus.mode == "article":
        by = "corpus.mode"
        for key in Normalise.model_fields:
            yield Idle(f"corpus.normalise.{key}", f"with {by}=article, which keeps none", (by,))
    length = corpus.filters.length
    if length is not None and not length.min and length.max is None:
        because = "by itself: every length is allowed"
        yield Idle("corpus.filters.length", because, remedy="give min or max of characters")
    yield Idle(
        "corpus.segmenter_version",
        "as it is set when the recipe is resolved",
        remedy="set corpus.segmenter",
    )


def _of_tokenizer(recipe: Recipe) -> Iterator[Idle]:
    tokenizer, by = recipe.tokenizer, ("tokenizer.candidates", "tokenizer.algorithm")
    if len(tokenizer.specs()) == 1:
        because = "where there is one candidate"
        yield Idle("tokenizer.choose", because, by[:1])
    if all(vocabulary.algorithm == "unigram" for vocabulary in tokenizer.specs()):
        yield Idle("tokenizer.min_frequency", "with unigram: it is of pairs that BPE merges", by)
    for key in TokenizerSpec.model_fields:
        own = [getattr(candidate, key) for candidate in tokenizer.candidates]
        if own and None not in own:
            yield Idle(
                f"tokenizer.{key}",
                "as every one of tokenizer.candidates has its own",
                by[:1],
                "change the candidates, or give tokenizer.candidates=[]",
                in_file=key != "vocab_size",  # older recipes had to have it
            )


def _of_training(recipe: Recipe) -> Iterator[Idle]:
    training = recipe.training
    if training.steps is not None:
        yield Idle(
            "training.epochs", "beside training.steps", ("training.steps",), "give one of them"
        )
    if training.decay == "constant":
        by = "training.decay"
        yield Idle("training.minimum_learning_rate", f"with {by}=constant", (by,))
    if training.weight_decay == 0:
        by = "training.weight_decay"
        yield Idle("training.decay_all", f"with {by}=0", (by,))
    if training.health.loss_spike is None and training.health.gradient_spike is None:
        spikes = ("training.health.loss_spike", "training.health.gradient_spike")
        yield Idle("training.health.window", "without loss_spike or gradient_spike", spikes)
    yield Idle(
        "training.precision_reason",
        "as it is set when the recipe is resolved",
        remedy="set training.precision",
    )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree by dotted key; an empty section is one."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _overlap(one: str, other: str) -> bool:
    return _within(one, other) or _within(other, one)
