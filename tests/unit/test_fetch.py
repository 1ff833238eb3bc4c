"""Fetching a file from a server that is well, slow to recover, or wrong."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from kit.corpus.raw import fetch as fetching
from kit.corpus.raw.checksums import Sum
from kit.corpus.raw.fetch import NotFound, Patience, download_path, fetch
from kit.errors import InputError, TransferError
from kit.output.progress import progress_bar
from kit.store.files import write_json
from tests.server import BODY, Server, serving

if TYPE_CHECKING:
    from pathlib import Path

ONCE = Patience(pauses=())
SHORT = Patience(pauses=(0.01, 0.02), longest=0.03)
RIGHT = {"sha256": Sum(hashlib.sha256(BODY).hexdigest(), "the recipe")}


def refusal(server: Server, fetched: Path, patience: Patience = ONCE) -> str:
    """The one line that answers a failed fetch; nothing then stands under the file's own name."""
    with pytest.raises(InputError) as caught:
        fetch([server.url()], fetched, patience=patience)
    assert server.url() in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not fetched.exists()
    return str(caught.value)


def leave_transfer(fetched: Path, content: bytes, **known: object) -> None:
    """What a task that died has left of a transfer."""
    fetched.parent.mkdir(parents=True)
    fetched.with_name(f"{fetched.name}.transfer").write_bytes(content)
    if known:
        write_json(fetched.with_name(f"{fetched.name}.transfer.json"), known)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_is_fetched(server: Server, fetched: Path, chunked: bool) -> None:
    server.chunked = chunked
    assert fetch([server.url() + "?mirror=1"], fetched) == fetched
    assert fetched.read_bytes() == BODY
    assert list(fetched.parent.iterdir()) == [fetched]


def test_a_url_has_a_place_of_its_own(tmp_path: Path) -> None:
    one, two = (download_path(f"https://example.org/{name}/ja.txt.xz", tmp_path) for name in "ab")
    assert one != two
    assert one.name == two.name == "ja.txt.xz"
    with pytest.raises(InputError, match="has no file name"):
        download_path("https://example.org/", tmp_path)


@pytest.mark.parametrize(
    "url", ["https://example.org/a/..", "https://example.org/a/../", "https://a/.."]
)
def test_no_url_leads_out_of_its_folder(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="has no file name"):
        download_path(url, tmp_path)


@pytest.mark.parametrize(
    "name", ["..%2F..%2Fa", "%2e%2e", "a\\..\\b", "a;../b", "a?x=/../../b", "a#/../b"]
)
def test_a_name_in_a_url_is_one_name(tmp_path: Path, name: str) -> None:
    path = download_path(f"https://example.org/x/{name}", tmp_path)
    assert path.parent.parent == tmp_path
    assert path.resolve().is_relative_to(path.parent)


def test_a_file_that_is_there_is_not_loaded_again(server: Server, fetched: Path) -> None:
    fetch([server.url()], fetched, RIGHT)
    fetch([server.url()], fetched, RIGHT)
    assert len(server.asked) == 1


