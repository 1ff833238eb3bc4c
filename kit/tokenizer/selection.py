"""The tokenizer stage: select a candidate as the tokenizer, by the recipe's rule or a user's pick."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.run import run_of
from kit.config.section import read_resolved
from kit.data import tokens
from kit.errors import ConfigError, StageError
from kit.output import log
from kit.store import manifest
from kit.store.files import atomic, write_json, write_text
from kit.store.paths import Run, Workspace
from kit.store.units import Unit, make_units, require
from kit.tokenizer import candidates, huggingface
from kit.tokenizer import measure as measures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kit.config.tokenizer import Choice

RULE = "rule"  # instead of a candidate's name: return to the recipe's rule
TABLE, PLOT = "report.md", "report.png"
_LESS_IS_BETTER = ("bits_per_byte", "fertility")
COLUMNS = {  # of the table: a measure, its heading, its format
    "characters_per_token": ("characters per token", ".4f"),
    "fertility": ("tokens per word", ".4f"),
    "unknown_rate": ("unknown", ".3%"),
    "exact": ("exact", ".2%"),
    "raw_share": ("raw", ".1%"),
    "vocabulary_used": ("entries used", ".1%"),
    "bits_per_byte": ("bits per byte", ".4f"),
    "tokens_per_second": ("tokens/s", ",.0f"),
}


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """The only unit of the stage. Raises StageError if a shard is missing."""

    def make(folder: Path) -> Mapping[str, Any]:
        source, reason = _source(recipe)
        for file in (huggingface.FILE, huggingface.SETTINGS):
            with atomic(folder / file) as out:
                out.write((source / file).read_bytes())
        return {
            "candidate": source.name,
            "reason": reason,
            "vocabulary": manifest.read(source, "jobs.tokenizer")["vocabulary"],
            "spaces": recipe.tokenizer.spec(source.name).spaces,
        }

    folder = Workspace(Path(recipe.workspace)).tokenizer
    return [Unit("tokenizer", folder, tokens.tokenizer_causes(recipe), make)]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory. Logs a report on the candidates."""
    recipe = read_resolved(run.recipe, Recipe)
    _source(recipe)  # raises any error before the existing tokenizer is removed
    make_units("tokenizer", units(run, recipe), task, tasks)
    if recipe.tokenizer.candidates:
        log.info(f"tokenizer: candidates\n{report(recipe)}")


def manual_pick(recipe: Recipe) -> str | None:
    """The user's pick, if there is one. Raises ConfigError if it is not a candidate of the recipe."""
    if (name := tokens.picked_candidate(recipe)) not in (None, *_names(recipe)):
        raise ConfigError(
            f"{Workspace(Path(recipe.workspace)).pick}: {name} is not a candidate of the recipe; "
            f"pick another with ekiden tokenizer run --pick, or --pick {RULE}"
        )
    return name


def is_new_pick(recipe: Recipe, name: str) -> bool:
    """Whether picking a candidate, or `RULE`, changes anything.

    Raises ConfigError for a name that is not a candidate of the recipe.
    """
    names = [*_names(recipe), RULE]
    if name not in names:
        raise ConfigError(
            f"--pick {name}: no such candidate; choose {', '.join(names[:-1])}, or {RULE}"
        )
    return name != (tokens.picked_candidate(recipe) or RULE)


@contextlib.contextmanager
def pick(recipe: Recipe, name: str) -> Iterator[None]:
    """Pick a candidate, which overrides the rule from now on; `RULE` clears the pick.

    Restores the previous pick if the block raises.
    """
    before = tokens.picked_candidate(recipe)
    _write_pick(recipe, name)
    try:
        yield
    except BaseException:
        _write_pick(recipe, before or RULE)
        raise


def select(recipe: Recipe) -> tuple[str, str]:
    """Select the candidate that becomes the tokenizer; returns its name and the reason.

    Raises ConfigError for a pick that is not a candidate, StageError until all are measured, also by the
    measure to choose by.
    """
    vocabularies = {v.name: v.vocab_size for v in recipe.tokenizer.specs()}
    name = manual_pick(recipe)
    require(candidates.units(run_of(recipe), recipe), "jobs.tokenizer")
    if name is not None:
        return name, "picked by hand"
    if len(vocabularies) == 1:
        return next(iter(vocabularies)), "the only candidate"
    measured = {name: figures(recipe, name) for name in vocabularies}
    _require_measure(recipe, measured)
    return select_by_rule(recipe.tokenizer.choose, vocabularies, measured)


