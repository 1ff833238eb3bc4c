"""Fetching a file beside another process, and onto a disk that is too small."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from kit.corpus.raw.fetch import fetch
from kit.errors import InputError, TransferError
from tests.disk import fill, small_disk
from tests.server import BODY, Server
from tests.unit.test_fetch import SHORT

if TYPE_CHECKING:
    from pathlib import Path


def fetch_elsewhere(server: Server, fetched: Path) -> subprocess.Popen[bytes]:
    """A process that has begun to fetch, and gets the second half when `server.hold` is set."""
    server.hold = threading.Event()
    code = (
        "import sys; from pathlib import Path; from kit.corpus.raw.fetch import fetch; "
        "fetch([sys.argv[1]], Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url(), str(fetched)])
    partial = fetched.with_name(f"{fetched.name}.transfer")
    while not partial.exists() or not partial.stat().st_size:
        time.sleep(0.01)
    return process


def test_a_second_process_leaves_the_file_to_the_first(server: Server, fetched: Path) -> None:
    first = fetch_elsewhere(server, fetched)
    assert server.hold is not None
    try:
        with pytest.raises(TransferError, match="another process is downloading it"):
            fetch([server.url()], fetched)
    finally:
        server.hold.set()
    assert first.wait() == 0
    assert fetched.read_bytes() == BODY
    assert len(server.asked) == 1


def test_what_a_killed_process_had_fetched_is_not_fetched_again(
    server: Server, fetched: Path
) -> None:
    server.etag = '"1"'
    process = fetch_elsewhere(server, fetched)
    process.kill()
    process.wait()
    assert server.hold is not None
    server.hold.set()
    have = fetched.with_name(f"{fetched.name}.transfer").stat().st_size
    assert fetch([server.url()], fetched).read_bytes() == BODY
    assert server.asked == [None, f"bytes={have}-"]
    assert server.conditional == [None, '"1"']


def test_a_small_disk_is_refused_before_anything_is_loaded(server: Server, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with small_disk(tmp_path / "small", "128k"):
        fetched = tmp_path / "small" / "web.txt"
        with pytest.raises(InputError, match=r"0\.000\d* GB to download.* 0\.000\d* GB free"):
            fetch([server.url()], fetched)
        assert fetched.with_name("web.txt.transfer").stat().st_size == 0


def test_a_disk_that_fills_up_is_told_and_what_is_there_is_kept(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "small").mkdir()
    server.hold = threading.Event()
    with small_disk(tmp_path / "small", "512k"):
        fetched = tmp_path / "small" / "web.txt"

        def fill_meanwhile() -> None:
            while not server.asked or not fetched.with_name("web.txt.transfer").stat().st_size:
                time.sleep(0.01)
            fill(tmp_path / "small")
            assert server.hold is not None
            server.hold.set()

        waiting = threading.Thread(target=fill_meanwhile)
        waiting.start()
        with pytest.raises(InputError, match=r"cannot be written \(No space left"):
            fetch([server.url()], fetched, patience=SHORT)
        waiting.join()
        assert len(server.asked) == 1
        (tmp_path / "small" / "filler").unlink()
        assert fetch([server.url()], fetched).read_bytes() == BODY
