"""The plan of a run: each figure with its source, before and after a rehearsal."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from jobs import plan
from kit.cluster.preflight import quota
from kit.config.load import load_recipe
from kit.errors import ConfigError
from kit.plan import beside_page, page, rate
from kit.plan.simulation.given import Chances
from kit.relay import planning, resolve
from kit.store.files import append_line, write_json
from kit.tracking import ledger
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.run import Project
    from tests.conftest import Workdir

STEPS = 277_433  # ten epochs of 15 billion tokens, 540,672 a step


def facts(
    recipe: str, *overrides: str, mfu: float | None = None, cluster: str = "mdx"
) -> dict[str, Any]:
    given = [*overrides, "workspace=/none"]  # where there is neither a rehearsal nor a text
    return planning.facts(resolve.load(ROOT / "configs" / f"{recipe}.yaml", given, cluster), mfu)


def test_the_article_takes_its_seventy_days_at_ten_percent() -> None:
    found = facts("gpt2-xl-ja-article", f"training.steps={STEPS}", mfu=0.102)
    # 6 x 1,557,200,000 + 12 x 48 x 1,600 x 1,024 FLOP a token
    assert found["time"]["flops_per_token"]["value"] == 10_286_918_400
    # 150e9 x 10.287e9 / (8 x 312e12 x 0.102) seconds are 70.2 days.
    assert found["time"]["days"]["value"] == pytest.approx(70.2, abs=0.1)
    assert found["parameters"]["total"]["value"] == 1_557_200_000
    assert found["memory"]["fits"]
    # 6.5 failures in 1,000 node-days; limits of three days.
    assert found["interruptions"]["failures"]["usual"]["value"] == pytest.approx(0.456, abs=0.001)
    assert found["interruptions"]["time_limits"]["value"] == 23


def test_the_recipe_of_today_has_a_micro_batch_of_eight() -> None:
    memory = facts("gpt2-xl-ja")["memory"]
    assert memory["largest_micro_batch"]["value"]["plain"] == 8
    assert 31e9 < memory["total"]["value"] < 33e9
    assert not facts("gpt2-xl-ja", "training.micro_batch=16")["memory"]["fits"]


def commented(recipe: str, pattern: str) -> tuple[float, ...]:
    """The numbers in a comment of the recipe."""
    text = (ROOT / "configs" / f"{recipe}.yaml").read_text(encoding="utf-8")
    found = re.search(pattern.replace("N", r"([\d.]+)"), text)
    assert found is not None, pattern
    return tuple(map(float, found.groups()))


@pytest.mark.parametrize(
    ("recipe", "cluster"),
    [("gpt2-xl-ja", "mdx"), ("gpt2-xl-ja-2nodes", "mdx-2nodes"), ("llama-1b-ja", "mdx")],
)
def test_the_memory_in_a_recipes_comment_is_that_of_the_plan(recipe: str, cluster: str) -> None:
    memory = facts(recipe, cluster=cluster)["memory"]
    planned = (memory["tensors"], memory["total"], memory["limit"])
    said = commented(recipe, "# N GB of tensors, N GB of N in all")
    assert said == tuple(round(fact["value"] / 1e9, 1) for fact in planned)
    assert memory["fits"]
    assert memory["total"]["value"] < 0.9 * memory["limit"]["value"]


@pytest.mark.parametrize("recipe", ["gpt2-xl-ja", "llama-1b-ja"])
def test_the_pace_in_a_recipes_comment_is_that_of_the_plan(recipe: str) -> None:
    found = facts(recipe)
    estimate = found["time"]["estimated_seconds"]
    fast, slow = estimate["value"]
    days, most_days, low, high, assumed = commented(
        recipe, "take N to N days at an MFU of N to N% .* a cautious N%"
    )
    assert f"an MFU of {low:.0f}% to {high:.0f}%" in estimate["source"]
    assert assumed / 100 == rate.MFU
    steps = 150e9 / found["time"]["tokens_a_step"]["value"]
    assert [days, most_days] == [round(steps * one / 86_400) for one in (fast, slow)]
    every, seconds, size = commented(recipe, "keep_every: N .* at N s a step .*; N GB each")
    assert seconds == pytest.approx((fast + slow) / 2, abs=0.05)
    assert every * seconds == pytest.approx(86_400, rel=0.05)
    assert size == round(found["checkpoints"]["bytes"]["value"] / 1e9)


def test_a_pace_is_estimated_for_large_matrices_on_one_node_only() -> None:
    for other in ("training.micro_batch=4", "model.dropout=0.1", "cluster.training.nodes=2",
                  "cluster.training.accelerator=h100", "training.deepspeed=zero2-offload",
                  "model.activation=gelu_new", "training.compile=true",
                  "training.optimizer=muon"):  # fmt: skip
        assert facts("gpt2-xl-ja", other)["time"]["estimated_seconds"]["value"] is None


def test_a_pace_is_estimated_from_kernels() -> None:
    # GPT-2 XL, a micro-batch of 8,192 tokens: matrix products 6 x 1,557,276,800 x 8,192 FLOP at 205 TFLOP/s
    # are 0.373 s; attention 7 x 48 x 1,600 x 1,024 x 8,192 FLOP at 113 TFLOP/s 0.040 s; 48 layers of 208 kB
    # a token, and 50,048 logits of 32 bytes, at 1.3 TB/s 0.063 and 0.010 s; 0.02 s of idling. 8 of them.
    fast, slow = facts("gpt2-xl-ja")["time"]["estimated_seconds"]["value"]
    assert fast == pytest.approx(8 * (0.3734 + 0.0399 + 0.0629 + 0.0101 + 0.02), rel=1e-3)
    assert slow == 1.1 * fast
    # A Llama: 6 x 1,008,535,552 without the embedding, 7 x 16 x 2,048 x 1,024, 16 layers of 903 kB.
    fast, _ = facts("llama-1b-ja")["time"]["estimated_seconds"]["value"]
    assert fast == pytest.approx(16 * (0.2418 + 0.0170 + 0.0911 + 0.0101 + 0.02), rel=1e-3)


def test_the_llama_sends_its_gradients_once_a_step() -> None:
    said = commented("llama-1b-ja", "# N GB cross the ranks once a step, where zero2 sends N GB")
    sent = (facts("llama-1b-ja"), facts("llama-1b-ja", "training.deepspeed=zero2"))
    values = tuple(each["communication"]["gradients"]["value"] / 1e9 for each in sent)
    assert said == pytest.approx(values, rel=0.01)


def test_the_llama_is_smaller_than_gpt2_xl_as_its_recipe_says() -> None:
    found = [facts(recipe) for recipe in ("llama-1b-ja", "gpt2-xl-ja")]
    said = commented("llama-1b-ja", "N B parameters, where gpt2-xl-ja has N B")
    assert said == tuple(round(one["parameters"]["total"]["value"] / 1e9, 2) for one in found)
    work = commented("llama-1b-ja", "a token takes N GFLOP for N ")
    assert work == tuple(round(one["time"]["flops_per_token"]["value"] / 1e9, 2) for one in found)


def test_zero1_sends_the_gradients_of_gpt2_xl_once_a_step_and_holds_them_whole() -> None:
    # 1,557,276,800 parameters; 512 blocks a step are 8 micro-batches of 8 on each of 8 ranks.
    found = facts("gpt2-xl-ja")["communication"]
    assert found["gradients"]["value"] == 8 * 4 * 1_557_276_800
    assert found["with_zero1"]["value"] == 2 * 1_557_276_800
    assert "5.45 GB more of gradients" in found["zero1_memory"]["source"]
    bf16 = 'training.deepspeed={"zero_optimization": {"stage": 2}}'
    assert facts("gpt2-xl-ja", bf16)["communication"]["gradients"] == {
        "value": 8 * 2 * 1_557_276_800,
        "source": "ZeRO-2, at each of 8 micro-batches: all-reduce of 3.11 GB, 16 bits a gradient",
    }


def test_on_one_node_with_nvlink_zero2_waits_little_longer_than_zero1_and_leaves_more_memory() -> (
    None
):
    found = facts("gpt2-xl-ja")
    sent = found["communication"]
    # An all-reduce of eight ranks is limited by 14/8 of its bytes, at 228 GB/s; the last bucket of 200
    # million fp32 numbers in each of eight micro-batches, and all bf16 gradients once.
    waits = (sent["wait_seconds"]["value"], sent["zero1_wait_seconds"]["value"])
    expected = (8 * 1.75 * 800e6 / 228e9, 1.75 * 2 * 1_557_276_800 / 228e9)
    assert waits == pytest.approx(expected)
    difference = (waits[0] - waits[1]) / found["time"]["estimated_seconds"]["value"][0]
    assert 0 < difference < 0.01
    memory = sent["zero1_memory"]["value"]
    assert memory > 0.9 * 40e9 > found["memory"]["total"]["value"]
    said = commented("gpt2-xl-ja", "micro-batch: N s of a step wait")
    said += commented("gpt2-xl-ja", "once a step: N s, in bf16, for N GB")
    assert said == pytest.approx((*waits, memory / 1e9), rel=0.02)
    pages = page.lines(found)
    assert [line.split()[2] for line in pages if "waited for" in line] == [
        "0.049", "0.012", "0.024",
    ]  # fmt: skip


def test_updated_weights_are_gathered_as_zero_shares_them() -> None:
    weights = 2 * 1_557_276_800  # bytes, in bf16
    found = facts("gpt2-xl-ja")["communication"]
    assert found["weights"]["value"] == weights
    assert found["weights_wait_seconds"]["value"] == pytest.approx(7 / 8 * weights / 228e9)
    third = facts("gpt2-xl-ja", 'training.deepspeed={"zero_optimization": {"stage": 3}}')
    assert third["communication"]["weights"] == {
        "value": 2 * 8 * weights,
        "source": "ZeRO-3, at most twice at each of 8 micro-batches: all-gather of 3.11 GB",
    }
    assert "weights_wait_seconds" not in third["communication"]
    keeps = '{"stage": 3, "stage3_max_live_parameters": 2e9}'
    kept = facts("gpt2-xl-ja", f'training.deepspeed={{"zero_optimization": {keeps}}}')
    assert kept["communication"]["weights"]["value"] == 8 * weights
    more = [one["memory"]["parts"]["buckets"]["value"] for one in (third, kept)]
    assert more[1] - more[0] == weights - 2e9
    for stage in (0, 1, 2):
        zero = f'training.deepspeed={{"zero_optimization": {{"stage": {stage}}}}}'
        given = (zero, "training.gradient_dtype=bf16", "cluster.training.ranks_per_node=2")
        each = facts("gpt2-xl-ja", *given)["communication"]
        assert ("weights" in each) == (stage > 0)


def test_links_that_are_too_slow_for_the_backward_pass_are_waited_for() -> None:
    slow = "cluster.checks.all_reduce_gb_s=10"
    found = facts("gpt2-xl-ja", slow)
    whole = 8 * 1.75 * 4 * 1_557_276_800 / 10e9
    hidden = found["time"]["seconds_a_step"]["value"] * 2 / 3
    wait = found["communication"]["wait_seconds"]
    assert wait["value"] == pytest.approx(whole - hidden)
    assert wait["source"].startswith("what the backward passes do not hide of 8.7 s at ")
    in_turn = 'training.deepspeed={"zero_optimization": {"stage": 2}}'
    wait = facts("gpt2-xl-ja", in_turn)["communication"]["wait_seconds"]
    assert wait["source"].startswith("all of 0.19 s")
    for other in ("cluster.training.nodes=2", "training.deepspeed=zero2-offload"):
        assert "wait_seconds" not in facts("gpt2-xl-ja", other)["communication"]


def test_the_recipe_for_two_nodes_is_the_one_for_one_with_another_zero() -> None:
    one, two = (
        load_recipe(ROOT / "configs" / f"gpt2-xl-ja{name}.yaml", []) for name in ("", "-2nodes")
    )
    assert isinstance(two.training.deepspeed, dict)
    assert two.training.deepspeed["zero_optimization"]["stage"] == 1
    same = {"name": two.name, "training": two.training}
    assert one.model_copy(update=same) == two
    zero = {"deepspeed": two.training.deepspeed}
    assert one.training.model_copy(update=zero) == two.training
    found = facts(two.name, cluster="mdx-2nodes")
    assert found["nodes"] == 2
    said = commented(two.name, "# N GB cross the ranks once a step, where zero2 sends N GB")
    sent = (found, facts("gpt2-xl-ja", cluster="mdx-2nodes"))
    values = tuple(each["communication"]["gradients"]["value"] / 1e9 for each in sent)
    assert said == pytest.approx(values, rel=0.01)


def test_the_cluster_of_two_nodes_is_that_of_one_twice() -> None:
    recipe = ROOT / "configs" / "gpt2-xl-ja.yaml"
    one, two = (resolve.load(recipe, [], name).cluster for name in ("mdx", "mdx-2nodes"))
    nodes = one.training.model_copy(update={"nodes": 2})
    assert one.model_copy(update={"name": two.name, "training": nodes}) == two


def test_the_parts_are_the_whole() -> None:
    for recipe in ("gpt2-xl-ja", "gpt2-xl-ja-article", "llama-1b-ja", "demo"):
        found = facts(recipe, cluster="local" if recipe == "demo" else "mdx")
        for whole in (found["parameters"], found["memory"]):
            parts = sum(part["value"] for part in whole["parts"].values())
            assert parts == pytest.approx(whole["total"]["value"])


def test_what_is_not_known_yet_is_null_with_a_reason() -> None:
    found = facts("gpt2-xl-ja")
    lacking = [found["time"][key] for key in ("steps", "tokens", "days")]
    lacking += [found["disk"]["tokens"], found["interruptions"]["time_limits"]]
    lacking += found["interruptions"]["failures"].values()
    for figure in lacking:
        assert figure["value"] is None
        assert figure["source"].startswith("unknown: ")


def test_every_figure_of_the_page_has_a_source() -> None:
    lines = page.lines(facts("gpt2-xl-ja-article"))
    rows = [line for line in lines if line.startswith("  ")]
    assert len(rows) > 35
    assert all(len(row.split("  ", 2)[2].strip()) > 10 for row in rows)


def rehearsed(workdir: Workdir, *overrides: str) -> Project:
    """A recipe with a finished rehearsal of it on its cluster."""
    given = ["training.micro_batch=2", "training.global_batch=8"]
    project = resolve.load(workdir.recipe_file, [*given, *overrides], "local")
    measured = resolve.load(workdir.recipe_file, given, "local")
    run = workdir.workspace.run("small-rehearsal")
    write_json(run.recipe, measured.recipe.model_dump(mode="json"))
    write_json(run.cluster, project.cluster.model_dump(mode="json"))
    rows: list[dict[str, Any]] = [
        {
            "kind": "attempt",
            "ranks": 2,
            "parameters": 1000,
            "training_tokens": 10**6,
            "met": 992.0,
        }
    ]
    for step in range(1, 9):
        usage = {"seconds": 2.0, "memory_bytes": 5 * 10**8}
        rows.append({"kind": "step", "step": step, "time": 1000.0 + 2 * step, **usage})
    rows.append({"kind": "checkpoint", "blocked": 0.5, "seconds": 3.0, "bytes": 10**7})
    attempt = run.attempt(1)
    times = {"started": 960.0, "imported": 985.0}
    write_json(attempt.start, {"from_step": 0, "time": 990.0, "times": times})
    attempt.ledger.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert ledger.attempts(run)
    return project


def test_a_rehearsal_is_beside_the_plan(workdir: Workdir) -> None:
    found = planning.facts(rehearsed(workdir, "training.steps=43200"))
    assert found["time"]["seconds_a_step"] == {"value": 2.0, "source": "rehearsed"}
    assert found["time"]["days"]["value"] == 1.0
    assert found["memory"]["rehearsed"]["value"] == 5 * 10**8
    assert found["checkpoints"]["blocked_seconds"] == {"value": 0.5, "source": "rehearsed"}
    assert found["disk"]["checkpoints"]["value"] == 3 * 10**7
    assert any("to compare with it" in line for line in page.lines(found))


def test_a_given_mfu_overrides_a_rehearsed_rate(workdir: Workdir) -> None:
    project = rehearsed(workdir, "cluster.training.accelerator=a100")
    assert planning.facts(project)["time"]["seconds_a_step"]["source"] == "rehearsed"
    given = planning.facts(project, 0.5)["time"]["seconds_a_step"]
    assert "50.0%, given" in given["source"]


def test_a_rehearsal_of_other_settings_is_not_taken_for_this_one(workdir: Workdir) -> None:
    found = planning.facts(rehearsed(workdir, "training.micro_batch=1"))["memory"]["rehearsed"]
    assert found == {
        "value": None,
        "source": "the last rehearsal had another training.micro_batch",
    }


def test_the_disk_at_the_end_is_compared_with_the_room_for_it(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ("training.steps=43200", "training.keep_every=10000")
    project = rehearsed(workdir, *steps, "release.dtype=float32")
    disk = planning.facts(project)["disk"]
    # Two and four for good, and one being written, as rehearsed; fp32 weights; 4,230 bytes a step.
    parameters = planning.facts(project)["parameters"]["total"]["value"]
    expected = {"checkpoints": 7 * 10**7, "release": 4 * parameters, "records": 43_200 * 4_230}
    assert {name: disk[name]["value"] for name in expected} == expected
    assert disk["at the end"]["value"] == sum(expected.values())
    assert "it fits, without raw, shards, tokens" in disk["free"]["source"]
    made = project.run.checkpoints / "step-00000001.attempt-0001"
    made.mkdir(parents=True)
    (made / "weights").write_bytes(bytes(10**6))
    disk = planning.facts(project)["disk"]
    assert disk["still to write"]["value"] == sum(expected.values()) - 10**6
    left = quota.Usage("you", 900_000, 1_000_000, 1, 0)  # 102.4 MB left
    monkeypatch.setattr(quota, "of_folder", lambda _: iter([left]))
    found = planning.facts(project)["disk"]["quota of you"]
    assert (found["value"], "does NOT fit" in found["source"]) == (102_400_000, True)


def test_an_mfu_of_no_gpu_is_refused(workdir: Workdir) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.training\.accelerator"):
        planning.facts(resolve.load(workdir.recipe_file, [], "local"), 0.3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("cluster.training.ranks_per_node=3", r"global_batch=8 is not a multiple of .* = \d x 3"),
        ("training.loss_kernel=liger", "it needs a GPU, and device is cpu"),
        ("training.deepspeed={zero_optimization: {offload_param: null}}", "no effect with stage 0"),
    ],
)
def test_there_is_no_plan_of_what_a_submission_would_refuse(
    workdir: Workdir, change: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        planning.facts(resolve.load(workdir.recipe_file, [change, "training.precision=fp32"]))


def test_on_a_cpu_nothing_is_offloaded(workdir: Workdir) -> None:
    overrides = ("training.deepspeed=zero2-offload", "training.deepspeed=zero2")
    parts = [
        planning.facts(resolve.load(workdir.recipe_file, [one], "local"))["memory"]["parts"]
        for one in overrides
    ]
    assert parts[0] == parts[1]
    assert parts[0]["optimizer"]["value"] > 0


def test_the_command_makes_nothing(workdir: Workdir) -> None:
    before = set(workdir.folder.rglob("*"))
    text = CliRunner().invoke(plan.app, [str(workdir.recipe_file)])
    assert text.exit_code == 0, text.output
    assert "memory of a rank" in text.stdout
    values = CliRunner().invoke(plan.app, [str(workdir.recipe_file), "--json"])
    assert json.loads(values.stdout)["recipe"] == "small"
    assert set(workdir.folder.rglob("*")) == before


def simulated(project: Project, **chances: float) -> dict[str, Any]:
    request = planning.Simulation(Chances(**chances), runs=50)
    found: dict[str, Any] = planning.facts(project, simulation=request)["simulation"]
    return found


def article(*overrides: str, steps: str = "training.steps=30000") -> Project:
    path = ROOT / "configs" / "gpt2-xl-ja-article.yaml"
    return resolve.load(path, [steps, *overrides], "mdx")


def test_a_simulation_says_where_its_conditions_are_from() -> None:
    found = simulated(article("cluster.training.grace_seconds=120"), preemptions=2.0)
    inputs = found["inputs"]
    assert all(len(one["source"]) > 5 for one in inputs.values())
    assert (inputs["preemptions"]["value"], inputs["grace_seconds"]["value"]) == (2.0, 120.0)
    assert inputs["limit_seconds"]["value"] == 4320 * 60
    assert "150" in inputs["interval_seconds"]["source"]
    assert "assumed" in inputs["queue_seconds"]["source"]
    assert found["arrival"]["earliest"] < found["arrival"]["median"] < found["arrival"]["latest"]
    days = 30_000 * inputs["seconds_a_step"]["value"] / 86_400
    assert found["interruptions"]["preemptions"] == pytest.approx(2.0 * days, rel=0.3)


@pytest.mark.parametrize(
    ("chances", "lower"),
    [
        ({"failures": 1000.0}, {"failures": 0.0}),
        ({"preemptions": 10.0}, {"preemptions": 0.0}),
        ({"queue": 7200.0}, {"queue": 60.0}),
    ],
)
def test_each_chance_has_its_effect(chances: dict[str, float], lower: dict[str, float]) -> None:
    late, early = (simulated(article(), **one)["arrival"]["mean"] for one in (chances, lower))
    assert late > early + 3600


def test_what_another_setting_would_change_is_beside_the_arrival() -> None:
    found = simulated(article("cluster.training.minutes=300"), preemptions=5.0)
    changes = {(one["setting"], one["change"]): one for one in found["what_if"]}
    assert {name for name, _ in changes} == {"interval", "limit", "grace", "failures"}
    # Twice as many time limits, or half as many.
    assert changes["limit", "double"]["seconds"] < -10 * changes["limit", "double"]["error"]
    assert changes["limit", "half"]["seconds"] > 10 * changes["limit", "half"]["error"]
    lines = page.lines(planning.facts(article(), simulation=planning.Simulation(runs=20)))
    assert any(line.startswith("  time limit") and "h ±" in line for line in lines)


def test_a_run_on_this_machine_meets_neither_queue_nor_preemption(workdir: Workdir) -> None:
    found = simulated(rehearsed(workdir, "training.steps=43200"))
    assert found["inputs"]["queue_seconds"]["value"] == 0
    assert found["inputs"]["preemptions"]["value"] == 0
    assert found["inputs"]["seconds_a_step"] == {"value": 2.0, "source": "rehearsed"}


def test_a_rehearsed_start_is_simulated_by_its_parts(workdir: Workdir) -> None:
    inputs = simulated(rehearsed(workdir, "training.steps=43200"))["inputs"]
    parts = {name: one["value"] for name, one in inputs.items() if name.startswith("startup_")}
    assert parts == {
        "startup_import_seconds": 25.0,  # 960 to 985
        "startup_ranks_seconds": 2.0,  # 990 to 992
        # 985 to 990, 992 to the begin of the first step at 1000, and the checkpoint's load.
        "startup_load_seconds": pytest.approx(13.0, abs=0.1),
        "startup_first_step_seconds": 0.0,
    }
    assert inputs["save_writing_seconds"] == {"value": 3.0, "source": "rehearsed"}


def test_a_run_that_has_begun_is_simulated_with_its_own_queue(tmp_path: Path) -> None:
    project = article(f"workspace={tmp_path}")
    run = project.run
    write_json(run.cluster, project.cluster.model_dump(mode="json"))
    clock = 1000.0
    for number in range(1, 8):
        token = f"7.{number - 1}"
        times = {"started": clock, "imported": clock + 20}
        write_json(run.attempt(number).start,
                   {"job": token, "from_step": 0, "time": clock + 20, "times": times})  # fmt: skip
        clock += 43_200
        row = {"time": clock, "job": token, "name": "train", "requeued": True,
               "reason": "preemption", "progress": [0, 0]}  # fmt: skip
        append_line(run.requeues, json.dumps(row))
        clock += 100.0 * number
    inputs = simulated(project)["inputs"]
    assert inputs["queue_seconds"]["value"] == pytest.approx(350.0)  # 100 to 600
    assert "6 observed" in inputs["queue_seconds"]["source"]
    assert inputs["preemptions"]["value"] == pytest.approx((1 + 7) / (1 + 3.5))
    assert simulated(project, queue=60.0)["inputs"]["queue_seconds"]["value"] == 60.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "number of steps is unknown .*; give training.steps=N"),
        (("cluster.training.accelerator=null",), "time of a step is unknown .*rehearse"),
        (("cluster.training.minutes=5",), r"cluster\.training\.minutes=5: .*raise it"),
    ],
)
def test_a_simulation_of_what_is_not_known_is_refused(
    overrides: tuple[str, ...], message: str
) -> None:
    steps = "training.steps=30000" if overrides else "training.epochs=10"
    with pytest.raises(ConfigError, match=message):
        simulated(article(*overrides, steps=steps))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seed", "1"), "--seed: no effect without --simulate"),
        (("--queue", "3", "--plot", "x.png"), "--queue, --plot: no effect without --simulate"),
        (("--simulate", "--queue-deviation", "3"), "add --queue"),
        (("--simulate", "--plot", "x.pdf"), "name a .png or an .svg file"),
    ],
)
def test_an_option_without_effect_is_refused(options: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(plan.app, ["gpt2-xl-ja-article", *options])
    assert message in str(done.exception)


def beside(*words: str) -> tuple[dict[str, Any], str]:
    """The plans of three recipes as an object and as a page."""
    given = ["gpt2-xl-ja-article", "--beside", "gpt2-xl-ja,llama-1b-ja", "--cluster", "mdx", *words]
    as_json, as_text = (CliRunner().invoke(plan.app, [*given, *more]) for more in (["--json"], []))
    assert as_json.exit_code == as_text.exit_code == 0, as_json.output
    return json.loads(as_json.stdout), as_text.stdout


def table(text: str) -> dict[str, list[str]]:
    """The cells of each row, by its name."""
    lines = text.partition("\nwhere")[0].splitlines()[2:]
    return {line[:24].strip(): line[24:].split() for line in lines if line}


def test_recipes_are_side_by_side_at_the_same_tokens_with_the_figures_of_their_own_plans() -> None:
    found, text = beside("--mfu", "0.4")
    rows = table(text)
    assert rows[""] == ["gpt2-xl-ja-article", "gpt2-xl-ja", "llama-1b-ja"]
    assert rows["days"] == ["17.9", "17.9", "11.2"]
    assert rows["parameters"] == ["1,557,200,000", "1,557,276,800", "1,111,033,856"]
    for one in found["recipes"]:
        assert one["time"]["steps"]["source"] == "150 G tokens, assumed"
        assert one["time"]["tokens"]["value"] == pytest.approx(150e9, rel=1e-4)
        own = facts(one["recipe"], "training.steps=1000", mfu=0.4)
        for section in ("parameters", "memory", "communication", "node_memory"):
            assert one[section] == own[section]
        assert one["time"]["seconds_a_step"] == own["time"]["seconds_a_step"]


def test_every_figure_of_recipes_side_by_side_has_a_source() -> None:
    _, text = beside()
    _, sources = text.split("\nwhere each figure is from\n")
    names = [*table(text)][2:]  # without the recipes and their nodes
    from_where = [line[2:24].strip() for line in sources.splitlines()]
    assert [name for name in from_where if name] == names
    assert all(len(line[24:]) > 5 for line in sources.splitlines())
    assert "gpt2-xl-ja, llama-1b-ja: the sum, at micro-batch 8" in sources


def test_recipes_on_a_cpu_and_on_a_gpu_are_side_by_side() -> None:
    plans = [facts("gpt2-xl-ja"), facts("demo", cluster="local")]
    rows = table("\n".join(beside_page.lines({"nodes": [], "recipes": plans})))
    assert rows["context"][-1] == rows["process"][0] == "-"


def test_recipes_are_side_by_side_on_each_kind_of_node() -> None:
    words = ("gpt2-xl-ja", "--beside", "llama-1b-ja", "--gpus", "8xa100,4xh100", "--tokens", "30b")
    as_json, as_text = (CliRunner().invoke(plan.app, [*words, *more]) for more in (["--json"], []))
    found = json.loads(as_json.stdout)
    assert found["nodes"] == ["8xa100", "4xh100"]
    assert [(one["recipe"], one["ranks"], one["accelerator"]) for one in found["recipes"]] == [
        ("gpt2-xl-ja", 8, "a100"), ("llama-1b-ja", 8, "a100"),
        ("gpt2-xl-ja", 4, "h100"), ("llama-1b-ja", 4, "h100"),
    ]  # fmt: skip
    own = facts("llama-1b-ja", "training.steps=1000")  # on 8 x a100, too
    assert found["recipes"][1]["memory"]["parts"] == own["memory"]["parts"]
    assert found["recipes"][1]["communication"] == own["communication"]
    tables, sources = as_text.stdout.split("\nwhere each figure is from\n")
    days = [line.split()[1:] for line in tables.splitlines() if line.startswith("days")]
    assert days == [["4.1", "2.6"], ["2.6", "1.6"]]
    assert "llama-1b-ja on 8 x a100, llama-1b-ja on 4 x h100: 4 bytes per parameter\n" in sources


def test_tokens_that_were_given_count_in_place_of_the_recipes() -> None:
    found, _ = beside("--tokens", "60b", "--mfu", "0.4")
    # 60e9 tokens of 10.287 GFLOP at 0.4 x 8 x 312 TFLOP/s are 7.15 days.
    assert found["recipes"][1]["time"]["days"]["value"] == pytest.approx(7.15, abs=0.01)
    given = ["gpt2-xl-ja", "--tokens", "60b"]
    alone = CliRunner().invoke(plan.app, [*given, "--cluster", "mdx", "--json"])
    time = json.loads(alone.stdout)["time"]
    assert time["steps"] == {"value": 114_441, "source": "60 G tokens, given"}
    nodes = CliRunner().invoke(plan.app, [*given, "--gpus", "8xa100", "--json"])
    assert json.loads(nodes.stdout)["steps"] == 114_441


def test_a_length_that_is_known_is_not_assumed() -> None:
    found, _ = beside("training.steps=1000")
    assert {one["time"]["steps"]["source"] for one in found["recipes"]} == {"training.steps"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beside", "demmo"), "demmo: no such file"),
        (("--beside", "demo,"), "--beside demo,: write names or files"),
        (("--beside", "demo", "--simulate"), "--simulate: no effect with --beside"),
        (
            ("--beside", "llama-1b-ja", "--gpus", "7xa100"),
            "--gpus 7xa100: gpt2-xl-ja: training.global_batch",
        ),
        (("--tokens", "many"), "--tokens many: write a number above 0"),
        (("--tokens", "1b", "training.steps=3"), "training.steps=3: no effect with --tokens"),
    ],
)
def test_what_cannot_be_compared_is_refused(options: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(plan.app, ["gpt2-xl-ja", *options])
    assert message in str(done.exception)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_simulation_is_drawn(tmp_path: Path, suffix: str) -> None:
    found = planning.facts(article(), simulation=planning.Simulation(runs=20))
    pictures = [tmp_path / f"{name}.{suffix}" for name in ("one", "other")]
    for picture in pictures:
        planning.draw(found, picture)
    first, other = (picture.read_bytes() for picture in pictures)
    assert first == other
    assert first.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[suffix])
    with pytest.raises(ConfigError, match="name another file"):
        planning.draw(found, pictures[0] / f"below.{suffix}")
