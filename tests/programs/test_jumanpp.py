"""The pool of Juman++ processes, against a stand-in with the real one's quirks and the tests' faults."""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from kit.corpus.segmenters import pool as pool_of
from kit.corpus.segmenters.chunking import LONG_RUN, WHITE_SPACE
from kit.corpus.segmenters.jumanpp import Jumanpp
from kit.corpus.segmenters.requests import Case, Request, RequestPart
from kit.errors import ClusterError
from tests import jumanpp
from tests.speed import patience
from tests.unit.test_segment import TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = patience(1.5)  # seconds in which the stand-in surely starts
PLAIN = [f"東京都に行くことが{number}回ある。" for number in range(900)]  # a few blocks


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jumanpp.install(tmp_path_factory.mktemp("bin"))


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = children()  # another test's, as of tests/warm.py
    yield
    gc.collect()
    assert children() - before == set()


def children() -> set[tuple[str, str]]:
    """The ids and names of this process's children."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
    return {(pid, Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()) for pid in pids}


def pool(program: Path, workers: int = 2, *flags: str, **more: Any) -> Jumanpp:
    return Jumanpp(workers, [str(program), *(flags or ("--segment",))], **more)


def batches(lines: list[str], seed: int = 1) -> list[list[str]]:
    """The lines in batches of all sizes, empty ones too."""
    sizes, rest = random.Random(seed), iter(lines)
    found = [
        list(itertools.islice(rest, sizes.choice([0, 1, 2, 7, 400]))) for _ in range(len(lines))
    ]
    return [*found, list(rest)]


def answers(segmenter: Jumanpp, lines: list[str]) -> list[str]:
    """The words of the lines; the batches come back as they went in."""
    asked = batches(lines)
    found = list(segmenter.stream(asked))
    assert [len(batch) for batch in found] == [len(batch) for batch in asked]
    return [answer for batch in found for answer in batch]


def ask(
    program: Path, raw: bytes, *flags: str, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [program, *(flags or ("--segment",))],
        input=raw,
        capture_output=True,
        check=False,
        env=os.environ | variables,
    )


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"# x\nb\n", b"b\n"),
        (b"#\nb\n", b"#\nb\n"),
        (b"# " + b"x" * 1100 + b"\nb\nc\n", b"c\n"),
        (b"a1" * 2049 + b"\nb\n", b"b\n"),
        (b"\xff\xfe\nb\n", b"b\n"),
        (b"\nb", b"\nb\n"),
        ("東京 都".encode(), "東京   都\n".encode()),
        ("東京\t\u3000\0都".encode(), "東京 \t \u3000 \0 都\n".encode()),
    ],
)
def test_the_stand_in_breaks_the_line_protocol_as_juman_does(
    program: Path, raw: bytes, answer: bytes
) -> None:
    done = ask(program, raw)
    assert (done.returncode, done.stdout) == (0, answer)


def test_the_stand_in_takes_flags_as_juman_does(program: Path) -> None:
    assert ask(program, b"a1\n", "--segment-separator=_", "--segment").stdout == b"a_1\n"
    other = ask(program, b"a1\n", "--sgment", "--segment")
    assert other.returncode == 0
    assert other.stdout.endswith(b"EOS\n")


def test_the_stand_in_takes_memory_as_juman_does(program: Path) -> None:
    assert [round(jumanpp.memory(run) / 1e9, 1) for run in (500, 700, 1000)] == [0.5, 1.3, 3.5]
    script = f"ulimit -v 1000000; exec {program} --segment"
    for run, code in ((400, 0), (700, -6)):
        done = subprocess.run(
            ["sh", "-c", script], input=b"a" * run, check=False, capture_output=True
        )
        assert done.returncode == code  # a shell shows 134 for -6


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_answers_are_those_of_each_line_in_order(program: Path, workers: int) -> None:
    with pool(program, workers) as segmenter:
        assert answers(segmenter, PLAIN) == [jumanpp.segment(line) for line in PLAIN]
        assert not segmenter.unsegmented
        assert answers(segmenter, PLAIN[:3]) == [jumanpp.segment(line) for line in PLAIN[:3]]


@pytest.mark.parametrize(
    ("chunk", "answer", "kept"),
    [
        ("東京\t都", "東京 \t 都", {WHITE_SPACE: 1}),
        ("東京\u3000\u3000都\0", "東京 \u3000\u3000 都 \0", {WHITE_SPACE: 2}),
        ("駅\ud800伝", "駅 \ud800 伝", {WHITE_SPACE: 1}),
        ("い" + "a" * 3000 + "う", f"い {'a' * 3000} う", {LONG_RUN: 1}),
        ("駅" * 201, "駅" * 201, {LONG_RUN: 1}),
        ("駅" * 200, "駅" * 200, {}),
        ("が" + "\u0301" * 100_000, "が " + "\u0301" * 100_000, {LONG_RUN: 1}),
        ("東京に、" * 1000, " ".join(["東京 に 、"] * 1000), {}),
        ("#", "#", {}),
        ("。", "。", {}),
    ],
)
def test_what_juman_cannot_be_given_is_kept_away_from_it(
    program: Path, chunk: str, answer: str, kept: dict[str, int]
) -> None:
    with pool(program) as segmenter:
        assert answers(segmenter, ["前", chunk, "後"]) == ["前", answer, "後"]
        assert segmenter.unsegmented == kept


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("DIE", "died"),
        ("CHANGE", "changed"),
        ("SWALLOW", "changed"),
        ("DOUBLE", "changed"),
    ],
)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_line_at_fault_is_found_and_kept_whole(
    program: Path, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str, workers: int
) -> None:
    monkeypatch.setenv(f"STAND_IN_{fault}", "駄目")
    lines = [*PLAIN, "最後は駄目。"]
    lines[500] = lines[501] = "これは駄目。"
    with pool(program, workers) as segmenter:  # none of these may need patience
        found = answers(segmenter, lines)
        assert found == [line if "駄目" in line else jumanpp.segment(line) for line in lines]
        assert segmenter.unsegmented == {reason: 3}


def test_a_line_that_gets_no_answer_is_given_up_and_kept_whole(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_HANG", "駄目")
    lines = [*PLAIN[:400], "これは駄目。", *PLAIN[400:]]
    with pool(program, patience=PATIENCE) as segmenter:
        assert answers(segmenter, lines) == [
            line if "駄目" in line else jumanpp.segment(line) for line in lines
        ]
        assert segmenter.unsegmented == {"silent": 1}


def test_a_process_out_of_memory_is_replaced_and_its_line_kept_whole(program: Path) -> None:
    lines = [*PLAIN[:400], "a" * 900, *PLAIN[400:]]
    with pool(program, longest_run=1000) as segmenter:  # past the guard
        assert answers(segmenter, lines) == [jumanpp.segment(line) for line in lines]
        assert segmenter.unsegmented == {"died": 1}


def test_processes_that_end_after_some_lines_do_not_end_the_work(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_LIFE", "700")
    with pool(program) as segmenter:
        assert answers(segmenter, PLAIN) == [jumanpp.segment(line) for line in PLAIN]
        assert not segmenter.unsegmented


@pytest.mark.parametrize("life", ["5", "150"])
def test_processes_that_keep_ending_with_no_line_at_fault_are_an_error(
    program: Path, monkeypatch: pytest.MonkeyPatch, life: str
) -> None:
    monkeypatch.setenv("STAND_IN_LIFE", life)
    monkeypatch.setattr(pool_of, "_MAX_UNEXPLAINED_FAULTS", 1)
    monkeypatch.setattr(pool_of, "_MAX_CONSECUTIVE_FAULTS", 20)
    with (
        pool(program) as segmenter,
        pytest.raises(ClusterError, match=r"\d+ times.* it exited with code 1"),
    ):
        answers(segmenter, PLAIN * 3)


def test_processes_that_answer_nothing_but_the_probe_are_an_error(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_DIE", "駄目")
    monkeypatch.setattr(pool_of, "_MAX_CONSECUTIVE_FAULTS", 20)
    with pool(program) as segmenter, pytest.raises(ClusterError, match="21 times in a row"):
        answers(segmenter, ["駄目。"] * 300)


@pytest.mark.parametrize(
    ("flags", "variables", "told"),
    [
        (("--sgment", "--segment"), {}, "returned different text .'東京都 東京都"),
        (("--segment", "--segment-separator=_"), {}, "returned different text .'東京都_に"),
        (("--segment",), {"STAND_IN_LIFE": "0", "STAND_IN_DIE": "東京"}, "exited with code 137"),
        (("--segment",), {"STAND_IN_HANG": "東京"}, "did not answer in time"),
        (("--segment",), {"STAND_IN_CHANGE": "東京"}, "returned different text"),
    ],
)
def test_a_juman_that_fails_its_probe_is_an_error(
    program: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    variables: dict[str, str],
    told: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClusterError, match=told):
        pool(program, 2, *flags, patience=PATIENCE)


def test_a_juman_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="cannot be started"):
        pool(tmp_path / "nothing")
    with pytest.raises(ClusterError, match=r"asked for .* it exited"):
        pool(Path("/bin/true"))


def test_a_stream_that_is_dropped_leaves_no_process_at_work(program: Path) -> None:
    with pool(program) as segmenter:
        stream = segmenter.stream([[line] for line in PLAIN])
        assert next(stream) == [jumanpp.segment(PLAIN[0])]
        stream.close()
        assert answers(segmenter, PLAIN[:9]) == [jumanpp.segment(line) for line in PLAIN[:9]]


def test_batches_are_read_ahead_but_not_without_bound(program: Path) -> None:
    read = 0

    def endless() -> Iterator[list[str]]:
        nonlocal read
        while True:
            read += 1
            yield ["東京都に行く。" * 100]  # 700 characters

    with pool(program, 1) as segmenter:
        stream = segmenter.stream(endless())
        next(stream)
        assert read < 1000
        stream.close()


def test_the_processes_end_with_their_parent(program: Path) -> None:
    script = (
        "import os, signal; from pathlib import Path; from kit.corpus.segmenters.jumanpp import Jumanpp\n"
        f"pool = Jumanpp(2, [{str(program)!r}, '--segment'])\n"
        "print(Path(f'/proc/self/task/{os.getpid()}/children').read_text(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, text=True
    )
    pids = done.stdout.split()
    assert len(pids) == 2
    deadline = time.monotonic() + patience(20)
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(alive(pid) for pid in pids)


def alive(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_any_text_comes_back_whatever_the_number_of_processes(program: Path) -> None:
    with (
        pool(program, 1) as one,
        pool(program, 3, longest_run=30) as three,
        pool(program, 2) as two,
    ):

        @settings(max_examples=50, deadline=None)
        @given(TEXTS)
        def holds(text: str) -> None:
            chunks = [text, text[::-1], text * 30]
            (found,) = two.stream([chunks])
            assert [answer.replace(" ", "") for answer in found] == chunks
            assert all(all(answer.split(" ")) for answer in found)
            assert list(one.stream([chunks])) == [found]
            (short,) = three.stream([chunks])
            assert [answer.replace(" ", "") for answer in short] == chunks

        holds()
        assert one.unsegmented == two.unsegmented


def test_a_random_mix_of_faults_gives_the_same_for_any_number_of_processes(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fault, mark in (("DIE", "死"), ("CHANGE", "変"), ("SWALLOW", "呑"), ("DOUBLE", "重")):
        monkeypatch.setenv(f"STAND_IN_{fault}", mark)
    chance = random.Random(7)
    odd = ["死", "変", "呑", "重", "い\tう", "a" * 300, "\ud800", "これは死と変。"]
    lines = [chance.choice(odd) if chance.random() < 0.008 else line for line in PLAIN]
    found = []
    for workers in (1, 2, 3):
        with pool(program, workers) as segmenter:
            found.append((answers(segmenter, lines), segmenter.unsegmented))
    assert found[0] == found[1] == found[2]
    assert [answer.replace(" ", "") for answer in found[0][0]] == lines


def test_a_block_is_cut_at_the_line_that_was_not_answered() -> None:
    case = Case("x")
    block = RequestPart(Request([f"駅{number}" for number in range(10)]), 0, 10)
    good = block.count_answered(b"\xe9\xa7\x85 0\n\xe9\xa7\x85 1\n\xe9\xa7")
    assert good == 2
    parts = list(block.split(good, case))
    assert [(part.start, part.stop) for part in parts] == [(0, 2), (2, 3), (3, 6), (6, 10)]
    assert [(part.start, part.stop) for part in parts[0].split(0, case)] == [(0, 1), (1, 2)]


def test_the_stand_in_tells_how_long_it_waited(
    program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path))
    with pool(program, 1) as segmenter:
        answers(segmenter, PLAIN[:50])
    (row,) = (json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir())
    assert 0 < row["waited"] < row["last"] - row["first"] + 0.001
