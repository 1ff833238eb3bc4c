"""Keys that have no effect given the rest of a recipe or cluster: an error if the user sets one.

    refuse(idle_keys(recipe), tree, origin, "configs/demo.yaml")

The user would believe that such a key is in force. A key in a file is tolerated if an override made it
idle: to try `training.decay=constant` you need not remove `minimum_learning_rate` from the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from kit.config.cluster import Cluster, Kind, TaskResources
from kit.config.recipe import Normalise, Recipe, is_remote
from kit.config.tokenizer import TokenizerSpec
from kit.config.wikipedia import Wikipedia
from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kit.config.section import Section


@dataclass(frozen=True)
class IdleKey:
    """A key, or a section with all its keys, that has no effect, and the reason."""

    key: str
    reason: str  # continues "has no effect"
    causes: tuple[str, ...] = ()  # the keys that make it idle
    remedy: str = "leave it out"
    in_file: bool = True  # False: refused in an override only


def idle_keys(section: Section) -> Iterator[IdleKey]:
    """The keys of a recipe or a cluster that have no effect."""
    if isinstance(section, Recipe):
        yield from _of_recipe(section)
    elif isinstance(section, Cluster):
        yield from _of_cluster(section)


def refuse(
    keys: Iterable[IdleKey],
    tree: Mapping[str, Any],
    origin: Mapping[str, str],
    place: str | None,
) -> None:
    """Raises ConfigError with a line for each idle key that the user has set.

    `tree` is the content of `place`, a file, with overrides applied; `origin` has the text of an override
    by its key. Without a place (a run directory) only overrides count as set by the user.
    """
    given = dict(_leaves(tree))
    lines: dict[str, str] = {}
    for idle in keys:
        caused = any(_overlap(cause, o) for cause in idle.causes for o in origin)
        tolerated = caused or not idle.in_file
        for key, value in given.items():
            if value is None or not _within(key, idle.key):
                continue
            override = next((origin[o] for o in origin if _overlap(key, o)), None)
            if where := override or (None if tolerated else place):
                setting = "" if key in origin else f"{key}={value!r:.80} "
                line = f"{where}: {setting}has no effect {idle.reason}; {idle.remedy}"
                lines.setdefault(key, line)
    if lines:
        raise ConfigError(*lines.values())


def _of_recipe(recipe: Recipe) -> Iterator[IdleKey]:
    yield from _of_sources(recipe)
    yield from _of_corpus(recipe)
    yield from _of_tokenizer(recipe)
    yield from _of_model(recipe)
    yield from _of_training(recipe)
    if recipe.release.license != "other":
        cause = "release.license"
        for key in ("license_name", "license_link"):
            reason = f"with {cause}={recipe.release.license}, which Hugging Face knows"
            yield IdleKey(f"release.{key}", reason, (cause,))
    if recipe.release.citation is not None:
        cause = "release.citation"
        yield IdleKey("release.authors", f"together with {cause}, which names them", (cause,))
    if recipe.tracking.mlflow is None:
        cause = "tracking.mlflow"
        for key in ("mlflow_by", "experiment"):
            yield IdleKey(f"tracking.{key}", f"with {cause}=null: only MLflow uses it", (cause,))
    if not recipe.release.tasks:
        for key in ("tasks_data", "tasks_text"):
            yield IdleKey(f"release.{key}", "without release.tasks", ("release.tasks",))
    if recipe.alerts.command is None and recipe.alerts.heartbeat_url is None:
        needs = ("alerts.command", "alerts.heartbeat_url")
        yield IdleKey("alerts.timeout", "without alerts.command or alerts.heartbeat_url", needs)


def _of_cluster(cluster: Cluster) -> Iterator[IdleKey]:
    """The idle keys, named as in a cluster file."""
    if cluster.device == "cpu":
        for key in ("gpu_used_gb", "host_to_device_gb_s", "all_reduce_gb_s"):
            reason = "with device: cpu: it is about GPUs"
            yield IdleKey(f"checks.{key}", reason, ("device",))
    if cluster.kind == "slurm":
        reason = "with kind: slurm: it is a drill for kind: local"
        yield IdleKey("preempt_at_step", reason, ("kind",))
        yield from _replaced(cluster)
        if cluster.training.nodes == 1:
            reason = "with training.nodes=1: ranks of one node meet over loopback"
            # Written once in the file of a site, whatever number of nodes a run takes.
            yield IdleKey("training.interface", reason, ("training.nodes",), in_file=False)
        return
    for key in _FOR_SLURM:
        yield IdleKey(key, "with kind: local: it is a request to Slurm", ("kind",))
    # single.gpus counts here too: jobs on a checkpoint of a run in progress use a GPU only if it is set.
    of_single = [f"single.{key}" for key in TaskResources.model_fields if key != "gpus"]
    for key in ("network", *of_single):
        remedy = "set arrays.parallel, arrays.cpus or arrays.retries"
        yield IdleKey(key, "with kind: local: arrays covers all tasks there", ("kind",), remedy)


def _replaced(cluster: Cluster) -> Iterator[IdleKey]:
    """The keys of a section that an option of sbatch replaces."""
    for kind in get_args(Kind):
        if kind == "network" and cluster.network is None:
            continue
        keys: tuple[Any, ...] = ("partition", "minutes", "memory_gb", "gpus")
        for key in keys:
            if option := cluster.replaced(kind, key):
                name = "gpus_per_node" if (kind, key) == ("training", "gpus") else key
                causes = (f"sbatch.{option}", f"{kind}.sbatch.{option}")
                yield IdleKey(
                    f"{kind}.{name}", f"beside sbatch.{option}, which replaces it", causes
                )


_FOR_SLURM = (
    "arrays.partition", "arrays.gpus", "arrays.memory_gb", "arrays.minutes",
    "training.interface", "training.partition", "training.gpus_per_node", "training.cpus_per_rank",
    "training.memory_gb",
    "setup", "sbatch", "arrays.sbatch", "training.sbatch", "srun", "arrays.srun", "training.srun",
    "python", "container",
)  # fmt: skip


def _of_sources(recipe: Recipe) -> Iterator[IdleKey]:
    for name, source in recipe.corpus.sources.items():
        prefix = f"corpus.sources.{name}"
        by_kind, causes = f"with {prefix}.kind={source.kind}", (f"{prefix}.kind",)
        if source.kind != "wikipedia":
            for key in ("title", "index"):
                yield IdleKey(f"{prefix}.{key}", f"{by_kind}: it is for wikipedia dumps", causes)
        if source.kind not in ("jsonl", "parquet"):
            for key in ("text_key", "url_key", "id_key"):
                yield IdleKey(f"{prefix}.{key}", f"{by_kind}: it is for jsonl and parquet", causes)
        if not is_remote(source.location):
            reason = "if location is a path: there is no download"
            yield IdleKey(f"{prefix}.mirrors", reason, (f"{prefix}.location",))


def _of_corpus(recipe: Recipe) -> Iterator[IdleKey]:
    corpus = recipe.corpus
    if corpus.mode == "article":
        cause = "corpus.mode"
        for key in Normalise.model_fields:
            reason = f"with {cause}=article, which preserves none of this"
            yield IdleKey(f"corpus.normalise.{key}", reason, (cause,))
    kinds = {source.kind for source in corpus.sources.values()}
    if corpus.mode == "article" or "wikipedia" not in kinds:
        is_article = corpus.mode == "article"
        reason = "with corpus.mode=article" if is_article else "without a source of kind wikipedia"
        cause = "corpus.mode" if is_article else "corpus.sources"
        for key in Wikipedia.model_fields:
            yield IdleKey(f"corpus.wikipedia.{key}", reason, (cause,))
    length = corpus.filters.length
    if length is not None and not length.min and length.max is None:
        reason = "without min or max: every length is allowed"
        yield IdleKey("corpus.filters.length", reason, remedy="set min or max, in characters")
    if "wikipedia" not in kinds and not any(source.url_key for source in corpus.sources.values()):
        reason = "without a source that has URLs"
        remedy = "set url_key of a source, or leave it out"
        yield IdleKey("corpus.filters.urls", reason, ("corpus.sources",), remedy)
    yield IdleKey(
        "corpus.segmenter_version",
        "as it is set when the recipe is resolved",
        remedy="set corpus.segmenter",
    )


def _of_tokenizer(recipe: Recipe) -> Iterator[IdleKey]:
    tokenizer, causes = recipe.tokenizer, ("tokenizer.candidates", "tokenizer.algorithm")
    if len(tokenizer.specs()) == 1:
        yield IdleKey("tokenizer.choose", "with a single candidate", causes[:1])
    if all(spec.algorithm == "unigram" for spec in tokenizer.specs()):
        reason = "with unigram: it is for the pairs that BPE merges"
        yield IdleKey("tokenizer.min_frequency", reason, causes)
    for key in TokenizerSpec.model_fields:
        own = [getattr(candidate, key) for candidate in tokenizer.candidates]
        if own and None not in own:
            yield IdleKey(
                f"tokenizer.{key}",
                "as each of tokenizer.candidates sets its own",
                causes[:1],
                "change the candidates, or set tokenizer.candidates=[]",
                in_file=key != "vocab_size",  # required in older recipes
            )


def _of_model(recipe: Recipe) -> Iterator[IdleKey]:
    cause = "model.architecture"
    for key in _NOT_OF[recipe.model.architecture]:
        reason = f"with {cause}={recipe.model.architecture}, which has nothing of the kind"
        yield IdleKey(f"model.{key}", reason, (cause,))


_NOT_OF = {
    "gpt2": ("n_kv_head", "n_inner", "rope_theta", "qk_norm", "tie_embeddings"),
    "llama": ("activation", "dropout"),
}


def _of_training(recipe: Recipe) -> Iterator[IdleKey]:
    training = recipe.training
    if training.steps is not None:
        reason = "together with training.steps"
        yield IdleKey("training.epochs", reason, ("training.steps",), "give only one of them")
    if training.decay == "constant":
        cause = "training.decay"
        yield IdleKey("training.minimum_learning_rate", f"with {cause}=constant", (cause,))
    if training.optimizer != "muon":
        cause = "training.optimizer"
        reason = f"with {cause}={training.optimizer}"
        yield IdleKey("training.muon_momentum", reason, (cause,))
    if training.weight_decay == 0:
        cause = "training.weight_decay"
        yield IdleKey("training.decay_all", f"with {cause}=0", (cause,))
    if training.loss_kernel == "liger":
        cause = "training.loss_kernel"
        reason = f"with {cause}=liger, which chooses its own"
        yield IdleKey("training.loss_chunk", reason, (cause,))
    if not recipe.release.prompts:
        cause = "release.prompts"
        for key in ("sample_tokens", "samples_every"):
            yield IdleKey(f"training.{key}", f"without {cause}: no text to continue", (cause,))
    elif training.sample_tokens is None:
        cause = "training.sample_tokens"
        yield IdleKey("training.samples_every", f"with {cause}=null: no samples", (cause,))
    if training.health.loss_spike is None and training.health.gradient_spike is None:
        spikes = ("training.health.loss_spike", "training.health.gradient_spike")
        yield IdleKey("training.health.window", "without loss_spike or gradient_spike", spikes)
    for key in ("precision", "micro_batch"):
        yield IdleKey(
            f"training.{key}_reason",
            "as it is set when the recipe is resolved",
            remedy=f"set training.{key}",
        )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree by dotted key; an empty section counts as a value."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _overlap(key: str, other: str) -> bool:
    return _within(key, other) or _within(other, key)
