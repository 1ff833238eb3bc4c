"""Write a recipe to start from: short, commented, sized by two numbers.

    recipe = draft("toy", size=10e6, tokens=None, texts=[], cluster=cluster, folder=Path())
    recipe.text                      # the YAML of toy.yaml
    recipe.reasons                   # each choice with its reason

Model and training follow the rules of kit/plan/size.py; the texts follow these:

- Without a text it takes the kit's demo text, a trial of a few minutes, or, for more than a billion tokens,
  Japanese Wikipedia and CC-100, which have about 15 billion (computed).
- A smaller text has a larger held-out share, to leave enough to measure, and a smaller vocabulary: at least
  50 bytes of text per entry.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config import presets
from kit.config.devices import ACCELERATORS
from kit.config.recipe import NAME, is_remote, named_kind
from kit.errors import ConfigError
from kit.output.quantities import size as bytes_of
from kit.plan.size import MAX_SIZE, MIN_SIZE, VOCABULARIES, ChoiceReason, Machine, plan, short
from kit.plan.text_key import DEFAULT, text_key
from kit.store import listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.cluster import Cluster
    from kit.plan.size import Plan

SIZE = 10e6  # parameters by default
_MAX_TRIAL = 1e9  # tokens for which the demo's text is enough
_PUBLISHED = ("jawiki-20220701", "cc100-ja")
_ARCHIVE = "https://archive.org/download/jawiki-20220701/jawiki-20220701-pages-articles-multistream.xml.bz2"
_PUBLISHED_BYTES = 82e9  # of text: a download of 79 GB (computed)
_BYTES_PER_TOKEN = 5.4  # 1.79 characters per token, 3 bytes each (measured on Japanese)
_BYTES_PER_ENTRY = 50
_EXPANSION = {".xz": 4, ".gz": 3, ".bz2": 4, ".zst": 4}  # uncompressed size, approximately
# Maximum bytes of text, and the share of the documents that is held out.
_HELD_OUT = ((1e5, 0.2), (1e7, 0.05), (1e9, 0.01), (float("inf"), 0.001))
_MIN_UNIT, _MAX_UNIT = 0.01, 64.0  # MB
_UNKNOWN_GPU = 16e9  # bytes of memory, if the cluster file does not name the GPU
_COMMENT_COLUMN = 24
_MULTIPLIERS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Draft:
    """The text of a recipe, and the reasons for its values."""

    text: str
    reasons: tuple[ChoiceReason, ...]
    first_try: str | None  # overrides for a few small steps on a CPU, which is slow


@dataclass(frozen=True)
class _Text:
    name: str
    kind: str
    location: str
    size: float | None  # bytes uncompressed, approximately; None: not downloaded yet
    text_key: str = DEFAULT  # jsonl
    other_keys: tuple[str, ...] = ()  # that also hold text


def number(text: str, option: str) -> float:
    """Parse a count such as `1.5b`, `10M` or `200000`. Raises ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmbt]?)", text.strip().lower())
    if not match or not float(match[1]):
        raise ConfigError(
            f"{option} {text}: write a number above 0, with or without k, m, b or t, such as 1.5b"
        )
    return float(match[1]) * _MULTIPLIERS.get(match[2], 1.0)


def draft(
    name: str,
    *,
    size: float,
    tokens: float | None,
    texts: Sequence[str],
    cluster: Cluster,
    folder: Path,
) -> Draft:
    """Draft the recipe `name` for a file in `folder`. Raises ConfigError for invalid arguments."""
    if not re.match(NAME, name) or name.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"{name}: a name consists of letters, digits, '.', '_' and '-', without .yaml, which is added"
        )
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(
            f"--size {short(size)}: give {short(MIN_SIZE)} to {short(MAX_SIZE)} parameters"
        )
    sources = _with_unique_names(
        [_inspect(text) for text in texts] or _default_texts(size, tokens, folder)
    )
    sizes = [text.size for text in sources]
    total = None if None in sizes else sum(filter(None, sizes))
    text_bytes = total or _PUBLISHED_BYTES
    chosen = plan(size, tokens, _machine(cluster), _entries(text_bytes))
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


