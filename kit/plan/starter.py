"""A recipe to start from: short, commented, with the sizes of one dial.

    made = draft("toy", size=10e6, tokens=None, texts=[], cluster=cluster, folder=Path())
    made.text                        # the YAML of toy.yaml
    made.reasons                     # what was chosen and why, a row each

The rules of model and training are those of kit/plan/size.py. Of the texts:

- None given: the kit's demo text, a trial of some minutes, or, for more than a billion tokens, Japanese
  Wikipedia and CC-100, which give about 15 billion (computed).
- The smaller a text, the larger the share that is held out, so that there is something to measure, and the
  smaller the vocabulary: an entry for each 50 bytes at most.
"""

from __future__ import annotations

import glob
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
from kit.plan.size import LEAST, MOST, VOCABULARIES, Machine, plan, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.cluster import Cluster
    from kit.plan.size import Plan

SIZE = 10e6  # parameters where none are asked for
_TRIAL = 1e9  # tokens up to which the demo's text will do
_PUBLISHED = ("jawiki-20220701", "cc100-ja")
_ARCHIVE = "https://archive.org/download/jawiki-20220701/jawiki-20220701-pages-articles-multistream.xml.bz2"
_PUBLISHED_BYTES = 82e9  # of text: 79 GB to fetch (computed)
_BYTES_PER_TOKEN = 5.4  # 1.79 characters a token, 3 bytes each (measured on Japanese)
_BYTES_PER_ENTRY = 50
_PACKED = {".xz": 4, ".gz": 3, ".bz2": 4, ".zst": 4}  # how much larger the text is, about
# Bytes of text up to which a share of the documents is held out.
_HELD_OUT = ((1e5, 0.2), (1e7, 0.05), (1e9, 0.01), (float("inf"), 0.001))
_SMALLEST_UNIT, _UNIT = 0.01, 64.0  # MB
_UNKNOWN_GPU = 16e9  # bytes of memory of one that the cluster file does not name
_COMMENTS = 24  # their column
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Draft:
    """The text of a recipe, and what was chosen for it: what, how much, why."""

    text: str
    reasons: tuple[tuple[str, str, str], ...]
    first_try: str | None  # overrides for a few small steps, where the steps are many for a CPU


@dataclass(frozen=True)
class _Text:
    name: str
    kind: str
    location: str
    size: float | None  # bytes unpacked, about; None: not here yet


