"""The facts of the training, from the run's recipe and ledgers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.config.cluster import Cluster
from kit.config.section import read_resolved
from kit.plan import schedule
from kit.release.card import energy
from kit.release.card.facts import HardwareFacts, NodeTimeFacts, TrainingFacts
from kit.store import records
from kit.store.files import read_json
from kit.tracking import columns, ledger, node_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kit.config.recipe import Recipe, Training
    from kit.release.card.facts import EnergyFacts
    from kit.release.source import ReleaseSource
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.tracking.rows import AttemptRow, Row

# Of the optimizer, its schedule and the loss, in the order of the card.
_SETTINGS = (
    "learning_rate", "minimum_learning_rate", "warmup_steps", "decay", "decay_share", "decay_shape",
    "weight_decay", "decay_all", "muon_momentum", "beta1", "beta2", "epsilon", "clip", "labels", "z_loss",
    "seed",
)  # fmt: skip
_RARE = ("decay_all", "labels", "z_loss")  # shown only if they differ from the default
_WSD = {"decay_share": schedule.DECAY_SHARE, "decay_shape": schedule.DECAY_SHAPE}  # for null
_OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon, AdamW"}
_VERSIONS = ("torch", "deepspeed", "transformers")


def training_facts(
    source: ReleaseSource, recipe: Recipe, training_tokens: int, begun: Sequence[AttemptRow]
) -> TrainingFacts:
    """The facts of the training up to a checkpoint; `begun` are the rows that begin its attempts."""
    rows = source.curve()
    steps = [row for row in rows if row["kind"] == "step"]
    losses = [(row["step"], row["loss"]) for row in steps if row["loss"] is not None]
    step, training = source.checkpoint.step, recipe.training
    seen = step * training.global_batch * recipe.model.n_positions
    samples = [row for row in ledger.samples(source.run) if row["step"] <= step]
    last = max((row["step"] for row in samples), default=None)
    return TrainingFacts(
        step=step,
        global_batch=training.global_batch,
        tokens_seen=seen,
        epochs=seen / training_tokens,
        optimizer=_OPTIMIZERS[training.optimizer],
        settings=_settings(training),
        precision=training.precision,
        origin=_origin(source.run),
        attempts=source.attempts(),
        began=begun[0]["time"],
        ended=rows[-1]["time"],
        step_seconds=sum(row["seconds"] for row in steps),
        first_loss=losses[0],
        last_loss=losses[-1],
        samples=[(row["prompt"], row["text"]) for row in samples if row["step"] == last],
        sampled_at=last,
        hardware=_hardware(begun[-1]),
        node_time=_node_time(source),
    )


def events(source: ReleaseSource) -> list[tuple[Attempt, Sequence[Row]]]:
    """The rows of each attempt up to the checkpoint that are no steps."""
    attempts = ledger.attempts(source.run)[: source.attempts()]
    return [(attempt, columns.read(attempt).events) for attempt in attempts]


def beginnings(read: Iterable[tuple[Attempt, Sequence[Row]]]) -> list[AttemptRow]:
    """The rows that begin attempts; one that died early has none."""
    return [row for _, rows in read for row in rows if row["kind"] == "attempt"]


def energy_facts(
    source: ReleaseSource,
    recipe: Recipe,
    training: TrainingFacts,
    read: Iterable[tuple[Attempt, Sequence[Row]]],
) -> EnergyFacts | None:
    """The estimate of energy of a finished run on GPUs; None for any other."""
    on_gpus = training.hardware is not None and training.hardware.gpus
    if training.node_time is None or not on_gpus:
        return None
    accelerator = read_resolved(source.run.cluster, Cluster).training.accelerator
    held = training.node_time.held_seconds
    return energy.estimate(held, _power(read), accelerator, recipe.release)


def _settings(training: Training) -> dict[str, Any]:
    """The keys of optimizer, schedule and loss that have an effect, with the values in use."""
    values = {key: getattr(training, key) for key in _SETTINGS}
    values |= {key: default for key, default in _WSD.items() if values[key] is None}
    fields = type(training).model_fields
    idle = {key for key in _RARE if values[key] == fields[key].default}
    idle |= {"minimum_learning_rate"} if training.decay == "constant" else set()
    idle |= {*_WSD} if training.decay != "wsd" else set()
    idle |= {"decay_all"} if training.weight_decay == 0 else set()
    idle |= {"muon_momentum"} if training.optimizer != "muon" else set()
    return {key: value for key, value in values.items() if key not in idle}


def _power(read: Iterable[tuple[Attempt, Sequence[Row]]]) -> Iterator[float]:
    """Readings of the mean power of the job's GPUs on rank 0's node, in watts."""
    for attempt, rows in read:
        topology = records.start(attempt).get("topology")  # not in those of earlier versions
        used = topology["ranks_per_node"] if topology else 0
        for row in rows:
            if row["kind"] == "devices" and (watts := energy.power(row["gpus"], used)) is not None:
                yield watts


def _hardware(begun: AttemptRow) -> HardwareFacts | None:
    """The machine of an attempt; None if an earlier version of the kit recorded nothing of it."""
    if "numerics" not in begun:
        return None
    facts = begun["numerics"]["facts"]
    gpus = facts["device"] != "cpu"
    return HardwareFacts(
        int(facts["ranks"]),
        int(facts["nodes"]),
        facts["device"] if gpus else facts.get("cpu", "CPU"),
        gpus,
        {name: facts[name] for name in _VERSIONS if name in facts},
    )


def _node_time(source: ReleaseSource) -> NodeTimeFacts | None:
    """Node time of a run that has ended; None while it goes on."""
    if source.moment is not None:
        return None
    whole = node_time.of_run(source.run)
    if whole.goodput is None:
        return None
    return NodeTimeFacts(whole.held_seconds, whole.goodput, whole.lost_steps)


def _origin(run: Run) -> tuple[str, int] | None:
    """The run and the step that a fork began from."""
    if not run.origin.is_file():
        return None
    origin = read_json(run.origin)
    return origin["run"].rsplit("/", 1)[-1], origin["step"]
