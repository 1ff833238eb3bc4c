"""Write a recipe to start from: short, commented, sized by two numbers.

    recipe = draft("toy", Request(10e6), texts=[], cluster=cluster, folder=Path())
    recipe.text                      # the YAML of toy.yaml
    recipe.reasons                   # each choice with its reason

Model and training follow the rules of kit/plan/size.py; the texts follow these:

- Without a text it takes the kit's demo text, a trial of a few minutes, or, for more than a billion tokens,
  Japanese Wikipedia and CC-100, which have about 15 billion (computed).
- A smaller text has a larger held-out share, to leave enough to measure, about four blocks at least, and a
  smaller vocabulary: at least 50 bytes of text per entry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.config import presets
from kit.config.devices import ACCELERATORS, BF16_CAPABILITY
from kit.config.recipe import NAME, is_remote
from kit.errors import ConfigError
from kit.output import program
from kit.output.quantities import size as bytes_of
from kit.plan import starter_texts
from kit.plan.proportions import LENGTH, MAX_SIZE, MIN_SIZE, VOCABULARIES
from kit.plan.schedule import DECAY_SHAPE, DECAY_SHARE
from kit.plan.size import PADDING, TOKENS_PER_PARAMETER, ChoiceReason, Machine, plan, short
from kit.plan.starter_texts import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kit.config.cluster import Cluster
    from kit.config.recipe import Model
    from kit.plan.size import Plan, Request
    from kit.plan.starter_texts import Text

SIZE = 10e6  # parameters by default
_MAX_TRIAL = 1e9  # tokens for which the demo's text is enough
_PUBLISHED_BYTES = 82e9  # of text: a download of 79 GB (computed)
_BYTES_PER_TOKEN = 5.4  # 1.79 characters per token, 3 bytes each (measured on Japanese)
_BYTES_PER_ENTRY = 50
# Maximum bytes of text, and the share of the documents that is held out.
_HELD_OUT = ((1e5, 0.2), (1e7, 0.05), (1e9, 0.01), (float("inf"), 0.001))
_HELD_OUT_BLOCKS, _MAX_HELD_OUT = 4, 0.4
_MIN_UNIT, _MAX_UNIT = 0.01, 64.0  # MB
_UNKNOWN_GPU = 16e9  # bytes of memory, if the cluster file does not name the GPU
_COMMENT_COLUMN = 24
_WHY_ZERO = {  # in place of zero2, the default
    "zero1": "gradients cross the network once a step",
    "zero2-offload": "the optimizer does not fit on the GPUs",
}
_MULTIPLIERS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Draft:
    """The text of a recipe, and the reasons for its values."""

    text: str
    reasons: tuple[ChoiceReason, ...]
    first_try: str | None  # overrides for a few small steps on a CPU, which is slow


def number(text: str, option: str) -> float:
    """Parse a count such as `1.5b`, `10M` or `200000`. Raises ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmbt]?)", text.strip().lower())
    if not match or not float(match[1]):
        raise ConfigError(
            f"{option} {text}: write a number above 0, with or without k, m, b or t, such as 1.5b"
        )
    return float(match[1]) * _MULTIPLIERS.get(match[2], 1.0)


def draft(
    name: str, request: Request, *, texts: Sequence[str], cluster: Cluster, folder: Path
) -> Draft:
    """Draft the recipe `name` for a file in `folder`. Raises ConfigError for invalid arguments."""
    if not re.match(NAME, name) or name.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"{name}: a name consists of letters, digits, '.', '_' and '-', without .yaml, which is added"
        )
    if not MIN_SIZE <= request.size <= MAX_SIZE:
        raise ConfigError(
            f"--size {short(request.size)}: give {short(MIN_SIZE)} to {short(MAX_SIZE)} parameters"
        )
    sources = starter_texts.given(texts or _default_texts(request, folder))
    sizes = [text.size for text in sources]
    total = None if None in sizes else sum(filter(None, sizes))
    text_bytes = total or _PUBLISHED_BYTES
    chosen = plan(request, _machine(cluster), _entries(text_bytes))
    held_out = f"{_held_out(text_bytes):g} of the documents"
    parallel = str(cluster.arrays.parallel)
    reasons = (
        *chosen.reasons,
        ChoiceReason("text", _locations(sources, total), _passes(chosen.tokens, total, sources)),
        ChoiceReason("held out", held_out, "a larger share for a smaller text"),
        ChoiceReason("tasks", parallel, f"arrays.parallel of cluster {cluster.name}"),
    )
    return Draft(
        _recipe(name, sources, text_bytes, chosen, cluster, folder),
        reasons,
        _first_try(cluster.training.ranks) if cluster.device == "cpu" else None,
    )