def number(text: str, option: str) -> float:
    """A count as `1.5b`, `10M` or `200000`. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmbt]?)", text.strip().lower())
    if not found or not float(found[1]):
        raise ConfigError(f"{option} {text}: write a number with k, m, b or t, such as 1.5b")
    return float(found[1]) * _UNITS.get(found[2], 1.0)


def draft(
    name: str,
    *,
    size: float,
    tokens: float | None,
    texts: Sequence[str],
    cluster: Cluster,
    folder: Path,
) -> Draft:
    """The recipe `name` for a file in `folder`. Raises ConfigError for what cannot be."""
    if not re.match(NAME, name) or name.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"{name}: a name is letters, digits, '.', '_' and '-', without .yaml, which is added"
        )
    if not LEAST <= size <= MOST:
        raise ConfigError(f"--size {short(size)}: give {short(LEAST)} to {short(MOST)} parameters")
    found = _told_apart([_look(text) for text in texts] or _usual(size, tokens, folder))
    sizes = [text.size for text in found]
    known = None if None in sizes else sum(filter(None, sizes))
    total = known or _PUBLISHED_BYTES
    entries = _entries(total)
    made = plan(size, tokens, _machine(cluster), entries)
    parts = {
        "text": (_told(found, known), _passes(made.tokens, known, found)),
        "held out": (f"{_held_out(total):g} of the documents", "more of a smaller text"),
    }
    reasons = (
        *made.reasons,
        *((what, *words) for what, words in parts.items()),
        ("tasks", str(cluster.arrays.parallel), f"arrays.parallel of cluster {cluster.name}"),
    )
    return Draft(
        _recipe(name, found, total, made, cluster, folder),
        reasons,
        _first_try(cluster.training.ranks) if cluster.device == "cpu" else None,
    )


def write(path: Path, text: str) -> None:
    """Write a recipe that is not there yet. Raises ConfigError if the file is."""
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise ConfigError(
            f"{path}: is there already, and is not overwritten; give another name"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None


def _first_try(ranks: int) -> str:
    """Three steps of two blocks a rank."""
    return (
        "training.steps=3 training.warmup_steps=1 training.micro_batch=2 "
        f"training.global_batch={2 * ranks} training.validation_blocks=2"
    )


def _usual(size: float, tokens: float | None, folder: Path) -> list[_Text]:
    """The texts where none are given."""
    demo = presets.demo_text()
    if demo is not None and (tokens or 20 * size) <= _TRIAL:
        return [_look(_near(demo, folder))]
    return [_look(name) for name in _PUBLISHED]


def _look(location: str) -> _Text:
    """A text as its source of the recipe."""
    if is_remote(location):
        if kind := named_kind(location):
            return _Text(location.split("-", maxsplit=1)[0], kind, location, None)
        return _Text(_name(Path(location).name.split(".")[0]), _kind(location), location, None)
    files = _files(location)
    if not files:
        raise ConfigError(
            f"--text {location}: there is no such file; give a path, a folder, a pattern as 'texts/*.txt', "
            "a URL, or a name as jawiki-20220701 or cc100-ja"
        )
    size = sum(file.stat().st_size * _PACKED.get(file.suffix, 1) for file in files)
    return _Text(
        _name(Path(location).name.split(".")[0]), _kind(files[0].name), location, float(size)
    )


def _told_apart(texts: list[_Text]) -> list[_Text]:
    """Texts of one name with a number behind it, from the second on."""
    seen: dict[str, int] = {}
    found = []
    for text in texts:
        seen[text.name] = seen.get(text.name, 0) + 1
        number = seen[text.name]
        found.append(text if number == 1 else replace(text, name=f"{text.name}-{number}"))
    return found


def _files(location: str) -> list[Path]:
    path = Path(location).expanduser()
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    found = glob.glob(str(path), recursive=True)  # noqa: PTH207  pathlib takes no absolute patterns
    return sorted(Path(file) for file in found if Path(file).is_file())


def _kind(name: str) -> str:
    """The kind of a text by the name of its file."""
    bare = re.sub(r"\.(xz|gz|bz2|zst)$", "", name)
    if bare.endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    return "wikipedia" if bare.endswith(".xml") else "plaintext"


def _name(text: str) -> str:
    """A source's name from that of a file."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_") or "text"


def _near(path: Path, folder: Path) -> str:
    """A path as a recipe in that folder would have it: relative if it lies below."""
    own = folder.resolve()
    return str(path.relative_to(own)) if path.is_relative_to(own) else str(path)


def _entries(total: float) -> int:
    """The largest vocabulary that so much text gives."""
    return next((v for v in VOCABULARIES if v * _BYTES_PER_ENTRY <= total), VOCABULARIES[-1])


def _held_out(total: float) -> float:
    return next(share for most, share in _HELD_OUT if total <= most)


def _machine(cluster: Cluster) -> Machine:
    training = cluster.training
    if cluster.device == "cpu":
        return Machine(training.ranks)
    gpu = training.accelerator
    return Machine(training.ranks, _UNKNOWN_GPU if gpu is None else ACCELERATORS[gpu].memory)


def _told(texts: list[_Text], known: float | None) -> str:
    names = ", ".join(text.location for text in texts)
    return f"{names}, {bytes_of(known)}" if known else names


def _passes(tokens: float, known: float | None, texts: list[_Text]) -> str:
    """How often the training reads its text."""
    published = [text.location for text in texts] == [*_PUBLISHED]
    if known is None and not published:
        return "fetched by jobs.download"
    times = tokens / ((known or _PUBLISHED_BYTES) / _BYTES_PER_TOKEN)
    what = "79 GB to fetch; " if published else ""
    return f"{what}the training reads it {times:,.2g} times" if times < 10 else (
        f"{what}the training reads it {times:,.0f} times: a trial; --text names more"
    )  # fmt: skip


