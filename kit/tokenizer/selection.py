"""The candidate that becomes the tokenizer, by the recipe's rule or a user's pick: the tokenizer stage."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.run import run_of
from kit.config.section import read_resolved
from kit.data import tokens
from kit.errors import ConfigError
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

RULE = "rule"  # in place of a candidate's name: the recipe's rule again
TABLE, PLOT = "report.md", "report.png"
_LESS_IS_BETTER = ("bits_per_byte", "fertility")
_COLUMNS = {  # of the table: a measure, its heading, its format
    "characters_per_token": ("characters a token", ".4f"),
    "fertility": ("tokens a word", ".4f"),
    "unknown_rate": ("unknown", ".3%"),
    "exact": ("exact", ".2%"),
    "vocabulary_used": ("entries used", ".1%"),
    "bits_per_byte": ("bits per byte", ".4f"),
    "tokens_per_second": ("tokens/s", ",.0f"),
}


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """The one unit of the stage. Raises StageError while a shard is missing."""

    def make(folder: Path) -> Mapping[str, Any]:
        source, reason = _source(recipe)
        for file in (huggingface.FILE, huggingface.SETTINGS):
            with atomic(folder / file) as out:
                out.write((source / file).read_bytes())
        made_from = manifest.read(source, "jobs.tokenizer")
        return {
            "candidate": source.name,
            "reason": reason,
            "vocabulary": made_from["vocabulary"],
            "spaces": recipe.tokenizer.spec(source.name).spaces,
        }

    folder = Workspace(Path(recipe.workspace)).tokenizer
    return [Unit("tokenizer", folder, tokens.tokenizer_causes(recipe), make)]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads. It reports on the candidates."""
    recipe = read_resolved(run.recipe, Recipe)
    _source(recipe)  # or it says why not, before the tokenizer that is there goes
    make_units("tokenizer", units(run, recipe), task, tasks)
    if recipe.tokenizer.candidates:
        log.info(f"tokenizer: the candidates\n{report(recipe)}")


def picked(recipe: Recipe) -> str | None:
    """The user's pick, if there is one. Raises ConfigError where the recipe has no such candidate."""
    if (name := tokens.picked_candidate(recipe)) not in (None, *_names(recipe)):
        raise ConfigError(
            f"{Workspace(Path(recipe.workspace)).pick}: {name} is none of the recipe's candidates; "
            f"pick another with jobs.tokenizer run --pick, or --pick {RULE}"
        )
    return name


def differs(recipe: Recipe, name: str) -> bool:
    """Whether picking a candidate, or `RULE`, changes anything.

    Raises ConfigError for a name that is no candidate's.
    """
    names = [*_names(recipe), RULE]
    if name not in names:
        raise ConfigError(
            f"--pick {name}: no such candidate; there are {', '.join(names[:-1])}, or {RULE}"
        )
    return name != (tokens.picked_candidate(recipe) or RULE)


@contextlib.contextmanager
def picking(recipe: Recipe, name: str) -> Iterator[None]:
    """Have a candidate be the tokenizer from here on, whatever the rule says; `RULE` takes that back.

    Where the block raises, all is as it was.
    """
    before = tokens.picked_candidate(recipe)
    _write_pick(recipe, name)
    try:
        yield
    except BaseException:
        _write_pick(recipe, before or RULE)
        raise


def chosen(recipe: Recipe) -> tuple[str, str]:
    """The name of the candidate that is to be the tokenizer, and why.

    Raises ConfigError for a pick that is no candidate, StageError while one is not measured.
    """
    vocabularies = {v.name: v.vocab_size for v in recipe.tokenizer.specs()}
    name = picked(recipe)
    require(candidates.units(run_of(recipe), recipe), "jobs.tokenizer")
    if name is not None:
        return name, "picked by hand"
    if len(vocabularies) == 1:
        return next(iter(vocabularies)), "the only one"
    found = {name: figures(recipe, name) for name in vocabularies}
    return by_rule(recipe.tokenizer.choose, vocabularies, found)


def by_rule(
    rule: Choice, sizes: Mapping[str, int], found: Mapping[str, Mapping[str, float]]
) -> tuple[str, str]:
    """The candidate that a rule chooses by the sizes and measures of all, and why."""
    exact = [name for name in sizes if found[name]["exact"] == 1]
    names = exact if rule.exact and exact else list(sizes)
    sign = 1 if rule.measure in _LESS_IS_BETTER else -1
    values = {name: found[name][rule.measure] for name in names}
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
    return name, reason + (" that are exact" if len(names) < len(sizes) else "")


def figures(recipe: Recipe, name: str) -> dict[str, float]:
    """What was measured of a candidate. Raises StageError before."""
    folder = Workspace(Path(recipe.workspace)).candidate(name)
    found: dict[str, float] = manifest.read(folder, "jobs.tokenizer")["measures"]
    return found


def report(recipe: Recipe) -> str:
    """The table of all candidates, the chosen one marked; it and a plot are written beside them.

    Raises StageError where one is not measured yet.
    """
    name, reason = chosen(recipe)
    vocabularies = recipe.tokenizer.specs()
    found = {v.name: figures(recipe, v.name) for v in vocabularies}
    lines = [
        f"| candidate | {' | '.join(heading for heading, _ in _COLUMNS.values())} |",
        f"| --- |{' ---: |' * len(_COLUMNS)}",
    ]
    for candidate, measured in found.items():
        shown = (format(measured[key], style) for key, (_, style) in _COLUMNS.items())
        lines.append(f"| {candidate}{' *' * (candidate == name)} | {' | '.join(shown)} |")
    held_out = next(iter(found.values()))
    lines += [
        "",
        f"Measured on {held_out['documents']:,.0f} held-out documents, {held_out['characters']:,.0f} "
        f"characters. Chosen (*): {name}, {reason}.",
    ]
    text = "\n".join(lines) + "\n"
    folder = Workspace(Path(recipe.workspace)).candidates
    write_text(folder / TABLE, text)
    measures.compare([(v, found[v.name]) for v in vocabularies], folder / PLOT)
    return text


def _source(recipe: Recipe) -> tuple[Path, str]:
    """The folder of the chosen candidate, as it was made, and why that one."""
    name, reason = chosen(recipe)
    folder = Workspace(Path(recipe.workspace)).candidate(name)
    return manifest.verified(folder, "jobs.tokenizer"), reason


def _names(recipe: Recipe) -> list[str]:
    return [vocabulary.name for vocabulary in recipe.tokenizer.specs()]


def _write_pick(recipe: Recipe, name: str) -> None:
    path = Workspace(Path(recipe.workspace)).pick
    if name == RULE:
        path.unlink(missing_ok=True)
    else:
        write_json(path, {"candidate": name})
