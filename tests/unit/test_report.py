"""The report on a run: one page that loads nothing, escapes every text, and stays small."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kit.cluster.snapshot import snapshot
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.run import Project
from kit.errors import ConfigError
from kit.output.charts.chart import COLOURS
from kit.plan import buckets
from kit.store.files import write_json
from kit.tracking import ledger
from kit.tracking.curves import Columns, columns
from kit.watch.report import charts, of_run, write
from kit.watch.report.content import Content, gather
from kit.watch.report.markup import private, table, text
from kit.watch.report.page import MOST, page
from kit.watch.report.public import public
from tests.written import T, Written, two_attempts

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run

BAD = "<script>alert('x')</script>&\x00\ud800"
_EMPTY = {"br", "hr", "img", "input", "link", "meta"}  # elements without an end


class Strict(HTMLParser):
    """Collects elements and texts, and asserts that every element is closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def project(run: Run, tmp_path: Path) -> Project:
    recipe = Recipe.model_validate({
        "name": "a-run", "workspace": str(tmp_path / "work"),
        "corpus": {"sources": {"web": {"kind": "plaintext", "location": "web.txt"}}},
        "model": {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 16},
        "training": {"steps": 1000, "global_batch": 8, "checkpoint_every": 10, "keep": 2},
        "tracking": {"mlflow": "http://ann:hunter2@host:5000"},
    })  # fmt: skip
    cluster = {"name": "c", "kind": "slurm", "training": {"ranks_per_node": 2, "minutes": 1440}}
    return Project(run, recipe, Cluster.model_validate(cluster))


@pytest.fixture
def running(run: Run) -> Written:
    """Two attempts: the first crashed after 40 steps, 3 of them lost; the second is at step 60."""
    return two_attempts(run, "crash (exit code 1)")


def gathered(project: Project, now: float = 1195, **train: Any) -> Content:
    none = {"state": "waiting", "reason": None, "since": None, "job": None, "done": 0, "missing": 1}
    state = {"state": "running", "steps": 1000, "step": 60, "attempts": 2, "loss": 1.0,
             "tokens_per_second": None, "last_step": T + 1190}  # fmt: skip
    chain = {"train": none | state | train, "evaluate": none | {"reason": BAD}}
    return gather(project, chain, snapshot(project.run), T + now)


def shown(content: Content) -> Strict:
    source = page(content, charts.all_charts(content))
    assert len(source.encode()) < MOST
    return Strict(source)


def seventy_days(content: Content, steps: int = 600_000, attempts: int = 2_000) -> Content:
    """A long run: columns made by arithmetic, with a spike, and an attempt every 300 steps."""
    step = np.arange(1, steps + 1, dtype=np.float64)
    loss = 3 + 7 * np.exp(-step / 5000) + 0.1 * np.sin(step * 12.9898)
    loss[steps // 2] = 23.0
    at = step[::500]
    curve = Columns(
        step, T + 10 * step, step * 524_288, loss, 1e-4 + step * 1e-10, 50_000 + 5_000 * np.cos(step),
        at, at * 524_288, np.minimum(loss[::500], 9.0),
    )  # fmt: skip
    each = steps // attempts
    listed = [
        {"number": n + 1, "start": T + 10 * n * each, "end": T + 10 * (n + 1) * each - 60, "steps": each,
         "from_step": n * each, "lost": 7, "reason": ("preemption", f"crash {BAD * 50}")[n % 2]}
        for n in range(attempts)
    ]  # fmt: skip
    alert = {"severity": "warning", "text": BAD * 100, "command": BAD * 100}
    training = content.training | {"step": steps, "steps": steps, "loss": float(loss[-1])}
    facts = content.facts | {"attempts": listed, "alerts": [alert] * 300, "training": training,
                             "time": T + 10 * steps}  # fmt: skip
    nodes = {n: f"node-{n}" for n in range(attempts)}
    lost = [(one["end"] - 70, one["end"]) for one in listed]
    return dataclasses.replace(
        content, facts=facts, curve=curve, nodes=nodes, lost=lost, usual=10.0
    )


def test_the_page_of_a_running_run_has_its_figures(project: Project, running: Written) -> None:
    found = shown(gathered(project))
    for part in (
        "The training is running: step 60 of 1,000",
        "step 60 of 1,000",
        "validation loss 1.500",
        "1 ✕ failure",
        "crash (exit code 1)",
        buckets.BUCKETS["queue"],
        "each step as the median, without interruption",
        "forecast",
        "No tokens yet.",
        "Nothing was scored yet.",
        '"n_positions": 16',
    ):
        assert part.replace("1 ✕ failure", "✕ failure: 1") in found.text


def test_the_page_loads_nothing_and_runs_nothing(project: Project, running: Written) -> None:
    found = shown(gathered(project))
    policy = next(e["content"] for tag, e in found.elements if "http-equiv" in e)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert not {tag for tag, _ in found.elements} & {"script", "img", "iframe", "object", "embed"}
    for tag, attributes in found.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "data", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), tag
    styles = page(gathered(project), {}).partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_page_is_made_of_headings_in_order_and_named_pictures(
    project: Project, running: Written
) -> None:
    found = shown(gathered(project))
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    pictures = [e for tag, e in found.elements if tag == "svg" and e.get("role") == "img"]
    assert len(pictures) == len(charts.all_charts(gathered(project))) >= 4
    assert all(one["aria-label"] for one in pictures)
    targets = {e["href"] for tag, e in found.elements if tag == "a"}
    assert targets == {f"#{e['id']}" for tag, e in found.elements if tag == "section"}


