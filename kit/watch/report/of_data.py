"""Parts of the page about data and results: corpus, tokenizer, tokens, scores, samples.

Each reads the small files of its stage; one whose files do not exist yet says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.corpus import report
from kit.output.quantities import size
from kit.release import checkpoint_jobs
from kit.release.evaluate import SCORES
from kit.release.generate import SAMPLES
from kit.store import manifest
from kit.store.files import read_json
from kit.store.paths import MANIFEST, Workspace
from kit.tokenizer.selection import COLUMNS
from kit.watch.report.markup import Markup, paragraph, table, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.store.paths import Run
    from kit.watch.report.content import Content

_LISTED = 50  # candidates, sources, checkpoints
_SAMPLES, _CHARACTERS = 20, 1500
_PARTS = ("train", "held-out")


def corpus(content: Content) -> Markup:
    """The text that each step of the preprocessing kept and left out."""
    folder = _workspace(content).corpus_report
    if not (folder / MANIFEST).is_file():
        return paragraph("No report on the corpus yet: it is made with the last shard.")
    totals: Any = dict(manifest.read(folder, "jobs.preprocess"))["totals"]
    read = totals["steps"].get("read", {}).get("characters", 0)
    keys = ("documents", "lines", "characters")
    rows = [
        (name, *(f"{step.get(key, 0):,}" for key in keys), _share(step.get("characters", 0), read))
        for name, step in sorted(totals["steps"].items(), key=report.order)
    ]
    sums = {
        "Lines dropped": totals["lines_dropped"],
        "Bad input skipped": totals["faults"],
        "Text left unsegmented": totals["kept_whole"],
    }
    words = " ".join(f"{title}: {_counted(counts)}." for title, counts in sums.items())
    return Markup(
        table("The corpus, step by step", ("step", *keys, "of what was read"), rows)
        + paragraph(words)
    )


def tokenizer(content: Content) -> Markup:
    """The candidates with their measures, and the choice."""
    workspace = _workspace(content)
    measured: dict[str, Any] = {
        spec.name: dict(manifest.read(workspace.candidate(spec.name), "jobs.tokenizer"))["measures"]
        for spec in content.recipe.tokenizer.specs()[:_LISTED]
        if (workspace.candidate(spec.name) / MANIFEST).is_file()
    }
    chosen: Any = {}
    if (workspace.tokenizer / MANIFEST).is_file():
        chosen = manifest.read(workspace.tokenizer, "jobs.tokenizer")
    if not measured and not chosen:
        return paragraph("No tokenizer yet.")
    parts = ""
    if measured:
        rows = [
            (f"{name} (chosen)" if name == chosen.get("candidate") else name,
             *(format(values[key], style) if key in values else "" for key, (_, style) in COLUMNS.items()))
            for name, values in measured.items()
        ]  # fmt: skip
        parts += table("Candidates", ("candidate", *(name for name, _ in COLUMNS.values())), rows)
    if chosen:
        entries = chosen.get("vocabulary", {}).get("size")
        number = f", {entries:,} entries" if entries else ""
        parts += paragraph(f"Chosen: {chosen.get('candidate')}{number} ({chosen.get('reason')}).")
    return Markup(parts)


def data(content: Content) -> Markup:
    """Documents and tokens of each source."""
    workspace = _workspace(content)
    if not workspace.tokens_index.is_file():
        return paragraph("No tokens yet.")
    sources: dict[str, dict[str, int]] = {}
    for unit in read_json(workspace.tokens_index)["units"]:
        facts: Any = manifest.read(workspace.tokens(unit), "jobs.tokenize")
        sums = sources.setdefault(unit.rpartition("-")[0], {})
        for part in _PARTS:
            figures = {"tokens": facts["tokens"][part], **facts["counts"][part]}
            for key in ("documents", "bytes", "tokens"):
                sums[f"{part} {key}"] = sums.get(f"{part} {key}", 0) + figures.get(key, 0)
    rows = [(name, *_source(sums)) for name, sums in [*sources.items()][:_LISTED]]
    whole = {key: sum(one[key] for one in sources.values()) for key in next(iter(sources.values()))}
    rows.append(("all", *_source(whole)))
    head = ("source", "documents", "text", "tokens", "held-out documents", "held-out tokens")
    seen = content.curve.tokens[-1] if len(content.curve.tokens) else 0
    trained = whole["train tokens"]
    epochs = (
        f"{seen:,.0f} tokens seen are {seen / trained:,.2f} epochs." if seen and trained else ""
    )
    return Markup(table("Tokens by source", head, rows) + (paragraph(epochs) if epochs else ""))


def scores(content: Content) -> Markup:
    """The scores of the release, and of checkpoints scored during the training."""
    every = [
        (f"step {one['step']:,}", one["scores"]) for one in _beside(content) if "scores" in one
    ]
    if found := final_scores(content.run):
        every.append((f"the release, step {found['step']:,}", found))
    if not every:
        return paragraph("Nothing was scored yet.")
    keys = {
        "loss": ("nats a token", ".4f"),
        "perplexity": ("perplexity a token", ",.1f"),
        "bits_per_byte": ("bits per byte", ".4f"),
        "unigram_loss": ("nats a token of a unigram model", ".4f"),
    }
    rows = [
        (name, *(format(one[key], style) for key, (_, style) in keys.items()))
        for name, one in every[-_LISTED:]
    ]
    head = ("weights", *(title for title, _ in keys.values()))
    return table("Scores on the held-out documents", head, rows)


def final_scores(run: Run) -> Mapping[str, Any] | None:
    """The scores of the release; None if there are none yet."""
    path = run.evaluation / SCORES
    found: Mapping[str, Any] | None = read_json(path) if path.is_file() else None
    return found


def samples(content: Content) -> Markup:
    """Text that the model wrote."""
    path = content.run.samples / SAMPLES
    every = [(one["step"], sample) for one in _beside(content) for sample in one.get("samples", ())]
    every += [("release", sample) for sample in (read_json(path) if path.is_file() else ())]
    if not every:
        return paragraph("No text was written yet.")
    rows = [
        (f"step {step:,}" if isinstance(step, int) else step,
         _japanese(sample["prompt"]), _japanese(sample["text"]))
        for step, sample in every[-_SAMPLES:]
    ]  # fmt: skip
    return table("Text written by the model", ("weights", "prompt", "text"), rows)


def _japanese(words: object) -> Markup:
    return Markup(f'<span lang="ja" class="sample">{text(words, _CHARACTERS)}</span>')


def _beside(content: Content) -> Sequence[Mapping[str, Any]]:
    return checkpoint_jobs.results(content.run)


def _workspace(content: Content) -> Workspace:
    return Workspace(Path(content.recipe.workspace))


def _source(sums: Mapping[str, int]) -> tuple[str, ...]:
    return (
        f"{sums['train documents']:,}",
        size(sums["train bytes"]),
        f"{sums['train tokens']:,}",
        f"{sums['held-out documents']:,}",
        f"{sums['held-out tokens']:,}",
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in counts.items() if n) or "none"