def select_by_rule(
    rule: Choice, sizes: Mapping[str, int], measured: Mapping[str, Mapping[str, float]]
) -> tuple[str, str]:
    """Apply a rule to the sizes and measures of all candidates; returns a name and the reason."""
    exact = [name for name in sizes if measured[name]["exact"] == 1]
    names = exact if rule.exact and exact else list(sizes)
    sign = 1 if rule.measure in _LESS_IS_BETTER else -1
    values = {name: measured[name][rule.measure] for name in names}
    best = min(names, key=lambda name: sign * values[name])
    near = [
        name for name in names
        if sign * (values[name] - values[best]) <= rule.margin * abs(values[best])
    ]  # fmt: skip
    name = min(near, key=lambda name: (sizes[name], sign * values[name]))
    reason = f"{rule.measure} {values[name]:.4f}, the best of {len(names)}"
    if name != best:
        reason = (
            f"{rule.measure} {values[name]:.4f}, the smallest vocabulary within {rule.margin:.1%} of the "
            f"best, {values[best]:.4f}"
        )
    return name, reason + (" (exact candidates only)" if len(names) < len(sizes) else "")


def figures(recipe: Recipe, name: str) -> dict[str, float]:
    """The measures of a candidate. Raises StageError if it is not measured yet."""
    folder = Workspace(Path(recipe.workspace)).candidate(name)
    values: dict[str, float] = manifest.read(folder, "jobs.tokenizer")["measures"]
    return values


def report(recipe: Recipe) -> str:
    """Write a table of all candidates, with the chosen one marked, and a plot; returns the table.

    Raises StageError if a candidate is not measured yet.
    """
    name, reason = select(recipe)
    vocabularies = recipe.tokenizer.specs()
    measured = {v.name: figures(recipe, v.name) for v in vocabularies}
    lines = [
        f"| candidate | {' | '.join(heading for heading, _ in COLUMNS.values())} |",
        f"| --- |{' ---: |' * len(COLUMNS)}",
    ]
    for candidate, values in measured.items():
        cells = (
            format(values[key], style) if key in values else ""
            for key, (_, style) in COLUMNS.items()
        )
        lines.append(f"| {candidate}{' *' * (candidate == name)} | {' | '.join(cells)} |")
    held_out = next(iter(measured.values()))
    lines += [
        "",
        f"Measured on {held_out['documents']:,.0f} held-out documents, {held_out['characters']:,.0f} "
        f"characters. Chosen (*): {name}, {reason}.",
    ]
    text = "\n".join(lines) + "\n"
    folder = Workspace(Path(recipe.workspace)).candidates
    write_text(folder / TABLE, text)
    measures.compare([(v, measured[v.name]) for v in vocabularies], folder / PLOT)
    return text


def _source(recipe: Recipe) -> tuple[Path, str]:
    """The verified folder of the selected candidate, and the reason."""
    name, reason = select(recipe)
    folder = Workspace(Path(recipe.workspace)).candidate(name)
    return manifest.verified(folder, "jobs.tokenizer"), reason


def _require_measure(recipe: Recipe, measured: Mapping[str, Mapping[str, float]]) -> None:
    """Raise StageError if an older version measured a candidate, without the measure to choose by."""
    measure = recipe.tokenizer.choose.measure
    for name, values in measured.items():
        if measure not in values:
            folder = Workspace(Path(recipe.workspace)).candidate(name)
            raise StageError(
                f"{folder}: measured without {measure}, by an older version; remove the folder, and run "
                "ekiden tokenizer again"
            )


def _names(recipe: Recipe) -> list[str]:
    return [vocabulary.name for vocabulary in recipe.tokenizer.specs()]


def _write_pick(recipe: Recipe, name: str) -> None:
    path = Workspace(Path(recipe.workspace)).pick
    if name == RULE:
        path.unlink(missing_ok=True)
    else:
        write_json(path, {"candidate": name})
