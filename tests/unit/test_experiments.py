"""The experiments' arithmetic: the test of pairs, which run comes next, the table. No model is trained."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING

import pytest

from tests.experiments import held_out, plan, results, table, variants
from tests.experiments.results import Row, Run
from tests.experiments.statistics import holm, paired, two_sided

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOWEST, BEST, HIGHEST = variants.RATES[0], variants.RATES[2], variants.RATES[-1]
SIZES = ["0.1M", "0.3M"]


# The table of critical values that textbooks print, to its three digits.
@pytest.mark.parametrize(
    ("t", "degrees", "p"),
    [
        (1.0, 1, 0.5), (12.706, 1, 0.05), (4.303, 2, 0.05), (3.182, 3, 0.05), (5.841, 3, 0.01),
        (4.604, 4, 0.01), (2.776, 4, 0.05), (2.571, 5, 0.05), (3.355, 8, 0.01), (2.262, 9, 0.05),
        (2.750, 30, 0.01), (0.0, 4, 1.0), (math.inf, 4, 0.0),
    ],
)  # fmt: skip
def test_p_is_that_of_the_tables(t: float, degrees: int, p: float) -> None:
    assert two_sided(t, degrees) == pytest.approx(p, rel=2e-3, abs=1e-12)
    assert two_sided(-t, degrees) == two_sided(t, degrees)


@pytest.mark.parametrize(
    ("t", "degrees", "p"),
    [
        (0.5, 1, 0.7048327646991335), (10, 2, 0.00985245702332569), (3, 3, 0.0576688856224373),
        (10, 4, 0.000562003622715991), (40, 4, 2.3340163226e-06), (2, 7, 0.08561932856297605),
        (5, 10, 0.0005373336027564527),
    ],
)  # fmt: skip
def test_p_is_that_of_scipy(t: float, degrees: int, p: float) -> None:
    assert two_sided(t, degrees) == pytest.approx(p, rel=1e-9)  # scipy 1.17's 2 * t.sf(t, degrees)


def test_the_pairs_decide_not_the_spread_of_each_side() -> None:
    ours, theirs = [1.0, 2.0, 3.0, 4.0, 5.0], [1.1, 2.2, 3.1, 4.2, 5.1]
    found = paired(ours, theirs)
    assert found.difference == pytest.approx(0.14)
    assert found.t == pytest.approx(0.14 / (math.sqrt(0.003) / math.sqrt(5)))
    assert found.p == pytest.approx(0.0046358394)  # scipy's ttest_rel
    assert paired(theirs, ours).t == -found.t
    assert paired(ours, ours).p == 1.0


def test_holm_multiplies_the_smallest_by_the_number_of_tests() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def trained(score: Callable[[Run], float]) -> list[Run]:
    """The runs of the baseline in the order in which they are trained, if they score so."""
    scores: dict[Run, float] = {}
    while todo := plan.following(scores, ["baseline"], SIZES, 2):
        scores[todo[0]] = score(todo[0])
    return list(scores)


def from_best(run: Run) -> float:
    return abs(run.rate - BEST)


def test_every_rate_is_tried_at_every_size_before_its_seeds() -> None:
    runs = trained(from_best)
    assert [(run.size, run.seed, run.rate) for run in runs] == [
        one
        for size in SIZES
        for one in (
            *((size, plan.SWEEP, rate) for rate in variants.RATES),
            (size, 1, BEST),
            (size, 2, BEST),
        )
    ]


def test_a_hollow_does_not_end_the_sweep() -> None:
    """Seen with AdamW at 0.3M: 0.004 was better than both its neighbours, and 0.001 than all."""
    scores = dict(zip(variants.RATES, (2.53, 2.62, 2.61, 2.64, 2.8), strict=True))
    runs = trained(lambda run: scores[run.rate])
    assert {run.rate for run in runs if run.seed != plan.SWEEP} == {LOWEST}


def test_rates_are_chosen_by_the_seed_of_the_sweep_alone() -> None:
    runs = trained(lambda run: from_best(run) if run.seed == plan.SWEEP else math.inf)
    assert {run.rate for run in runs if run.seed != plan.SWEEP} == {BEST}


def test_a_variant_that_diverges_at_every_rate_is_trained_at_the_lowest() -> None:
    runs = trained(lambda run: math.inf)
    assert {run.rate for run in runs if run.seed != plan.SWEEP} == {LOWEST}


def test_what_is_finished_does_not_come_again() -> None:
    runs = trained(from_best)
    scores = {run: from_best(run) for run in runs}
    assert plan.following(scores, ["baseline"], SIZES, 2) == []
    del scores[runs[-1]]
    assert plan.following(scores, ["baseline"], SIZES, 2) == [runs[-1]]
    assert len(plan.following(scores, ["baseline"], SIZES, 3)) == 3


def row(run: Run, score: float, charged: float | None = None) -> Row:
    return Row(run, "cause", score, score if charged is None else charged, 1, 1, 1.0)


def test_a_row_that_was_cut_short_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    rows = [row(Run("baseline", "0.1M", seed, BEST), math.inf) for seed in range(3)]
    assert results.read(file) == []
    for one in rows[:2]:
        results.append(file, one)
    file.write_bytes(file.read_bytes()[:-10])
    assert results.read(file) == rows[:1]
    results.append(file, rows[2])
    assert results.read(file) == [rows[0], rows[2]]


def rows_of(variant: str, scores: list[float], extra: float = 0.0, best: float = BEST) -> list[Row]:
    """A sweep with this best rate, and the scores of its seeds."""
    runs = [
        (Run(variant, "0.1M", plan.SWEEP, rate), 8.0 + (rate != best)) for rate in variants.RATES
    ]
    runs += [
        (Run(variant, "0.1M", seed, best), score) for seed, score in enumerate(scores, start=1)
    ]
    return [row(run, score, score + extra) for run, score in runs]


def lines(*groups: list[Row]) -> list[table.Line]:
    return table.lines([row for rows in groups for row in rows], SIZES)


BASE = rows_of("baseline", [2.0, 2.1, 2.2, 2.3, 2.4])


def test_a_claim_counts_at_one_per_cent() -> None:
    (found,) = lines(BASE, rows_of("muon", [1.9, 2.01, 2.09, 2.21, 2.3]))
    assert found.verdict == "muon better at p < 0.01"
    assert (found.seeds, found.ours.rate, found.theirs.rate) == (5, BEST, BEST)
    assert found.ours.mean == pytest.approx(2.2)
    assert found.ours.deviation == pytest.approx(math.sqrt(0.025))
    (found,) = lines(BASE, rows_of("muon", [1.9, 2.2, 2.1, 2.4, 2.3]))
    assert found.verdict == "no difference shown"
    (found,) = lines(BASE, rows_of("muon", [2.1, 2.21, 2.29, 2.41, 2.5]))
    assert found.verdict == "adamw better at p < 0.01"


def test_a_run_that_diverged_shows_nothing_and_is_named() -> None:
    (found,) = lines(BASE, rows_of("muon", [1.9, 2.01, math.inf, 2.21, 2.3]))
    assert (found.verdict, found.p, found.theirs.mean) == ("a run diverged", 1.0, math.inf)
    assert "nan" in table.text([found])


def test_a_claim_falls_to_the_number_of_claims() -> None:
    weak = [2.0 - 0.1, 2.1 - 0.03, 2.2 - 0.08, 2.3 - 0.09, 2.4 - 0.12]
    same = [2.1, 2.0, 2.2, 2.2, 2.5]
    assert lines(BASE, rows_of("muon", weak))[0].verdict == "muon better at p < 0.01"
    found = lines(BASE, *(rows_of(name, same) for name in ("llama", "wsd", "dropout")))
    assert {line.verdict for line in found} == {"no difference shown"}
    found = lines(
        BASE, rows_of("muon", weak), *(rows_of(name, same) for name in ("llama", "wsd", "dropout"))
    )
    assert found[0].verdict == "no difference shown"
    assert found[0].p < table.LEVEL < found[0].holm == pytest.approx(4 * found[0].p)


def test_white_space_that_a_tokenizer_drops_is_charged_on_a_line_of_its_own() -> None:
    found = lines(BASE, rows_of("article", [1.9, 2.0, 2.1, 2.2, 2.31], extra=0.2))
    assert [line.verdict for line in found] == [
        "article better at p < 0.01",
        "lossless better at p < 0.01",
    ]


@pytest.mark.parametrize("end", [LOWEST, HIGHEST])
def test_a_side_whose_best_rate_is_an_end_of_the_grid_is_not_found_worse(end: float) -> None:
    worse, better = [2.1, 2.21, 2.29, 2.41, 2.5], [1.9, 2.01, 2.09, 2.21, 2.3]
    (found,) = lines(BASE, rows_of("muon", worse, best=end))
    assert found.verdict == "not comparable: the best rate of muon is an end of the grid"
    (found,) = lines(BASE, rows_of("muon", better, best=end))
    assert found.verdict == "muon better at p < 0.01"


def test_only_seeds_of_both_sides_count_and_two_are_the_least() -> None:
    assert lines(BASE, rows_of("muon", [1.9])) == []
    assert lines(rows_of("muon", [1.9, 2.0])) == []
    (found,) = lines(BASE, rows_of("muon", [1.9, 2.01]))
    assert (found.seeds, found.ours.mean) == (2, pytest.approx(2.05))


def test_the_table_is_markdown_and_its_lines_are_json() -> None:
    made = lines(BASE, rows_of("muon", [1.9, 2.01, 2.09, 2.21, 2.3]))
    head, rule, first = table.text(made).splitlines()
    assert head.count("|") == rule.count("|") == first.count("|") == 11
    assert "| adamw 2.2000 ± 0.1581 | muon 2.1020 ± 0.1583 | -0.0980 (-4.45%) |" in first
    assert json.loads(json.dumps(dataclasses.asdict(made[0])))["theirs"]["name"] == "muon"
    assert table.swept(BASE, SIZES) == (
        "baseline, 0.1M: 0.00064: 9.0000, 0.0016: 9.0000, 0.004: 8.0000 *, 0.01: 9.0000, 0.025: 9.0000"
    )


def test_a_code_for_frequencies_costs_their_entropy() -> None:
    assert held_out.code_bits([4, 4]) == 8
    assert held_out.code_bits([8, 0, 0]) == 0
    assert held_out.code_bits([2, 1, 1]) == 6


def test_unknown_characters_cost_their_bytes_and_white_space_its_entropy() -> None:
    lost = held_out.lost_of("駅 伝\n走a", {"駅", "伝", "走"}, tokens=2)
    assert lost == held_out.Lost(unknown=8, white_space=6)
    assert held_out.lost_of("駅伝走a", {"a"}, tokens=3) == held_out.Lost(unknown=72, white_space=0)


@pytest.mark.parametrize("size", variants.SIZES.values())
def test_llama_has_as_many_parameters_as_gpt2(size: variants.Size) -> None:
    layers, width, inner = size.n_layer, size.n_embd, variants.equal_inner(size)
    gpt2 = variants.LENGTH * width + layers * (12 * width**2 + 13 * width) + 2 * width
    llama = layers * (4 * width**2 + 3 * width * inner + 2 * width) + width
    assert llama == pytest.approx(gpt2, rel=0.002)
