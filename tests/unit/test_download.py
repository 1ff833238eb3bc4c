"""Fetching raw text from a server that is well, slow to recover, or wrong."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from kit import stage
from kit.corpus import download
from kit.errors import InputError
from kit.workspace import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.conftest import Desk

BODY = b"".join(f"行 {number}\n\n".encode() for number in range(20_000))  # 200 kB


@dataclass
class Server:
    """A file server over HTTP whose manners can be changed while it runs."""

    port: int = 0
    body: bytes = BODY
    ranges: bool = True  # honours Range
    cut_after: int | None = None  # closes the connection behind so many bytes of the body
    chunked: bool = False
    status: int = 200
    asked: list[str | None] = field(default_factory=list)  # the Range of each request

    def url(self, name: str = "web.txt") -> str:
        return f"http://127.0.0.1:{self.port}/pub/{name}"


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            self.close_connection = True
            if state.status != 200:
                self.send_error(state.status)
                return
            body, status = state.body, 200
            if wanted and state.ranges:
                first = int(wanted.removeprefix("bytes=").rstrip("-"))
                if first >= len(body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(body)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body, status = body[first:], 206
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/*")
            sent = body if state.cut_after is None else body[: state.cut_after]
            if state.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(f"{len(body):x}\r\n".encode() + sent)
                if sent == body:
                    self.wfile.write(b"\r\n0\r\n\r\n")
            else:
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(sent)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        state.port = listening.server_port
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


def refusal(url: str, folder: Path) -> str:
    """The one line that answers a failed fetch; nothing then stands under the file's own name."""
    with pytest.raises(InputError) as caught:
        download.fetch(url, folder)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(folder.glob("*/web.txt"))
    return str(caught.value)


def leave_transfer(server: Server, folder: Path, content: bytes) -> None:
    """What a task that died has left of a transfer."""
    path = download.place(server.url(), folder)
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.transfer").write_bytes(content)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_is_fetched(server: Server, tmp_path: Path, chunked: bool) -> None:
    server.chunked = chunked
    path = download.fetch(server.url() + "?mirror=1", tmp_path)
    assert path == download.place(server.url() + "?mirror=1", tmp_path)
    assert path.name == "web.txt"
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_there_is_not_loaded_again(server: Server, tmp_path: Path) -> None:
    first = download.fetch(server.url(), tmp_path)
    assert download.fetch(server.url(), tmp_path) == first
    assert len(server.asked) == 1


def test_a_transfer_that_was_cut_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut_after = 70_000
    assert "run jobs.download again" in refusal(server.url(), tmp_path)
    refusal(server.url(), tmp_path)
    server.cut_after = None
    assert download.fetch(server.url(), tmp_path).read_bytes() == BODY
    assert server.asked == [None, "bytes=70000-", "bytes=140000-"]


def test_a_chunked_transfer_that_was_cut_is_refused(server: Server, tmp_path: Path) -> None:
    server.chunked, server.cut_after = True, 70_000
    refusal(server.url(), tmp_path)


def test_a_server_that_ignores_ranges_is_read_from_the_start(
    server: Server, tmp_path: Path
) -> None:
    server.ranges, server.cut_after = False, 70_000
    refusal(server.url(), tmp_path)
    server.cut_after = None
    assert download.fetch(server.url(), tmp_path).read_bytes() == BODY


def test_a_transfer_that_was_complete_when_the_task_died_is_kept(
    server: Server, tmp_path: Path
) -> None:
    leave_transfer(server, tmp_path, BODY)
    assert download.fetch(server.url(), tmp_path).read_bytes() == BODY
    assert server.asked == [f"bytes={len(BODY)}-"]


def test_a_partial_file_longer_than_the_servers_is_not_taken_for_whole(
    server: Server, tmp_path: Path
) -> None:
    leave_transfer(server, tmp_path, BODY + b"of an older, longer file")
    try:
        found = download.fetch(server.url(), tmp_path).read_bytes()
    except InputError:
        assert not download.place(server.url(), tmp_path).exists()
    else:
        assert found == BODY


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_refusal_of_the_server_is_told(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    assert f"the server answers {status}" in refusal(server.url(), tmp_path)


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "broke off" in refusal("http://127.0.0.1:9/pub/web.txt", tmp_path)


@pytest.mark.parametrize("name", ["a b.txt", ""])
def test_a_url_that_names_no_file_is_refused(server: Server, tmp_path: Path, name: str) -> None:
    refusal(server.url(name) if name else f"http://127.0.0.1:{server.port}/", tmp_path)


def download_unit(desk: Desk, server: Server, *overrides: str) -> stage.Unit:
    recipe = desk.recipe(f"corpus.sources.web.location={server.url()}", *overrides)
    return next(unit for unit in download.units(recipe) if unit.name == "web")


def test_a_fetched_source_becomes_a_unit_that_is_done(desk: Desk, server: Server) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    unit = download_unit(desk, server, f"corpus.sources.web.sha256={digest}")
    assert stage.run("download", [unit]) == 1
    assert unit.state(verify=True) == "done"
    assert stage.run("download", [unit]) == 0
    assert len(server.asked) == 1


def test_a_file_of_another_sha256_is_refused_and_fetched_anew(desk: Desk, server: Server) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    unit = download_unit(desk, server, f"corpus.sources.web.sha256={digest}")
    server.body = BODY.replace("行 7\n".encode(), "行 8\n".encode(), 1)
    with pytest.raises(InputError, match=r"SHA-256 is not that of corpus\.sources\.web"):
        stage.run("download", [unit])
    assert unit.state() == "missing"
    assert not (unit.folder / MANIFEST).exists()
    server.body = BODY
    stage.run("download", [unit])
    assert unit.state(verify=True) == "done"


def test_a_source_of_another_size_or_time_is_stale(desk: Desk) -> None:
    units = download.units(desk.recipe())
    stage.run("download", units)
    assert stage.census(download.units(desk.recipe()))["done"] == 2
    desk.web.write_text(desk.web.read_text(encoding="utf-8") + "\n\n追加\n", encoding="utf-8")
    assert stage.census(download.units(desk.recipe())) == {
        "done": 1, "missing": 0, "stale": 1, "broken": 0,
    }  # fmt: skip


def test_a_missing_source_is_named(desk: Desk) -> None:
    desk.dump.unlink()
    with pytest.raises(InputError, match=r"corpus\.sources\.jawiki\.location=.*no such file"):
        download.units(desk.recipe())
