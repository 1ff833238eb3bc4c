"""Whether a recipe fits in its GPUs and nodes, told before anything is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from jobs import plan
from kit.cluster.preflight import memory as check
from kit.cluster.preflight.finding import NotChecked, Site
from kit.config.devices import ACCELERATORS
from kit.plan import fit, memory, page, shape
from kit.relay import planning, resolve, submit_checks
from kit.store.files import write_json
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.run import Project

HERE = ROOT / "configs"
WHOLE = ("training.loss_chunk=null", "training.deepspeed=zero2")  # all logits at once, no offload


def article(*overrides: str, cluster: str = "mdx") -> Project:
    return resolve.load(HERE / "gpt2-xl-ja-article.yaml", [*overrides], cluster)


def llama(*overrides: str, cluster: str = "mdx") -> Project:
    return resolve.load(HERE / "llama-1b-ja.yaml", [*overrides], cluster)


def today(*overrides: str, cluster: str = "mdx") -> Project:
    return resolve.load(HERE / "gpt2-xl-ja.yaml", [*overrides], cluster)


def misfits(project: Project) -> list[fit.Misfit]:
    return fit.misfits(project.recipe, project.cluster)


def refused(project: Project) -> list[str]:
    """What `submit` refuses of it by its memory."""
    return [*submit_checks._of_memory(project)]


@pytest.mark.parametrize("project", [today(), llama()], ids=["gpt2", "llama"])
def test_the_recipes_of_today_leave_a_tenth_of_an_a100_of_40_gb_free(project: Project) -> None:
    assert (project.cluster.training.accelerator, project.cluster.training.ranks) == ("a100", 8)
    needed = memory.total(shape.setup(project.recipe, project.cluster))
    assert needed <= 0.9 * ACCELERATORS["a100"].memory == 36e9


@pytest.mark.parametrize(
    "project", [today(), llama(), article()], ids=["today", "llama", "article"]
)
def test_the_recipes_fit_on_the_node_that_they_are_written_for(project: Project) -> None:
    assert misfits(project) == []
    assert submit_checks.tight_memory(project) == []


def test_without_its_chunked_loss_and_offload_the_article_does_not_fit_and_is_told(
    tmp_path: Path,
) -> None:
    project = article(*WHOLE, f"workspace={tmp_path}")
    (line,) = submit_checks.tight_memory(project)
    assert line == (
        "training.micro_batch=3: a rank needs 42.3 GB, and a100 has 40 GB (computed); set "
        "training.micro_batch=2 or model.activation_checkpointing=true, or "
        "name the larger card: cluster.training.accelerator=a100-80gb"
    )
    assert any(line in row for row in page.lines(planning.facts(project)))
    assert refused(project) == []  # an estimate: the allowances may be too high


@pytest.mark.parametrize(
    ("project", "named"),
    [
        (lambda: article("cluster.training.memory_gb=32"), "cluster.training.memory_gb=32"),
        (lambda: article("training.micro_batch=6"), "training.micro_batch=6"),
        (lambda: today("training.micro_batch=16"), "training.micro_batch=16"),
        (lambda: today("cluster.training.accelerator=v100"), "v100 has 16 GB"),
        (lambda: today("model.n_layer=4000", "model.n_embd=16000", cluster="local"), "machine has"),
    ],
)  # fmt: skip
def test_what_cannot_fit_is_refused_with_its_figures_and_a_remedy(
    project: object, named: str
) -> None:
    assert callable(project)
    lines = refused(project())
    assert len(lines) == 1
    assert named in lines[0]
    assert " GB" in lines[0]
    assert any(word in lines[0] for word in ("; set ", "; raise it", "; take "))
    assert "\n" not in lines[0]


def test_the_memory_of_offload_and_saves_is_that_of_all_ranks_of_a_node() -> None:
    (misfit,) = misfits(article("cluster.training.memory_gb=32"))
    # kit/plan/host.py: processes, AdamW offloaded, the model being built, and what is read of a checkpoint.
    assert "a node needs 146 GB of host memory" in misfit.text
    assert "training.deepspeed=zero2" in misfit.remedy
    halves = article(
        "cluster.training.nodes=2", "cluster.training.memory_gb=16", "training.micro_batch=1",
    )  # fmt: skip
    assert "a node needs 125 GB of host memory" in misfits(halves)[0].text


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("training.micro_batch=64",),
        ("model.n_layer=400",),
        ("training.loss_chunk=null", "training.micro_batch=32"),
        ("cluster.training.accelerator=v100",),
        ("cluster.training.accelerator=t4", "model.n_layer=90"),
    ],
)
def test_the_remedy_helps(overrides: tuple[str, ...]) -> None:
    spacious = ("cluster.training.memory_gb=1000", *overrides)
    for misfit in misfits(today(*spacious)):
        ways = misfit.remedy.removeprefix("set ").partition(", or name")[0]
        for way in ways.split(" or "):
            assert misfits(today(*spacious, *way.split())) == [], way


def test_a_model_for_which_nothing_helps_needs_other_gpus() -> None:
    (misfit, _) = misfits(today("model.n_layer=4000"))
    assert misfit.remedy == "take more GPUs, or larger ones"


def test_a_run_that_has_begun_has_shown_that_it_fits(tmp_path: Path) -> None:
    project = article("training.micro_batch=6", f"workspace={tmp_path}")
    assert len(refused(project)) == 1
    project.run.attempt(1).root.mkdir(parents=True)
    assert refused(project) == submit_checks.tight_memory(project) == []


def test_a_rehearsal_may_show_what_is_computed_not_to_fit(tmp_path: Path) -> None:
    project = article("training.micro_batch=6", f"workspace={tmp_path}")
    project.run.root.mkdir(parents=True)
    write_json(project.run.identity, {"rehearsal_of": "another"})
    assert refused(project) == []
    assert len(submit_checks.tight_memory(project)) == 1


def test_bf16_on_a_gpu_without_it_is_refused() -> None:
    (line,) = refused(article("cluster.training.accelerator=v100-32gb", "training.micro_batch=2"))
    assert line.startswith("training.precision=bf16: v100-32gb has no bf16")


@pytest.mark.parametrize(
    ("overrides", "result"),
    [((), "ok"), (WHOLE, "warning"), (("training.micro_batch=6",), "bad")],
)
def test_the_check_of_a_site_says_the_same(overrides: tuple[str, ...], result: str) -> None:
    project = article(*overrides)
    site = Site(project.run, project.recipe, project.cluster, "login")
    assert check.needed(site).result == result


def test_the_memory_of_an_unnamed_gpu_is_not_checked() -> None:
    project = today("cluster.training.accelerator=null")
    with pytest.raises(NotChecked, match=r"cluster\.training\.accelerator"):
        check.needed(Site(project.run, project.recipe, project.cluster, "login"))


def printed(*words: str) -> str:
    done = CliRunner().invoke(plan.app, ["gpt2-xl-ja", *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_kinds_of_nodes_are_compared_in_columns() -> None:
    text = printed("--gpus", "8xa100,4xv100-32gb", "--mfu", "0.5")
    rows = {line[:24].strip(): line[24:].split() for line in text.splitlines()[2:]}
    assert rows["precision"] == ["bf16", "fp16"]  # auto, on each
    assert rows["attention"] == ["flash", "memory-efficient"]
    assert rows["largest micro-batch"] == ["8", "4"]
    rates = [float(cell.replace(",", "")) for cell in rows["tokens per second"]]
    assert rates[0] / rates[1] == pytest.approx(8 * 312 / (4 * 125), rel=1e-3)
    assert rows["days"] == ["-", "-"]
    assert "days: unknown" in text
    assert "does NOT fit" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gpus", "8xb300"), "--gpus 8xb300: write the GPUs of a node as NUMBERxNAME"),
        (("--gpus", "a100"), "--gpus a100: write"),
        (
            ("--gpus", "7xa100"),
            "--gpus 7xa100: gpt2-xl-ja: training.global_batch=512 is not a multiple",
        ),
        (("--gpus", "8xa100", "--cluster", "mdx"), "--cluster: no effect with --gpus"),
        (("--gpus", "8xa100", "cluster.training.nodes=2"), "cluster.training.nodes=2: no effect"),
        (("--gpus", "8xa100", "--simulate"), "--simulate: no effect with --gpus"),
    ],
)
def test_kinds_that_cannot_be_compared_are_refused(words: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(plan.app, ["gpt2-xl-ja", *words])
    assert message in str(done.exception)