def test_a_file_that_is_there_and_wrong_is_put_away_and_loaded_again(
    server: Server, fetched: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetched.parent.mkdir()
    fetched.write_bytes(b"wrong")
    fetch([server.url()], fetched, RIGHT)
    assert fetched.read_bytes() == BODY
    assert fetched.with_name("web.txt.wrong").read_bytes() == b"wrong"
    assert ", not that of the recipe" in capfd.readouterr().err


@pytest.mark.parametrize("total", [False, True])
def test_a_transfer_that_was_cut_goes_on_where_it_stopped(
    server: Server, fetched: Path, total: bool
) -> None:
    server.cut_after, server.total, server.etag = 70_000, total, '"1"'
    assert "run ekiden download again" in refusal(server, fetched)
    refusal(server, fetched)
    server.cut_after = None
    assert fetch([server.url()], fetched).read_bytes() == BODY
    assert server.asked == [None, "bytes=70000-", "bytes=140000-"]
    assert list(fetched.parent.iterdir()) == [fetched]


def test_in_one_run_a_cut_transfer_goes_on_as_often_as_there_are_pauses(
    server: Server, fetched: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.cut_after, server.times = 70_000, 2
    assert fetch([server.url()], fetched, patience=SHORT).read_bytes() == BODY
    assert server.asked == [None, "bytes=70000-", "bytes=140000-"]
    assert capfd.readouterr().err.count("retrying in") == 2


def test_a_run_that_gets_further_has_its_pauses_again(server: Server, fetched: Path) -> None:
    server.body = BODY * 30
    server.cut_after = 1_500_000
    assert fetch([server.url()], fetched, patience=Patience((0.01,))).read_bytes() == server.body
    assert len(server.asked) == 5


def test_a_server_that_gives_the_same_head_again_and_again_is_left(
    server: Server, fetched: Path
) -> None:
    server.body, server.cut_after, server.ranges = BODY * 10, 1_500_000, False
    assert "ended early" in refusal(server, fetched, SHORT)
    assert len(server.asked) <= 6


def test_a_chunked_transfer_that_was_cut_is_refused(server: Server, fetched: Path) -> None:
    server.chunked, server.cut_after = True, 70_000
    refusal(server, fetched)


def test_a_server_that_ignores_ranges_is_read_from_the_start(server: Server, fetched: Path) -> None:
    server.ranges, server.cut_after = False, 70_000
    refusal(server, fetched)
    server.cut_after = None
    assert fetch([server.url()], fetched).read_bytes() == BODY


def test_a_transfer_that_was_complete_when_the_task_died_is_kept(
    server: Server, fetched: Path
) -> None:
    leave_transfer(fetched, BODY)
    assert fetch([server.url()], fetched).read_bytes() == BODY
    assert server.asked == [f"bytes={len(BODY)}-"]


def test_a_partial_file_longer_than_the_servers_is_not_taken_for_whole(
    server: Server, fetched: Path
) -> None:
    leave_transfer(fetched, BODY + b"of an older, longer file")
    assert "the file has changed since its transfer began" in refusal(server, fetched)
    assert fetch([server.url()], fetched).read_bytes() == BODY


@pytest.mark.parametrize("conditions", [True, False], ids=["honours If-Range", "ignores it"])
@pytest.mark.parametrize("header", ["etag", "last_modified"])
def test_a_file_that_changed_meanwhile_is_begun_anew(
    server: Server, fetched: Path, header: str, conditions: bool
) -> None:
    server.conditions, server.cut_after, server.times = conditions, 70_000, 1
    old, new = ('"1"', '"2"') if header == "etag" else ("Fri, 01 Jul 2022", "Sat, 02 Jul 2022")
    setattr(server, header, old)
    refusal(server, fetched)
    setattr(server, header, new)
    server.body = BODY[::-1]
    assert fetch([server.url()], fetched, patience=SHORT).read_bytes() == BODY[::-1]
    assert server.conditional == [None, old] if conditions else [None, old, None]


def test_a_file_of_another_size_is_begun_anew(server: Server, fetched: Path) -> None:
    server.cut_after, server.times, server.total = 70_000, 1, True
    refusal(server, fetched)
    server.body = BODY[1:]
    assert fetch([server.url()], fetched, patience=SHORT).read_bytes() == BODY[1:]


@pytest.mark.parametrize("length", [1, -1, -70_000])
def test_a_body_of_another_length_than_told_is_not_taken_for_whole(
    server: Server, fetched: Path, length: int
) -> None:
    server.length = length
    line = refusal(server, fetched, SHORT)
    assert ("ended early" if length > 0 else "sends more than") in line


@pytest.mark.parametrize("shift", [-10, 10])
def test_another_range_than_was_asked_for_is_not_appended(
    server: Server, fetched: Path, shift: int
) -> None:
    server.cut_after, server.times, server.shift = 70_000, 1, shift
    refusal(server, fetched)
    assert "another range" in refusal(server, fetched)
    assert fetch([server.url()], fetched).read_bytes() == BODY


def test_a_body_without_length_needs_a_checksum(server: Server, fetched: Path) -> None:
    server.no_length = True
    assert "give its sha256" in refusal(server, fetched)
    assert fetch([server.url()], fetched, RIGHT).read_bytes() == BODY


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_refusal_of_the_server_is_told(server: Server, fetched: Path, status: int) -> None:
    server.status = status
    assert f"the server answers {status}" in refusal(server, fetched)


def test_what_will_not_pass_is_not_tried_again(server: Server, fetched: Path) -> None:
    server.status = 404
    with pytest.raises(NotFound):
        fetch([server.url()], fetched, patience=SHORT)
    assert len(server.asked) == 1


@pytest.mark.parametrize("asked", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_503_is_waited_for_as_the_server_asks_up_to_a_limit(
    server: Server, fetched: Path, capfd: pytest.CaptureFixture[str], asked: str
) -> None:
    server.status, server.times, server.retry_after = 503, 1, asked
    fetch([server.url()], fetched, patience=Patience((0.0,), longest=0.02))
    assert "answers 503 Service Unavailable; retrying in 0.02 s" in capfd.readouterr().err
    assert len(server.asked) == 2


def test_a_503_that_stays_is_a_transfer_to_be_tried_again(server: Server, fetched: Path) -> None:
    server.status = 503
    with pytest.raises(TransferError, match="answers 503"):
        fetch([server.url()], fetched, patience=SHORT)
    assert len(server.asked) == 3


def test_a_server_that_is_not_there_is_told(fetched: Path) -> None:
    with pytest.raises(TransferError, match="was interrupted"):
        fetch(["http://127.0.0.1:9/pub/web.txt"], fetched, patience=ONCE)


@pytest.mark.parametrize("name", ["a b.txt", "日本語.txt"])
def test_what_is_no_address_is_refused(server: Server, fetched: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"not a valid URL|outside ASCII"):
        fetch([server.url(name)], fetched, patience=SHORT)
    assert not server.asked


def test_mirrors_are_tried_in_turn(server: Server, fetched: Path) -> None:
    server.missing = {"one.txt"}
    dead = "http://127.0.0.1:9/pub/two.txt"
    fetch([server.url("one.txt"), dead, server.url("three.txt")], fetched)
    assert fetched.read_bytes() == BODY
    assert server.names == ["one.txt", "three.txt"]


def test_a_mirror_goes_on_with_what_another_server_began(server: Server, fetched: Path) -> None:
    server.etag, server.cut_after, server.times, server.total = '"1"', 70_000, 1, True
    with serving() as mirror:
        mirror.body, mirror.etag, mirror.total = BODY, '"a"', True
        fetch([server.url(), mirror.url()], fetched, patience=ONCE)
        assert mirror.asked == ["bytes=70000-"]
    assert fetched.read_bytes() == BODY


def test_a_mirror_with_a_file_of_another_size_is_not_appended(
    server: Server, fetched: Path
) -> None:
    server.cut_after, server.total = 70_000, True
    with serving() as mirror:
        mirror.body, mirror.total = BODY + b"!", True
        with pytest.raises(TransferError):
            fetch([server.url(), mirror.url()], fetched, patience=ONCE)
    assert not fetched.exists()


def test_a_wrong_file_is_put_away_and_a_mirror_tried(server: Server, fetched: Path) -> None:
    server.files = {"bad.txt": BODY[1:]}
    fetch([server.url("bad.txt"), server.url("good.txt")], fetched, RIGHT)
    assert fetched.read_bytes() == BODY
    assert fetched.with_name("web.txt.wrong").read_bytes() == BODY[1:]
    fetched.unlink()
    with pytest.raises(
        InputError, match=r"not that of the recipe.*kept as .*web\.txt\.wrong: .* give a mirror"
    ):
        fetch([server.url("bad.txt")], fetched, RIGHT)
    assert not fetched.exists()


def test_all_refusals_are_told(server: Server, fetched: Path) -> None:
    server.missing = {"one.txt"}
    server.files = {"two.txt": b"wrong"}
    with pytest.raises(
        InputError, match=r"one\.txt: the server answers 404.*two\.txt: its SHA-256"
    ):
        fetch([server.url("one.txt"), server.url("two.txt")], fetched, RIGHT)


def test_a_log_has_a_line_a_minute_with_rate_and_time_left(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        with progress_bar("ja.txt.xz", 10**8, out=log, every=0) as at:
            at(25 * 10**6)
        with progress_bar("quick", 10, out=log, every=60) as at:
            at(10)
    line = (tmp_path / "log").read_text()
    assert line.startswith("ja.txt.xz: 25 MB of 100 MB, ")
    assert line.endswith(" left\n")
    assert line.count("\n") == 1


def test_a_terminal_has_a_bar_with_rate_and_time_left() -> None:
    outer, inner = os.openpty()
    with os.fdopen(inner, "w") as terminal, progress_bar("ja.txt.xz", 10**8, out=terminal) as at:
        at(50 * 10**6)
    text = ""
    with os.fdopen(outer) as screen, contextlib.suppress(OSError):  # the end of a terminal
        while line := screen.readline():
            text += line
    assert "ja.txt.xz" in text
    assert "50 MB of 100 MB" in text


def test_the_pauses_grow() -> None:
    assert list(fetching.PAUSES) == sorted(fetching.PAUSES)
    assert Patience().pauses == fetching.PAUSES