def write(path: Path, text: str) -> None:
    """Write a recipe to a new file. Raises ConfigError if the file exists."""
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise ConfigError(
            f"{path}: already exists, and is not overwritten; choose another name"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None


def _first_try(ranks: int) -> str:
    """Three steps of two blocks a rank."""
    return (
        "training.steps=3 training.warmup_steps=1 training.micro_batch=2 "
        f"training.global_batch={2 * ranks} training.validation_blocks=2"
    )


def _default_texts(request: Request, folder: Path) -> Sequence[str]:
    demo = presets.demo_text()
    tokens = request.tokens or TOKENS_PER_PARAMETER * request.size
    return [_relative(demo, folder)] if demo is not None and tokens <= _MAX_TRIAL else PUBLISHED


def _relative(path: Path, folder: Path) -> str:
    """A path for a recipe in that folder: relative if it is below the folder."""
    own = folder.resolve()
    return str(path.relative_to(own)) if path.is_relative_to(own) else str(path)


def _entries(total: float) -> int:
    """The largest vocabulary for this many bytes of text."""
    return next((v for v in VOCABULARIES if v * _BYTES_PER_ENTRY <= total), VOCABULARIES[-1])


def _held_out(total: float) -> float:
    """The share of the documents, of a few blocks at least: the size of a text is an estimate."""
    share = next(share for maximum, share in _HELD_OUT if total <= maximum)
    blocks = _HELD_OUT_BLOCKS * LENGTH * _BYTES_PER_TOKEN / total
    return min(_MAX_HELD_OUT, max(share, float(f"{blocks:.2g}")))


def _machine(cluster: Cluster) -> Machine:
    training = cluster.training
    if cluster.device == "cpu":
        return Machine(training.ranks)
    gpu = training.accelerator
    if gpu is None:
        return Machine(training.ranks, _UNKNOWN_GPU, nodes=training.nodes)
    known = ACCELERATORS[gpu]
    bf16 = known.capability >= BF16_CAPABILITY
    return Machine(training.ranks, known.memory, bf16, training.nodes)


def _locations(texts: list[Text], total: float | None) -> str:
    locations = ", ".join(text.location for text in texts)
    return f"{locations}, {bytes_of(total)}" if total else locations


def _passes(tokens: float, total: float | None, texts: list[Text]) -> str:
    """The number of passes over the text, in words."""
    published = [text.location for text in texts] == [*PUBLISHED]
    if total is None and not published:
        return "downloaded by ekiden download"
    passes = tokens / ((total or _PUBLISHED_BYTES) / _BYTES_PER_TOKEN)
    download = "a download of 79 GB; " if published else ""
    return f"{download}read {passes:,.2g} times in training" if passes < 10 else (
        f"{download}read {passes:,.0f} times in training: only a trial; add text with --text"
    )  # fmt: skip


def _recipe(
    name: str, texts: list[Text], total: float, chosen: Plan, cluster: Cluster, folder: Path
) -> str:
    tasks, shape = cluster.arrays.parallel, chosen.shape
    unit = min(_MAX_UNIT, max(_MIN_UNIT, total / tasks / 1e6))
    batch = chosen.global_batch * shape.model.n_positions
    gpu = cluster.device == "cuda"
    rows = [
        *_schema(folder),
        f"# {short(shape.parameters)} parameters, {short(chosen.tokens)} tokens. To list all keys: "
        f"{program.command('pipeline', 'explain')}",
        f"name: {name}",
        f"workspace: work/{name} # for all output; relative to this file",
        "",
        "corpus:",
        "  sources:",
        *(row for text in texts for row in text.rows()),
        f"  unit_mb: {unit:.2g} # raw text per shard",
        f"  tasks: {tasks} # as many as cluster {cluster.name} runs at once",
        f"  held_out: {_held_out(total):g} # share of the documents, for validation",
        _if(
            is_remote(texts[0].location),
            "  on_bad_input: skip # leave out bad lines and pages, and count them",
        ),
        "",
        "tokenizer:",
        f"  vocab_size: {shape.vocab_size}",
        _if(
            shape.vocab_size < 16_000,
            f"  limit_alphabet: {shape.vocab_size // 2} # rarer characters become bytes",
        ),
        f"  tasks: {tasks}",
        "",
        "tokens:",
        f"  tasks: {tasks}",
        "",
        "model:",
        *_model(shape.model),
        _if(gpu, f"  pad_vocab_to: {PADDING} # pad the embedding for a GPU's matrix units"),
        _if(chosen.activation_checkpointing, "  activation_checkpointing: true # to fit in memory"),
        "",
        "training:",
        f"  steps: {chosen.steps} # {short(chosen.steps * batch)} tokens",
        f"  global_batch: {chosen.global_batch} # blocks: {batch:,} tokens",
        f"  micro_batch: {chosen.micro_batch} # per rank; auto: the largest that fits where you submit",
        *_schedule(chosen),
        f"  loss_chunk: {shape.model.n_positions} # logits of one block at a time",
        f"  validate_every: {max(1, min(1000, chosen.steps // 50))}",
        "  validation_blocks: 512",
        _zero(chosen.deepspeed),
        "  health: # a step beyond these limits makes no update",
        "    loss_spike: 1.0 # nats above the median of the last hundred steps",
        "    gradient_spike: 20 # times the median",
    ]
    return "".join(f"{_aligned(row)}\n" for row in rows if row is not None)


def _model(model: Model) -> list[str | None]:
    is_llama = model.architecture == "llama"
    return [
        _if(is_llama, "  architecture: llama"),
        f"  n_layer: {model.n_layer}",
        f"  n_embd: {model.n_embd}",
        f"  n_head: {model.n_head} # {model.n_embd // model.n_head} wide",
        _if(is_llama, f"  n_kv_head: {model.n_kv_head} # of keys and values"),
        _if(is_llama, f"  n_inner: {model.n_inner} # the width of the MLP"),
        _if(model.tie_embeddings, "  tie_embeddings: true # to the output"),
    ]


def _schedule(chosen: Plan) -> list[str | None]:
    """Optimizer and learning rate."""
    rate, request = chosen.learning_rate, chosen.request
    is_wsd = request.decay == "wsd"
    return [
        _if(request.optimizer == "muon", "  optimizer: muon # for the matrices of layers"),
        f"  learning_rate: {_power_of_ten(rate)}",
        _if(not is_wsd, f"  minimum_learning_rate: {_power_of_ten(rate / 10)}"),
        f"  warmup_steps: {chosen.warmup_steps}",
        _if(
            is_wsd,
            f"  decay: wsd # {DECAY_SHAPE} to 0 over the last {DECAY_SHARE:.0%} of the steps",
        ),
    ]


def _zero(deepspeed: str) -> str | None:
    why = _WHY_ZERO.get(deepspeed)
    return why and f"  deepspeed: {deepspeed} # {why}"


def _if(condition: bool, row: str) -> str | None:
    return row if condition else None


def _aligned(row: str) -> str:
    """A row with its comment aligned to the common column."""
    value, mark, comment = row.partition(" # ")
    return f"{value:{_COMMENT_COLUMN}} # {comment}" if mark else row


def _power_of_ten(rate: float) -> str:
    """A rate as written in recipes: `8.6e-4`."""
    return f"{rate:.1e}".replace("e-0", "e-")


def _schema(folder: Path) -> list[str]:
    """The line that names the schema for editors, if there is one."""
    path = presets.recipe_schema()
    return [f"# yaml-language-server: $schema={_relative(path, folder)}"] if path else []