def test_texts_of_others_are_shown_and_never_taken_for_html(
    project: Project, running: Written
) -> None:
    write_json(
        project.run.samples / "samples.json", [{"prompt": BAD.strip("\ud800"), "text": "続き"}]
    )
    running.row(2, "amendment", 1194, step=60)
    found = shown(gathered(project, state="failed", reason=BAD))
    assert found.text.count("<script>alert('x')</script>&\ufffd") >= 3
    assert "続き" in found.text
    assert "\x00" not in "".join(found.texts)


def test_secrets_of_the_recipe_are_masked(project: Project, running: Written) -> None:
    found = shown(gathered(project))
    assert "http://***@host:5000" in found.text
    assert "hunter2" not in found.text


def test_a_public_page_names_no_node_no_path_and_of_a_reason_its_kind(
    project: Project, running: Written, tmp_path: Path
) -> None:
    content = dataclasses.replace(gathered(project), nodes={1: "node-17", 2: "node-18"})
    alert = {"severity": "warning", "text": "node-17 is slow", "command": "scancel 17"}
    facts = content.facts | {"alerts": [alert], "problems": ["squeue: node-17"]}
    content = dataclasses.replace(content, facts=facts)
    before, after = shown(content).text, shown(public(content)).text
    private_parts = (
        "node-17",
        "scancel",
        str(tmp_path),
        "crash (exit code 1)",
        "Arrival",
        "Alerts",
    )
    for part in private_parts:
        assert part in before
        assert part not in after
    for part in ("step 60 of 1,000", "validation loss 1.500", "✕ failure: 1", '"n_positions": 16'):
        assert part in after
    written = write.write(public(content), tmp_path / "published")
    assert [path.name for path in written.parent.iterdir()] == ["report.html"]


def test_a_run_of_seventy_days_stays_below_a_megabyte_and_keeps_its_spike(
    project: Project, running: Written
) -> None:
    content = seventy_days(gathered(project))
    drawn = charts.all_charts(content)
    assert max(len(one.y) for one in drawn["loss"].series) <= 2_000  # type: ignore[union-attr]
    assert max(one.y.max() for one in drawn["loss"].series) == 23.0  # type: ignore[union-attr]
    found = shown(content)
    assert "2,000 attempts." in found.text
    assert "The last 100 are listed" in found.text
    assert "And 200 more alerts." in found.text


def test_a_loss_that_exploded_has_a_logarithmic_axis(project: Project, running: Written) -> None:
    content = seventy_days(gathered(project), steps=1000, attempts=2)
    assert not charts.all_charts(content)["loss"].y.logarithmic  # type: ignore[union-attr]
    content.curve.loss[500] = 4e6
    content.curve.loss[501] = math.nan
    loss = charts.all_charts(content)["loss"]
    assert loss.y.logarithmic  # type: ignore[union-attr]
    assert loss.y.high > 4e6  # type: ignore[union-attr]
    late = charts.all_charts(content)["late-loss"]
    assert late.y.high < 11  # type: ignore[union-attr]


