"""wikiextractor as a program: watched, replaced where it fails, and gone when it is not wanted."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.corpus.dump import extractor
from kit.corpus.dump.extractor import Page
from kit.errors import InputError
from tests import speed

if TYPE_CHECKING:
    from collections.abc import Iterator

MAPPER, REDUCER, WORKER = range(3)  # in the order in which they start
NAMES = ["Template", "ファイル"]
TOO_DEEP = b"{{a" * 5000 + b"}}" * 5000  # more than the worker's interpreter can take: it dies


def page(number: int, text: bytes | None = None) -> Page:
    return Page(f"題{number}", text or f"{number}の頁である。".encode(), f"page {number}")


def refuse(page: Page, reason: str) -> None:
    raise AssertionError(f"{page.place}: {reason}")


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """What the environment of every process holds that the test starts, and no other."""
    name = uuid.uuid4().hex
    monkeypatch.setenv("EKIDEN_TEST_MARK", name)
    return name


def processes(mark: str) -> dict[int, str]:
    """The command lines of the living processes with a mark."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found


def gone(mark: str) -> bool:
    """Whether no process with the mark is left; a killed one takes a moment."""
    end = time.monotonic() + speed.patience(20)
    while processes(mark) and time.monotonic() < end:
        time.sleep(0.02)
    return not processes(mark)


def running(mark: str) -> list[int]:
    """The program's processes, eldest first: mapper, reducer, worker."""
    return sorted(
        pid
        for pid, line in processes(mark).items()
        if "WikiExtractor" in line and "sh " not in line
    )


def test_texts_come_in_the_order_of_the_pages(mark: str) -> None:
    pages = [page(number) for number in range(200)]
    given = list(extractor.texts(iter(pages), NAMES, refuse))
    assert given == [(page, page.text.decode()) for page in pages]
    assert gone(mark)


@pytest.mark.parametrize(("bound", "value"), [("AHEAD", 3), ("AHEAD_BYTES", 200)])
def test_few_pages_are_on_their_way(
    bound: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extractor, bound, value)
    taken = 0

    def pages() -> Iterator[Page]:
        nonlocal taken
        for taken in range(1, 101):
            yield page(taken, b"a" * 90)

    for given, _ in enumerate(extractor.texts(pages(), NAMES, refuse)):
        assert taken - given <= 3
    assert taken == 100


def test_no_page_starts_no_program(mark: str) -> None:
    texts = extractor.texts(iter([]), NAMES, refuse)
    assert list(texts) == []


def test_the_page_at_fault_is_found_and_the_others_are_done(mark: str) -> None:
    pages = [page(number, TOO_DEEP if number == 3 else None) for number in range(9)]
    told: list[tuple[str, str]] = []
    given = extractor.texts(iter(pages), NAMES, lambda page, why: told.append((page.place, why)))
    assert [page.place for page, _ in given] == [f"page {n}" for n in range(9) if n != 3]
    assert [place for place, _ in told] == ["page 3"]
    assert "RecursionError" in told[0][1]
    assert gone(mark)


def test_a_page_that_the_program_leaves_out_is_found(mark: str) -> None:
    pages = [page(0), Page(">前", b"a", "page 1"), page(2)]
    told: list[str] = []
    given = extractor.texts(iter(pages), NAMES, lambda page, why: told.append(page.place))
    assert [page.place for page, _ in given] == ["page 0", "page 2"]
    assert told == ["page 1"]
    assert gone(mark)


def test_a_page_that_may_not_be_passed_over_ends_it(mark: str) -> None:
    def stop(page: Page, reason: str) -> None:
        raise InputError(f"{page.place}: {reason}")

    with pytest.raises(InputError, match="page 1: wikiextractor failed"):
        list(extractor.texts(iter([page(0), page(1, TOO_DEEP), page(2)]), NAMES, stop))
    assert gone(mark)


def test_a_text_beyond_the_bound_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor, "LONGEST_ANSWER", 1000)
    told: list[str] = []
    pages = [page(0), page(1, b"a" * 2000), page(2)]
    given = extractor.texts(iter(pages), NAMES, lambda page, why: told.append(page.place))
    assert [page.place for page, _ in given] == ["page 0", "page 2"]
    assert told == ["page 1"]


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("victim", "blow"),
    [
        pytest.param(MAPPER, signal.SIGKILL, id="mapper killed"),
        pytest.param(REDUCER, signal.SIGKILL, id="reducer killed"),
        pytest.param(WORKER, signal.SIGKILL, id="worker killed"),
        pytest.param(WORKER, signal.SIGSTOP, id="worker stuck"),
    ],
)
def test_a_process_that_dies_or_is_stuck_loses_no_page(
    victim: int, blow: signal.Signals, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extractor, "AHEAD", 4)
    pages = [page(number, b"a" * 30_000) for number in range(60)]
    patience = (
        speed.patience(3) if blow == signal.SIGSTOP else extractor.PATIENCE
    )  # a death is seen at once
    texts = extractor.texts(iter(pages), NAMES, refuse, patience)
    first = next(texts)
    os.kill(running(mark)[victim], blow)
    assert [page.place for page, _ in [first, *texts]] == [page.place for page in pages]
    assert gone(mark)


def test_nothing_is_left_when_the_reader_leaves(mark: str) -> None:
    texts = extractor.texts(iter([page(number) for number in range(100)]), NAMES, refuse)
    next(texts)
    assert len(running(mark)) == 3
    texts.close()
    assert gone(mark)


def test_nothing_is_left_when_the_reader_is_killed(mark: str) -> None:
    script = """
        import time
        from kit.corpus.dump import extractor
        pages = (extractor.Page("a", b"a" * 9999, "") for _ in range(10**6))
        texts = extractor.texts(pages, ["Template"], print)
        next(texts)
        print("one", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "one\n"
        assert len(running(mark)) == 3
        reader.kill()
    assert gone(mark)


def test_its_memory_is_limited(mark: str) -> None:
    texts = extractor.texts(map(page, itertools.count()), NAMES, refuse)
    next(texts)
    pids = running(mark)  # all of them, since the pages do not end
    assert len(pids) == 3
    for pid in pids:
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8")
        (line,) = (line for line in limits.splitlines() if line.startswith("Max address space"))
        assert int(line.split()[3]) == extractor.MEMORY
    texts.close()
    assert gone(mark)


def test_a_program_that_does_not_work_is_no_fault_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wikiextractor").mkdir()
    (tmp_path / "wikiextractor/__init__.py").touch()
    broken = tmp_path / "wikiextractor/WikiExtractor.py"
    broken.write_text("raise SystemExit('built for another Python')\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError, match=r"does not work here: .*built for another Python"):
        list(extractor.texts(iter([page(0)]), NAMES, refuse))


def test_a_missing_program_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(InputError, match=r"pip install 'ekiden\[wikipedia\]'"):
        list(extractor.texts(iter([page(0)]), NAMES, refuse))
