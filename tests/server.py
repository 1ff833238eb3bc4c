"""A file server over HTTP whose manners can be changed while it runs."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = b"".join(f"行 {number}\n\n".encode() for number in range(20_000))  # 200 kB


@dataclass
class Server:
    """What it has and how it answers; every request is on record."""

    port: int = 0
    body: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)  # by name; others are `body`
    missing: set[str] = field(default_factory=set)  # names answered with 404
    ranges: bool = True  # honours Range
    conditions: bool = True  # honours If-Range
    etag: str | None = None
    last_modified: str | None = None
    cut_after: int | None = None  # closes the connection behind so many bytes of the body
    chunked: bool = False
    status: int = 200
    times: int | None = None  # how often `status` or `cut_after` holds; None: always
    retry_after: str | None = None
    length: int = 0  # what the Content-Length is too great (or, below zero, too small) by
    no_length: bool = False
    shift: int = 0  # how far another range is sent than the one that was asked for
    total: bool = False  # tells the size of the whole in a Content-Range
    hold: threading.Event | None = None  # a body's second half waits for it
    hold_seconds: float = 20  # but no longer
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    conditional: list[str | None] = field(default_factory=list)  # their If-Range
    names: list[str] = field(default_factory=list)

    def url(self, name: str = "web.txt") -> str:
        return f"http://127.0.0.1:{self.port}/pub/{name}"

    def spend(self) -> bool:
        """Whether the bad manners hold for this request."""
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, state)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with listening(Handler) as state.port:
        yield state


@contextlib.contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Answer requests to a free port of this machine, whose number is given."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def answer(request: BaseHTTPRequestHandler, state: Server) -> None:
    name = request.path.rsplit("/", 1)[-1].partition("?")[0]
    wanted = request.headers.get("Range")
    state.asked.append(wanted)
    state.names.append(name)
    request.close_connection = True
    bad = state.spend()
    if name in state.missing:
        request.send_error(404)
        return
    if state.status != 200 and bad:
        request.send_response(state.status)
        if state.retry_after:
            request.send_header("Retry-After", state.retry_after)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    body = whole = state.files.get(name, state.body)
    state.conditional.append(condition := request.headers.get("If-Range"))
    same = not state.conditions or condition in (None, state.etag, state.last_modified)
    first, status = 0, 200
    if wanted and state.ranges and same:
        first, status = int(wanted.removeprefix("bytes=").rstrip("-")) + state.shift, 206
        if first >= len(whole):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(whole)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = whole[first:]
    request.send_response(status)
    if status == 206:
        total = len(whole) if state.total else "*"
        request.send_header("Content-Range", f"bytes {first}-{len(whole) - 1}/{total}")
    for header, value in (("ETag", state.etag), ("Last-Modified", state.last_modified)):
        if value:
            request.send_header(header, value)
    send(
        request,
        state,
        body,
        body if state.cut_after is None or not bad else body[: state.cut_after],
    )


def send(request: BaseHTTPRequestHandler, state: Server, body: bytes, sent: bytes) -> None:
    if state.chunked:
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(f"{len(body):x}\r\n".encode() + sent)
        if sent == body:
            request.wfile.write(b"\r\n0\r\n\r\n")
        return
    if not state.no_length:
        request.send_header("Content-Length", str(len(body) + state.length))
    request.end_headers()
    half = len(sent) // 2
    request.wfile.write(sent[:half])
    request.wfile.flush()
    if state.hold:
        state.hold.wait(state.hold_seconds)
    with contextlib.suppress(OSError):  # a client that has gone
        request.wfile.write(sent[half:])