def test_a_run_before_its_first_submission_has_a_page_too(project: Project) -> None:
    found = shown(gathered(project, now=0, state="not begun", step=0, steps=None, last_step=None))
    assert "No step of the training was done yet; it is not begun." in found.text
    assert "No attempt has started yet." in found.text
    assert "The run was not submitted yet." in found.text


def test_a_damaged_ledger_or_file_is_named_and_the_rest_is_shown(
    project: Project, running: Written
) -> None:
    with project.run.attempt(2).ledger.open("a") as ledger:
        ledger.write('{"kind": "step"}\n')
    project.run.evaluation.mkdir()
    (project.run.evaluation / "scores.json").write_text("{")
    found = shown(gathered(project))
    assert "a row is damaged" in found.text
    assert "Not shown: JSONDecodeError" in found.text
    assert "crash (exit code 1)" in found.text


def test_times_of_lost_steps_are_those_of_the_ledger(project: Project, running: Written) -> None:
    content = gathered(project)
    assert content.lost == [(T + 520, T + 550)]
    (row,) = [
        spans for name, spans in charts.all_charts(content)["timeline"].rows if name == "lost steps"
    ]  # type: ignore[union-attr]
    assert [(span.begin, span.end) for span in row] == [(T + 520, T + 550)]


def test_an_uninterrupted_run_takes_the_median_step_each_time(
    project: Project, running: Written
) -> None:
    assert charts.without_interruption(gathered(project)) == (T + 150, T + 150 + 1000 * 10)


def test_the_card_and_the_report_have_the_same_curve(project: Project, running: Written) -> None:
    running.row(2, "rollback", 1191, step=60, to_step=50)
    running.row(2, "step", 1200, step=51, seconds=10.0, loss=None, learning_rate=0.1, sample=999)
    running.row(2, "validation", 1210, step=51, seconds=10.0, validation_loss=1.25)
    of_report = gathered(project, now=1215).curve
    of_card = columns(ledger.canonical(project.run), project.recipe)
    for one in dataclasses.fields(Columns):
        expected = getattr(of_card, one.name)
        np.testing.assert_array_equal(getattr(of_report, one.name), expected, one.name)
    assert of_report.step.tolist() == [*range(1, 52)]
    assert of_report.tokens[-2:].tolist() == [50 * 8 * 16, 999 * 16]
    assert of_report.learning_rate[-1] == 0.1
    assert of_report.validation_tokens.tolist() == [37 * 8 * 16, 999 * 16]


def test_every_bucket_of_time_has_a_colour() -> None:
    assert {*buckets.COLOURS} == {*buckets.BUCKETS}
    assert {*buckets.COLOURS.values()} <= {*COLOURS}


def test_spans_too_narrow_to_see_are_one(project: Project, running: Written) -> None:
    content = seventy_days(gathered(project), steps=40_000, attempts=4_000)
    rows = dict(charts.all_charts(content)["timeline"].rows)  # type: ignore[union-attr]
    assert 0 < len(rows["attempts"]) <= 2_000
    assert rows["attempts"][0].begin == content.attempts[0]["start"]
    assert rows["attempts"][-1].end == content.attempts[-1]["end"]


def test_a_folder_that_cannot_be_written_is_one_line(
    project: Project, running: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigError, match=r"file/out: Not a directory: .* give another folder by --out"
    ):
        write.write(gathered(project), tmp_path / "file" / "out")


def test_figures_that_do_not_exist_are_left_out(project: Project, running: Written) -> None:
    names = re.findall("<dt>(.*?)</dt>", of_run.figures(gathered(project), None))
    assert "bits per byte" not in names
    assert "MFU" not in names
    scored = of_run.figures(gathered(project), {"bits_per_byte": 1.2345})
    assert "<dt>bits per byte</dt><dd>1.234</dd>" in scored


def test_cells_are_escaped_cut_and_aligned() -> None:
    made = table("c", ("name", "number"), [("<b>", "1,234"), ("x" * 400, "")])
    assert "&lt;b&gt;" in made
    assert 'class="number">1,234' in made
    assert len(text("x" * 400)) < 310
    assert private("hf_abcdefghijklmnop") == "***"
