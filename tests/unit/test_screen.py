"""The lines of the live view, for each page and size; and what keys do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster.snapshot import snapshot
from kit.watch import view
from kit.watch.keys import keys_of
from kit.watch.page import Page, turned
from kit.watch.screen import screen
from tests.written import T, Written

from .test_watch import STATE, chain, project, running  # noqa: F401

if TYPE_CHECKING:
    from rich.text import Text

    from kit.config.run import Project

SIZES = [(80, 24), (80, 60), (139, 40), (140, 40), (200, 50), (30, 8), (5, 2)]
NOW = 1195


@pytest.fixture
def shown(project: Project, running: Written) -> dict[str, Any]:  # noqa: F811
    """The facts of a run that is running."""
    return facts(project)


def facts(project: Project, **train: Any) -> dict[str, Any]:  # noqa: F811
    queue = {"time": T + NOW - 40, "silent": None}
    state = {**STATE, "since": T + 900, "ends": T + 900 + 86_400, **train}
    return view.facts(project, chain(**state), snapshot(project.run), T + NOW, queue=queue)


def drawn(
    shown: dict[str, Any], width: int = 80, height: int = 60, page: Page | None = None, **more: Any
) -> str:
    """What a terminal shows."""
    lines = screen(shown, page or Page(), width, height, T + NOW, **more)[0]
    return plain(lines)


def plain(lines: list[Text]) -> str:
    return "\n".join(line.plain for line in lines)


PARTS = (
    r"chain +done +tokenize",
    r"running +train: job 17, 5 min",
    r"queue as of 40 s ago +20\d\d-",
    r"run +step 60 of 1,000, 6.0%",
    r"loss 1.000, 5 s ago; validation 1.500 at step 37",
    r"\d ┤[⠀-⣿]",
    r"attempt +1 +2",
    r"arrival +\d{4}-",
    r"90%: \d\d-\d\d \d\d:\d\d to",
    r"goodput +\d\d.\d% of held node time",
    r"requeue and queue, 7 min",
    r"attempts +2: from step 37, 23 steps; running for 5 min",
    r"1: from step 0, 40 steps, 3 steps lost; preemption after 8 min",
    r"checkpoint +step 37, 11 min ago",
    r"time limit +in 23 h 55 min",
    r"alerts +none",
    r"q quit",
)


@pytest.mark.parametrize(("width", "height"), [(80, 60), (200, 50)])
def test_the_first_page_has_everything(shown: dict[str, Any], width: int, height: int) -> None:
    text = drawn(shown, width, height)
    assert [part for part in PARTS if not re.search(part, text)] == []


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("name", ["main", "attempts", "log", "help"])
def test_every_page_fits_every_terminal(
    shown: dict[str, Any], width: int, height: int, name: Any
) -> None:
    shown["alerts"] = [
        {"severity": "critical", "text": "x" * 300, "command": "触 " * 90, "since": T}
    ]
    for scroll in (0, 5, 10_000):
        page = Page(name, scroll)
        lines, _ = screen(shown, page, width, height, T + NOW, "駅" * 90, ["駅伝\t" * 60] * 9)
        assert len(lines) == height
        assert max(line.cell_len for line in lines) <= width


def test_the_help_is_folded_on_a_narrow_terminal(shown: dict[str, Any]) -> None:
    lines, _ = screen(shown, Page("help"), 40, 60, T + NOW)
    text = " ".join(" ".join(line.plain for line in lines).split())
    assert "q, Ctrl-C quit; the run continues a attempts: when each started, its steps" in text
    assert "…" not in text


def test_a_wide_terminal_has_the_chain_and_the_run_beside_one_another(
    shown: dict[str, Any],
) -> None:
    (line,) = [line for line in drawn(shown, 200, 50).splitlines() if line.startswith("chain")]
    assert "step 60 of 1,000" in line


def test_alerts_and_problems_stand_above_all(shown: dict[str, Any]) -> None:
    shown["problems"] = ["a ledger is damaged"]
    shown["alerts"] = [
        {"severity": "critical", "text": "it hangs", "command": "scancel 17", "since": None}
    ]
    for width in (80, 200):
        lines = drawn(shown, width, 24).splitlines()
        assert lines[1].split() == ["problem", "a", "ledger", "is", "damaged"]
        after = [line.strip() for line in lines[2:6] if line.strip()]
        assert after[:2] == ["critical    it hangs", "scancel 17"]


def test_a_queue_that_does_not_answer_is_named_with_the_age_of_its_last_answer(
    shown: dict[str, Any],
) -> None:
    shown["queue"]["silent"] = "squeue: no answer in 60 s"
    assert re.search(r"queue +as of 40 s ago; squeue: no answer in 60 s", drawn(shown))
    shown["queue"]["time"] = None
    assert re.search(r"queue +no answer yet; squeue: no answer in 60 s", drawn(shown))


def test_a_queued_job_has_its_reason_and_the_start_that_slurm_expects(
    project: Project,  # noqa: F811
    running: Written,  # noqa: F811
) -> None:
    running.decide(2, 1194, "preemption")
    waiting = {"state": "queued", "reason": "Slurm: Priority", "starts": T + 9000, "ends": None}
    text = " ".join(drawn(facts(project, **waiting)).split())
    assert "queued train: job 17, 5 min; Slurm: Priority; Slurm expects its start at 20" in text
    assert "time limit" not in text
    passed = facts(project, **{**waiting, "starts": T + NOW - 3})
    assert "expects" not in drawn(passed)


def test_a_local_run_reaches_its_limit_after_the_minutes_of_its_cluster(
    project: Project,  # noqa: F811
    running: Written,  # noqa: F811
) -> None:
    found = facts(project, ends=None)
    assert found["limit"] == T + 900 + 1440 * 60


def test_units_and_tasks_of_an_array_are_counted(shown: dict[str, Any]) -> None:
    shown["chain"]["tokenize"] |= {
        "state": "running", "done": 3, "missing": 5, "tasks_running": 2,
    }  # fmt: skip
    assert re.search("running +tokenize: 3 of 8 units; 2 tasks running", drawn(shown))


def test_all_attempts_are_listed_newest_first_and_scrolled(shown: dict[str, Any]) -> None:
    first = shown["attempts"][0]
    shown["attempts"] = [{**first, "number": number} for number in range(1, 101)]

    def numbers(page: Page) -> tuple[list[int], Page]:
        lines, page = screen(shown, page, 80, 24, T + NOW)
        return [int(line.plain[:5]) for line in lines if line.plain[:5].strip().isdigit()], page

    assert numbers(Page("attempts"))[0] == [*range(100, 79, -1)]
    assert numbers(turned(Page("attempts"), "page down", 22))[0] == [*range(79, 57, -1)]
    end, page = numbers(turned(Page("attempts"), "G", 22))
    assert end[-1] == 1
    assert numbers(turned(page, "up", 22))[0][-1] == 2


def test_the_log_follows_its_end_until_it_is_scrolled_back(shown: dict[str, Any]) -> None:
    log = [f"line {number}" for number in range(100)]
    text = drawn(shown, 80, 12, Page("log"), log="/駅伝/0_log.out", tail=log)
    assert text.splitlines()[0].startswith("/駅伝/0_log.out")
    assert text.splitlines()[-2].strip() == "line 99"
    back = drawn(shown, 80, 12, turned(Page("log"), "up", 10), tail=log)
    assert back.splitlines()[-2].strip() == "line 98"
    assert drawn(shown, 80, 12, turned(Page("log"), "g", 10), tail=log).splitlines()[1] == "line 0"


def test_nothing_of_a_file_acts_on_the_terminal(shown: dict[str, Any]) -> None:
    text = drawn(shown, page=Page("log"), tail=["\x1b[2Jgone\x07", "\udce3 of a file name"])
    assert "\x1b" not in text
    assert "?[2Jgone?" in text
    text.encode()


def test_long_lines_are_folded_at_words_and_nothing_is_lost(shown: dict[str, Any]) -> None:
    words = " ".join(f"word{number}" for number in range(40))
    text = drawn(shown, page=Page("log"), tail=[words])
    assert " ".join(text.split()).count("word") == 40
    assert words in " ".join(text.split())


def test_a_path_without_spaces_is_folded_too(shown: dict[str, Any]) -> None:
    path = "/駅伝/" + "の記録" * 60 + "/end"
    shown["problems"] = [f"{path}: a row is damaged"]
    text = "".join(drawn(shown).split())
    assert f"{path}:arowisdamaged" in text


def test_an_arrival_is_given_to_the_minute_if_it_is_near_else_to_the_day(
    shown: dict[str, Any],
) -> None:
    near = {"date": T + 5000, "earliest": T + 4000, "latest": T + 6000}
    shown["arrival"] |= near
    minute = r"\d\d-\d\d \d\d:\d\d"
    assert re.search(rf"20\d\d-{minute}, in 1 h 3 min \(90%: {minute} to {minute}\)", drawn(shown))
    shown["arrival"]["latest"] = T + 10 * 86_400
    day = r"20\d\d-\d\d-\d\d"
    assert re.search(rf"{day}, in 1 h 3 min \(90%: {day} to {day}\)", drawn(shown))


def test_figures_that_are_old_say_so(shown: dict[str, Any]) -> None:
    assert "as of 5 min" not in drawn(shown)
    late = screen(shown, Page(), 80, 24, T + NOW + 300)[0]
    assert "as of 5 min ago" in late[0].plain


def test_a_run_without_a_step_has_no_plot(project: Project) -> None:  # noqa: F811
    none = {"state": "not begun", "steps": None, "step": 0, "attempts": 0}
    found = view.facts(project, chain(**none), snapshot(project.run), T)
    for width in (80, 200):
        text = drawn(found, width, 30)
        assert "no step yet" in text
        assert "┤" not in text
    assert "no attempt has started" in drawn(found, page=Page("attempts"))


def test_a_key_turns_to_its_page_and_back() -> None:
    page = turned(Page(), "a", 22)
    assert page.name == "attempts"
    assert turned(page, "a", 22).name == "main"
    assert turned(page, "l", 22).name == "log"
    for key in ("m", "escape", "x"):
        assert turned(page, key, 22).name == "main"
    recent = turned(Page(), "t", 22)
    assert recent.recent
    assert turned(turned(recent, "a", 22), "m", 22).recent
    assert not turned(recent, "t", 22).recent


def test_bytes_of_a_terminal_are_keys() -> None:
    keys = {
        b"q": ["q"], b"\x1b": ["escape"], b"\x1b[A\x1bOB": ["up", "down"], b"\x1b[5~": ["page up"],
        b"\x1b[1;5A": [], b"\x1b[200~": [], "駅".encode(): ["駅"], b"\x1bq": ["escape", "q"],
    }  # fmt: skip
    for data, expected in keys.items():
        assert keys_of(data) == expected