def _default_texts(size: float, tokens: float | None, folder: Path) -> list[_Text]:
    demo = presets.demo_text()
    if demo is not None and (tokens or 20 * size) <= _MAX_TRIAL:
        return [_inspect(_relative(demo, folder))]
    return [_inspect(name) for name in _PUBLISHED]


def _inspect(location: str) -> _Text:
    """The name, kind and size of a text."""
    if is_remote(location):
        if kind := named_kind(location):
            return _Text(location.split("-", maxsplit=1)[0], kind, location, None)
        return _Text(_name(Path(location).name.split(".")[0]), _kind(location), location, None)
    files = _files(location)
    if not files:
        raise ConfigError(
            f"--text {location}: no such file; give a path, a folder, a pattern such as 'texts/*.txt', a "
            "URL, or a name: jawiki-20220701, cc100-ja"
        )
    size = sum(file.stat().st_size * _EXPANSION.get(file.suffix, 1) for file in files)
    name, kind = _name(Path(location).name.split(".")[0]), _kind(files[0].name)
    for file in files:
        if (other := _kind(file.name)) != kind:
            raise ConfigError(
                f"--text {location}: {files[0].name} looks like {kind}, {file.name} like {other}; give "
                "each kind by a --text of its own, such as 'texts/*.txt'"
            )
    key, others = text_key(files[0]) if kind == "jsonl" else (DEFAULT, [])
    return _Text(name, kind, location, float(size), key, tuple(others))


def _with_unique_names(texts: list[_Text]) -> list[_Text]:
    """Append a number to repeated names: `web`, `web-2`, `web-3`."""
    counts: dict[str, int] = {}
    unique = []
    for text in texts:
        counts[text.name] = counts.get(text.name, 0) + 1
        number = counts[text.name]
        unique.append(text if number == 1 else replace(text, name=f"{text.name}-{number}"))
    return unique


def _files(location: str) -> list[Path]:
    try:
        return [*map(Path, listing.files(str(Path(location).expanduser())))]
    except listing.SameFile as error:
        raise ConfigError(
            f"--text {location}: {error}; remove the link, or name other files"
        ) from None
    except OSError as error:
        raise ConfigError(f"--text {location}: {error.filename}: {error.strerror}") from None


def _kind(name: str) -> str:
    """The kind of a text, guessed from its file name."""
    bare = re.sub(r"\.(xz|gz|bz2|zst)$", "", name)
    if bare.endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    if bare.endswith(".parquet"):
        return "parquet"
    return "wikipedia" if bare.endswith(".xml") else "plaintext"