def _recipe(
    name: str, texts: list[_Text], total: float, made: Plan, cluster: Cluster, folder: Path
) -> str:
    tasks, shape = cluster.arrays.parallel, made.shape
    unit = min(_UNIT, max(_SMALLEST_UNIT, total / tasks / 1e6))
    batch = made.global_batch * shape.n_positions
    gpu = cluster.device == "cuda"
    rows = [
        *_schema(folder),
        f"# {short(shape.parameters)} parameters, {short(made.tokens)} tokens. All keys with their "
        "defaults: python -m jobs.pipeline explain",
        f"name: {name}",
        f"workspace: work/{name} # of all that is made; relative to this file",
        "",
        "corpus:",
        "  sources:",
        *(row for text in texts for row in _source(text)),
        f"  unit_mb: {unit:.2g} # raw text of a shard",
        f"  tasks: {tasks} # as many as cluster {cluster.name} has at a time",
        f"  held_out: {_held_out(total):g} # share of the documents, for validation",
        _if(
            is_remote(texts[0].location),
            "  on_bad_input: skip # pass over bad lines and pages, and count them",
        ),
        "",
        "tokenizer:",
        f"  vocab_size: {shape.vocab_size}",
        _if(
            shape.vocab_size < 16_000,
            f"  limit_alphabet: {shape.vocab_size // 2} # rarer characters are their bytes",
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
        _if(gpu, "  pad_vocab_to: 64 # embedding rows, as a GPU's matrix units like them"),
        _if(made.activation_checkpointing, "  activation_checkpointing: true # to fit the memory"),
        "",
        "training:",
        f"  steps: {made.steps} # {short(made.steps * batch)} tokens",
        f"  global_batch: {made.global_batch} # blocks: {batch:,} tokens",
        f"  micro_batch: {made.micro_batch} # of a rank: lower it if memory runs out",
        f"  learning_rate: {_power_of_ten(made.learning_rate)}",
        f"  minimum_learning_rate: {_power_of_ten(made.learning_rate / 10)}",
        f"  warmup_steps: {made.warmup_steps}",
        f"  loss_chunk: {shape.n_positions} # logits of one block at a time",
        f"  validate_every: {max(1, min(1000, made.steps // 50))}",
        "  validation_blocks: 512",
        _if(made.offload, "  deepspeed: zero2-offload # the optimizer does not fit on the GPUs"),
        "  health: # a step beyond these makes no update",
        "    loss_spike: 1.0 # nats above the median of the last hundred",
        "    gradient_spike: 20 # times the median",
    ]
    return "".join(f"{_aligned(row)}\n" for row in rows if row is not None)


def _if(wanted: bool, row: str) -> str | None:
    return row if wanted else None


def _aligned(row: str) -> str:
    """A row with its comment in one column with the others."""
    value, mark, comment = row.partition(" # ")
    return f"{value:{_COMMENTS}} # {comment}" if mark else row


def _power_of_ten(rate: float) -> str:
    """As recipes have it: `8.6e-4`."""
    return f"{rate:.1e}".replace("e-0", "e-")


def _source(text: _Text) -> list[str]:
    plain = re.fullmatch(r"[\w./-]+", text.location) and not text.location.startswith("-")
    location = text.location if plain else json.dumps(text.location, ensure_ascii=False)
    lines = [f"    {text.name}:", f"      kind: {text.kind}", f"      location: {location}"]
    if text.location == _PUBLISHED[0]:
        lines += ["      mirrors:", f"        - {_ARCHIVE}"]
    return lines


def _schema(folder: Path) -> list[str]:
    """The line by which an editor finds the schema, if there is one."""
    path = presets.recipe_schema()
    return [f"# yaml-language-server: $schema={_near(path, folder)}"] if path else []
