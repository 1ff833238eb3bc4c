"""`training.micro_batch: auto`: what it becomes, where that is on record, and who has another say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs import plan, train
from jobs.command import Arguments
from kit.config import amendments
from kit.config.cluster import Cluster
from kit.config.devices import ACCELERATORS
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import tokens
from kit.errors import ClusterError, ConfigError, RunError
from kit.plan import comparison_page, memory, micro_batch, page, shape
from kit.relay import comparing, fork, planning, rehearsal_page, rehearsing, resolve, submit_checks
from kit.relay.chain import Plan
from kit.relay.stages import TRAIN
from kit.relay.submit import _tell_micro_batch
from kit.run import directory
from kit.run import micro_batch as decided
from kit.run.proposal import propose
from kit.store.files import read_json, write_json
from kit.store.paths import Workspace
from kit.store.records import DOES_NOT_FIT
from kit.training.batches import training_batches
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    import typer

    from kit.config.run import Project
    from kit.store.paths import Run
    from tests.conftest import Workdir

AUTO = "training.micro_batch=auto"
XL = ROOT / "configs" / "gpt2-xl-ja.yaml"


def number_and_reason(recipe: Recipe) -> tuple[int | str, str | None]:
    return recipe.training.micro_batch, recipe.training.micro_batch_reason


def small(workdir: Workdir, *overrides: str) -> Project:
    return resolve.load(workdir.recipe_file, [AUTO, *overrides], "local")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), 8),
        (("cluster.training.accelerator=a100-80gb",), 16),
        (("model.activation_checkpointing=true",), 64),
        (("cluster.training.nodes=2", "training.deepspeed=zero1"), 8),
        (("training.global_batch=24",), 3),
    ],
)
def test_on_a_gpu_it_is_the_largest_that_divides_a_ranks_blocks_and_fits(
    tmp_path: Path, overrides: tuple[str, ...], expected: int
) -> None:
    project = resolve.load(XL, [AUTO, f"workspace={tmp_path}", *overrides], "mdx")
    recipe, cluster = project.recipe, project.cluster
    number, reason = number_and_reason(recipe)
    assert number == expected
    assert recipe.training.global_batch % (expected * cluster.training.ranks) == 0
    setup = shape.setup(recipe, cluster)
    name = cluster.training.accelerator
    assert name is not None
    limit = ACCELERATORS[name].memory
    assert memory.total(setup) <= limit
    sizes = micro_batch.divisors(recipe, cluster.training.ranks)
    for larger in sizes[sizes.index(expected) + 1 :]:
        other = micro_batch.with_micro_batch(recipe, larger)
        assert memory.total(shape.setup(other, cluster)) > limit
    assert reason is not None
    assert f"of {name}'s {limit / 1e9:.0f} GB (computed)" in reason


def test_on_a_cpu_activations_and_logits_have_a_bound_and_the_ranks_share_their_node(
    workdir: Workdir,
) -> None:
    number, reason = number_and_reason(small(workdir).recipe)
    assert number == 4  # all that each of two ranks has in a step
    assert reason is not None
    assert "at most 2 GB on a CPU" in reason
    wide = ("model.n_positions=1024", "model.n_embd=512", "training.global_batch=1024")
    number, _ = number_and_reason(small(workdir, *wide).recipe)
    assert isinstance(number, int)
    assert 1 < number < 512
    site = {"name": "site", "kind": "slurm", "device": "cpu"}
    tight = site | {"training": {"ranks_per_node": 2, "memory_gb": 1.5}}
    given = [AUTO, *wide]
    on_site = resolve.load(workdir.recipe_file, given, str(workdir.write("site.yaml", tight)))
    number_there, _ = number_and_reason(on_site.recipe)
    assert isinstance(number_there, int)
    assert number_there < number


def test_where_nothing_fits_submission_refuses_one_block_with_its_figures() -> None:
    given = [AUTO, "model.n_layer=200", "cluster.training.accelerator=t4"]
    project = resolve.load(XL, given, "mdx")
    number, reason = number_and_reason(project.recipe)
    assert number == 1
    assert reason is not None
    assert reason.startswith("not even one block fits: a rank needs ")
    (line,) = submit_checks._of_memory(project)
    assert line.startswith("training.micro_batch=1: a rank needs ")


def test_an_unknown_gpu_is_refused_with_the_keys_to_give(tmp_path: Path) -> None:
    given = [f"workspace={tmp_path}", "cluster.training.accelerator=null"]
    with pytest.raises(ConfigError) as refused:
        resolve.load(XL, [AUTO, *given], "mdx")
    (line,) = refused.value.args
    assert line.startswith("training.micro_batch=auto: the memory of the GPU is unknown; ")
    assert "cluster.training.accelerator (a100, " in line
    assert line.endswith("or give a number")
    resolve.load(XL, ["training.micro_batch=8", *given], "mdx")


def test_ranks_that_cannot_share_the_batch_are_refused_as_with_a_number(workdir: Workdir) -> None:
    project = small(workdir, "cluster.training.ranks_per_node=3")
    assert project.recipe.training.micro_batch == 1
    with pytest.raises(ConfigError, match=r"global_batch=8 is not a multiple of .* = 1 x 3"):
        submit_checks.check(project, [TRAIN.job(project.recipe)])


@pytest.mark.parametrize("word", ["many", "0", "2.5", "AUTO"])
def test_any_other_word_is_refused_with_both_that_are_allowed(workdir: Workdir, word: str) -> None:
    with pytest.raises(ConfigError, match=r"micro_batch='.*': input should be .*, or 'auto'"):
        resolve.load(workdir.recipe_file, [f"training.micro_batch={word}"])


def test_a_number_stays_and_has_no_reason(workdir: Workdir) -> None:
    assert number_and_reason(workdir.recipe("training.micro_batch=2")) == (2, None)


def test_the_order_of_data_does_not_depend_on_what_fits(tmp_path: Path) -> None:
    stream = tokens.TokenStream((np.arange(4 * 700 + 1, dtype="<u2"),), (0, 4 * 700 + 1))
    read, numbers = [], []
    for gpu in ("a100", "a100-80gb"):
        given = [AUTO, f"workspace={tmp_path}", f"cluster.training.accelerator={gpu}"]
        recipe = resolve.load(XL, given, "mdx").recipe
        numbers.append(recipe.training.micro_batch)
        short = recipe.model_copy(
            update={"model": recipe.model.model_copy(update={"n_positions": 4})}
        )
        step = {}
        for rank in range(8):
            batches = training_batches(short, stream, rank, 8)
            for number in range(batches.accumulation):
                first = batches.first_sample(512, number)
                blocks = batches.read(512, number)
                step |= {first + at: block.tolist() for at, block in enumerate(blocks)}
        read.append(step)
    assert numbers == [8, 16]
    assert read[0] == read[1]
    assert sorted(read[0]) == [*range(512, 1024)]


def test_a_run_records_a_number_and_keeps_it_once_it_has_begun(workdir: Workdir) -> None:
    project = small(workdir)
    run = directory.prepare(project)
    recorded = read_json(run.recipe)["training"]
    assert (recorded["micro_batch"], recorded["micro_batch_reason"]) == number_and_reason(
        project.recipe
    )
    assert "auto" not in {recorded["micro_batch"], recorded["precision"]}
    # As another machine would have decided.
    recorded |= {"micro_batch": 2, "micro_batch_reason": "a reason of its own"}
    write_json(run.recipe, read_json(run.recipe) | {"training": recorded})
    assert small(workdir).recipe.training.micro_batch == 4
    write_json(run.attempt(1).start, {"from_step": 0, "amendments": 0})
    assert number_and_reason(small(workdir).recipe) == (2, "a reason of its own")
    assert number_and_reason(resolve.load(run.root).recipe) == (2, "a reason of its own")
    assert number_and_reason(workdir.recipe("training.micro_batch=2"))[1] == "a reason of its own"
    with pytest.raises(RunError, match=r"different recipe \(training\.global_batch: 8 -> 7"):
        small(workdir, "training.global_batch=7", "cluster.training.ranks_per_node=1")


def rehearsed(project: Project, number: int, **training: Any) -> Run:
    """A rehearsal that ended well, as if a larger micro-batch had run out of memory."""
    run = Workspace(project.run.root.parents[1]).run(f"{project.recipe.name}-rehearsal")
    recipe = micro_batch.with_micro_batch(project.recipe, number, "the next below it").model_copy(
        update={"name": run.root.name}
    )
    changed = recipe.training.model_copy(update=training)
    write_json(run.recipe, recipe.model_copy(update={"training": changed}).model_dump(mode="json"))
    write_json(run.cluster, project.cluster.model_dump(mode="json"))
    write_json(run.attempt(1).end, {"job": "1", "outcome": "done", "reason": "done", "step": 10})
    return run


def test_a_submission_takes_what_a_rehearsal_has_found_and_says_so(workdir: Workdir) -> None:
    rehearsed(small(workdir), 1, steps=3)
    project = small(workdir)
    assert number_and_reason(project.recipe) == (1, "rehearsed on local: the next below it")
    said: list[str] = []
    _tell_micro_batch(project, Plan([TRAIN], []), said.append)
    assert said == ["training.micro_batch=1: rehearsed on local: the next below it"]
    assert workdir.recipe("training.micro_batch=2").training.micro_batch == 2


@pytest.mark.parametrize(
    "makes",
    [
        lambda run: run.attempt(1).end.unlink(),
        lambda run: write_json(run.attempt(1).end, {"outcome": "interrupted"}),
        lambda run: changed(run.recipe, "training", micro_batch_reason=None),  # given, not sought
        lambda run: changed(run.recipe, "training", loss_chunk=8),
        lambda run: changed(run.recipe, "model", n_layer=2),
        lambda run: changed(run.cluster, "training", ranks_per_node=4),
        lambda run: write_json(run.cluster, read_json(run.cluster) | {"name": "another"}),
    ],
    ids=["running", "interrupted", "given", "loss_chunk", "model", "ranks", "cluster"],
)
def test_a_rehearsal_of_something_else_says_nothing(workdir: Workdir, makes: Any) -> None:
    makes(rehearsed(small(workdir), 1))
    assert small(workdir).recipe.training.micro_batch == 4


def changed(path: Path, section: str, **values: Any) -> None:
    tree = read_json(path)
    write_json(path, tree | {section: tree[section] | values})


def test_a_rehearsal_steps_down_from_the_plans_until_one_fits(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rehearsed(small(workdir), 1)  # an earlier one: this one asks anew
    tried: list[tuple[Any, Any]] = []

    def run(project: Project, *_: Any, **__: Any) -> dict[str, Any]:
        tried.append(number_and_reason(project.recipe))
        if project.recipe.training.micro_batch != 2:
            raise ClusterError(f"train: {DOES_NOT_FIT} rank 1")
        return {"rehearsal": "here"}

    monkeypatch.setattr("kit.relay.rehearsal.rehearse", run)
    found = rehearsing.rehearse(small(workdir), 10)
    assert [number for number, _ in tried] == [4, 2]
    assert found["micro_batch"] == {
        "taken": 2,
        "reason": "the next below 4, which ran out of memory",
        "out_of_memory": [4],
        "use": "submit takes it where the recipe has training.micro_batch=auto; or give "
        "training.micro_batch=2",
    }
    assert [*rehearsal_page._micro_batch(found["micro_batch"])] == ["micro-batch", "to use it"]
    given = resolve.load(workdir.recipe_file, ["training.micro_batch=2"], "local")
    assert rehearsing.rehearse(given, 10)["micro_batch"] is None
    with pytest.raises(ClusterError, match=DOES_NOT_FIT):
        rehearsing.rehearse(small(workdir, "training.global_batch=2"), 10)
    assert not capsys.readouterr().out


def test_a_rehearsal_searches_though_the_run_has_begun_with_a_number(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = directory.prepare(
        resolve.load(workdir.recipe_file, ["training.micro_batch=2"], "local")
    )
    write_json(begun.attempt(1).start, {"from_step": 0, "amendments": 0})
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr("kit.relay.rehearsal.rehearse", lambda *_, **__: {"rehearsal": "here"})
    monkeypatch.setattr("kit.relay.rehearsal_page.show", reports.append)

    def rehearse(number: str) -> Any:
        arguments = Arguments(workdir.recipe_file, [f"training.micro_batch={number}"], "local")
        train.rehearse_verb(arguments, 10)
        return reports[-1]["micro_batch"]

    found = rehearse("auto")
    assert found["taken"] == 4
    amend = f"ekiden train amend {begun.root} training.micro_batch=4"
    assert found["use"] == amend
    train.amend_verb(begun.root, ["training.micro_batch=4"], False, None)
    assert rehearse("auto")["use"] == "nothing to do: the run has training.micro_batch=4"
    assert rehearse("2") is None
    assert number_and_reason(small(workdir).recipe) == (4, None)  # of any other command


def test_a_plan_and_an_acceptance_of_a_begun_run_say_whose_number_they_take(
    workdir: Workdir,
) -> None:
    def said(app: typer.Typer, *arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments[:-1], str(workdir.recipe_file), arguments[-1]])
        return done.stderr.splitlines()[0] if done.stderr else ""

    assert said(plan.app, AUTO) == ""  # the plan's own
    begun = directory.prepare(small(workdir))
    write_json(begun.attempt(1).start, {"from_step": 0, "amendments": 0})
    assert said(plan.app, AUTO).startswith(
        "training.micro_batch=4: that of the run, which has begun: the largest that divides the 4"
    )
    assert said(plan.app, "training.micro_batch=4") == ""
    train.amend_verb(begun.root, ["training.micro_batch=2"], False, None)
    amended = "training.micro_batch=2: that of the run, which has begun"
    assert said(plan.app, AUTO) == amended
    assert said(train.app, "acceptance", "--dry-run", AUTO) == amended
    assert said(plan.app, "--beside", "demo", AUTO) == amended
    assert said(plan.app, "--gpus", "8xa100", AUTO) == ""  # not the run's nodes


def test_an_amendment_to_auto_is_a_number_on_record_with_its_reason(
    workdir: Workdir, capsys: pytest.CaptureFixture[str]
) -> None:
    run = directory.prepare(resolve.load(workdir.recipe_file, ["training.micro_batch=2"], "local"))
    write_json(run.attempt(1).start, {"from_step": 0, "amendments": 0})
    old = read_json(run.recipe)
    del old["training"]["micro_batch_reason"]  # as an earlier version wrote it
    write_json(run.recipe, old)
    train.amend_verb(run.root, [AUTO], False, None)
    (row,) = amendments.read(run)
    assert (row["key"], row["old"], row["new"]) == ("training.micro_batch", 2, 4)
    assert row["reason"].startswith("the largest that divides the 4 blocks")
    assert f"training.micro_batch: 2 -> 4 ({row['reason']})\n" in capsys.readouterr().out
    assert read_json(run.recipe)["training"] == old["training"] | {"micro_batch": 4}
    assert number_and_reason(small(workdir).recipe) == (4, None)
    train.amend_verb(run.root, [AUTO], False, None)
    assert "nothing to change" in capsys.readouterr().out
    assert len(amendments.read(run)) == 1


def test_a_number_by_amendment_loses_the_reason_of_auto(workdir: Workdir) -> None:
    run = directory.prepare(small(workdir))
    write_json(run.attempt(1).start, {"from_step": 0, "amendments": 0})
    train.amend_verb(run.root, ["training.micro_batch=1"], False, None)
    assert number_and_reason(read_resolved(run.recipe, Recipe)) == (1, None)
    # `auto` in its file is what the run has.
    assert number_and_reason(small(workdir).recipe) == (1, None)
    amended = resolve.read_run(run.root)
    both = propose(amended, [AUTO, "cluster.training.ranks_per_node=4"])
    assert both.recipe.training.micro_batch == 2  # what four ranks can share
    assert [row["key"] for row in both.rows] == [
        "training.micro_batch", "cluster.training.ranks_per_node",
    ]  # fmt: skip


def test_a_fork_resolves_auto_for_itself(workdir: Workdir) -> None:
    parent = resolve.load(workdir.recipe_file, ["training.micro_batch=1"], "local")
    cluster = Cluster.model_validate(parent.cluster.model_dump())
    given = fork.changed_recipe(parent.recipe, [AUTO, "name=branch"])
    made = decided.changed(parent.recipe, type(parent)(parent.run, given, cluster))
    number, reason = number_and_reason(made)
    assert number == 4
    assert reason is not None
    back = fork.changed_recipe(made, ["training.micro_batch=2"])
    project = type(parent)(parent.run, back, cluster)
    assert number_and_reason(decided.changed(made, project)) == (2, None)


def test_side_by_side_each_kind_of_node_has_its_own(tmp_path: Path) -> None:
    project = resolve.load(XL, [AUTO, f"workspace={tmp_path}"], "local")
    found = comparing.facts(project, ["8xa100", "8xa100-80gb", "4xv100-32gb"])
    assert [node["as_written"]["micro_batch"] for node in found["nodes"]] == [8, 16, 4]
    assert [node["largest"]["micro_batch"] for node in found["nodes"]] == [8, 16, 4]
    assert any(
        line.split() == ["micro-batch", "8", "16", "4"] for line in comparison_page.lines(found)
    )
    with pytest.raises(ConfigError, match=r"--gpus 3xa100: .* = 1 x 3"):
        comparing.facts(project, ["3xa100"])


def test_the_plan_says_why_it_is_this_one(tmp_path: Path) -> None:
    project = resolve.load(XL, [AUTO, f"workspace={tmp_path}"], "mdx")
    lines = page.lines(planning.facts(project))
    (line,) = (one for one in lines if "the sum, at micro-batch" in one)
    assert f"micro-batch 8: {project.recipe.training.micro_batch_reason}" in line