def _name(text: str) -> str:
    """A source name made from a file name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_") or "text"


def _relative(path: Path, folder: Path) -> str:
    """A path for a recipe in that folder: relative if it is below the folder."""
    own = folder.resolve()
    return str(path.relative_to(own)) if path.is_relative_to(own) else str(path)


def _entries(total: float) -> int:
    """The largest vocabulary for this many bytes of text."""
    return next((v for v in VOCABULARIES if v * _BYTES_PER_ENTRY <= total), VOCABULARIES[-1])


def _held_out(total: float) -> float:
    return next(share for maximum, share in _HELD_OUT if total <= maximum)


def _machine(cluster: Cluster) -> Machine:
    training = cluster.training
    if cluster.device == "cpu":
        return Machine(training.ranks)
    gpu = training.accelerator
    return Machine(training.ranks, _UNKNOWN_GPU if gpu is None else ACCELERATORS[gpu].memory)


def _locations(texts: list[_Text], total: float | None) -> str:
    locations = ", ".join(text.location for text in texts)
    return f"{locations}, {bytes_of(total)}" if total else locations


def _passes(tokens: float, total: float | None, texts: list[_Text]) -> str:
    """The number of passes over the text, in words."""
    published = [text.location for text in texts] == [*_PUBLISHED]
    if total is None and not published:
        return "downloaded by jobs.download"
    passes = tokens / ((total or _PUBLISHED_BYTES) / _BYTES_PER_TOKEN)
    download = "a download of 79 GB; " if published else ""
    return f"{download}read {passes:,.2g} times in training" if passes < 10 else (
        f"{download}read {passes:,.0f} times in training: only a trial; add text with --text"
    )  # fmt: skip


def _recipe(
    name: str, texts: list[_Text], total: float, chosen: Plan, cluster: Cluster, folder: Path
) -> str:
    tasks, shape = cluster.arrays.parallel, chosen.shape
    unit = min(_MAX_UNIT, max(_MIN_UNIT, total / tasks / 1e6))
    batch = chosen.global_batch * shape.n_positions
    gpu = cluster.device == "cuda"
    rows = [
        *_schema(folder),
        f"# {short(shape.parameters)} parameters, {short(chosen.tokens)} tokens. To list all keys: python "
        "-m jobs.pipeline explain",
        f"name: {name}",
        f"workspace: work/{name} # for all output; relative to this file",
        "",
        "corpus:",
        "  sources:",
        *(row for text in texts for row in _source(text)),
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
        f"  n_layer: {shape.n_layer}",
        f"  n_embd: {shape.n_embd}",
        f"  n_head: {shape.n_head} # {shape.n_embd // shape.n_head} wide",
        _if(gpu, "  pad_vocab_to: 64 # pad the embedding for a GPU's matrix units"),
        _if(chosen.activation_checkpointing, "  activation_checkpointing: true # to fit in memory"),
        "",
        "training:",
        f"  steps: {chosen.steps} # {short(chosen.steps * batch)} tokens",
        f"  global_batch: {chosen.global_batch} # blocks: {batch:,} tokens",
        f"  micro_batch: {chosen.micro_batch} # per rank; auto: the largest that fits where you submit",
        f"  learning_rate: {_power_of_ten(chosen.learning_rate)}",
        f"  minimum_learning_rate: {_power_of_ten(chosen.learning_rate / 10)}",
        f"  warmup_steps: {chosen.warmup_steps}",
        f"  loss_chunk: {shape.n_positions} # logits of one block at a time",
        f"  validate_every: {max(1, min(1000, chosen.steps // 50))}",
        "  validation_blocks: 512",
        _if(chosen.offload, "  deepspeed: zero2-offload # the optimizer does not fit on the GPUs"),
        "  health: # a step beyond these limits makes no update",
        "    loss_spike: 1.0 # nats above the median of the last hundred steps",
        "    gradient_spike: 20 # times the median",
    ]
    return "".join(f"{_aligned(row)}\n" for row in rows if row is not None)


def _if(condition: bool, row: str) -> str | None:
    return row if condition else None


def _aligned(row: str) -> str:
    """A row with its comment aligned to the common column."""
    value, mark, comment = row.partition(" # ")
    return f"{value:{_COMMENT_COLUMN}} # {comment}" if mark else row


def _power_of_ten(rate: float) -> str:
    """A rate as written in recipes: `8.6e-4`."""
    return f"{rate:.1e}".replace("e-0", "e-")


def _source(text: _Text) -> list[str]:
    plain = re.fullmatch(r"[\w./-]+", text.location) and not text.location.startswith("-")
    location = text.location if plain else json.dumps(text.location, ensure_ascii=False)
    lines = [f"    {text.name}:", f"      kind: {text.kind}", f"      location: {location}"]
    if text.text_key != DEFAULT:
        key = json.dumps(text.text_key, ensure_ascii=False)
        others = ", ".join(text.other_keys[:3])
        lines.append(
            f"      text_key: {key} # the longest text; others: {others}"
            if others
            else f"      text_key: {key}"
        )
    if text.location == _PUBLISHED[0]:
        lines += ["      mirrors:", f"        - {_ARCHIVE}"]
    return lines


def _schema(folder: Path) -> list[str]:
    """The line that names the schema for editors, if there is one."""
    path = presets.recipe_schema()
    return [f"# yaml-language-server: $schema={_relative(path, folder)}"] if path else []
