"""A stand-in for the Hub: its API over HTTP, as far as a push uses it, with manners that can be changed.

Large files go by its LFS protocol; that of Xet has no stand-in.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from tests.server import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "hf_" + "x" * 20
LARGE = (".safetensors", ".gguf")


@dataclass
class Fault:
    """What the next requests of a path get in place of their answer."""

    path: str  # a regular expression
    status: int | None  # None: the connection breaks off in the middle of what is sent
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class StandInHub:
    port: int = 0
    private: dict[str, bool] = field(default_factory=dict)  # repositories
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # files, oldest first
    messages: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    uploaded: dict[str, bytes] = field(default_factory=dict)  # large files by their SHA-256
    requests: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    received: int = 0  # bytes of large files
    rejected_card: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def head(self) -> str:
        return [*self.commits][-1]

    def add(self, files: dict[str, bytes], message: str = "By hand") -> str:
        """Make a commit."""
        number = f"{len(self.commits) + 1:040x}"
        self.commits[number], self.messages = files, [*self.messages, message]
        return number

    def fault(self, line: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and re.search(fault.path, line):
                fault.times -= 1
                return fault
        return None


@contextlib.contextmanager
def serving() -> Iterator[StandInHub]:
    """A Hub on a free port of this machine."""
    hub = StandInHub()
    hub.add({".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, hub)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with listening(Handler) as hub.port:
        yield hub


def answer(request: BaseHTTPRequestHandler, hub: StandInHub) -> None:
    line = f"{request.command} {request.path}"
    hub.requests.append(line)
    length = int(request.headers.get("Content-Length", 0))
    fault = hub.fault(line)
    if fault is not None and fault.status is None:
        request.rfile.read(length // 2)
        request.connection.shutdown(socket.SHUT_RDWR)
        request.close_connection = True
        return
    body = request.rfile.read(length)
    if fault is not None and fault.status is not None:
        reply(request, fault.status, {"error": "not now"}, fault.headers)
        return
    if request.path.startswith("/lfs/"):  # a signed address, which takes no token
        hub.uploaded[request.path.removeprefix("/lfs/")] = body
        hub.received += length
        reply(request, 200, {})
        return
    if request.headers.get("Authorization") != f"Bearer {TOKEN}":
        reply(request, 401, {"error": "Invalid credentials in Authorization header"})
        return
    status, value = act(hub, line, body)
    reply(request, status, value)


def reply(
    request: BaseHTTPRequestHandler, status: int, value: Any, headers: dict[str, str] | None = None
) -> None:
    body = json.dumps(value).encode()
    request.send_response(status)
    for name, text in (headers or {}).items():
        request.send_header(name, text)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def act(hub: StandInHub, line: str, body: bytes) -> tuple[int, Any]:
    """The answer to a request of a client that may write."""
    known = next((name for name in hub.private if f"/{name}" in line), None)
    if line == "POST /api/repos/create":
        return create(hub, json.loads(body))
    if line == "POST /api/validate-yaml":
        wrong = [{"message": hub.rejected_card}] if hub.rejected_card else []
        return (400 if wrong else 200), {"errors": wrong, "warnings": []}
    if known is None:
        return 404, {"error": "Repository not found"}
    rest = line.partition(f"/{known}")[2].partition("?")[0]
    if rest.startswith("/preupload/"):
        return preupload(hub, json.loads(body))
    if rest == ".git/info/lfs/objects/batch":
        return 200, {"objects": [lfs(hub, one) for one in json.loads(body)["objects"]]}
    if rest.startswith("/commit/"):
        return commit(hub, known, [json.loads(row) for row in body.splitlines()])
    if rest.startswith("/tag/"):
        return tag(hub, rest.removeprefix("/tag/"), json.loads(body)["tag"])
    if rest == "/refs":
        tags = [
            {"name": n, "ref": f"refs/tags/{n}", "targetCommit": c} for n, c in hub.tags.items()
        ]
        return 200, {"branches": [], "converts": [], "tags": tags}
    if rest.startswith("/tree/"):
        revision = rest.split("/")[2]
        files = hub.commits[hub.head if revision == "main" else revision]
        return 200, [entry(name, content) for name, content in files.items()]
    assert rest in ("", "/revision/main"), line
    facts = {
        "id": known,
        "sha": hub.head,
        "private": hub.private[known],
        "tags": [],
        "siblings": [],
    }
    return 200, facts


def create(hub: StandInHub, wanted: dict[str, Any]) -> tuple[int, Any]:
    name = f"{wanted['organization']}/{wanted['name']}"
    if name in hub.private:
        return 409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"}
    hub.private[name] = wanted.get("visibility") == "private" or wanted.get("private", False)
    return 200, {"url": f"{hub.url}/{name}"}


def preupload(hub: StandInHub, wanted: dict[str, Any]) -> tuple[int, Any]:
    files = hub.commits[hub.head]
    return 200, {
        "files": [
            {
                "path": (name := file["path"]),
                "uploadMode": "lfs" if name.endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": oid(name, files[name]) if name in files else None,
            }
            for file in wanted["files"]
        ]
    }


def lfs(hub: StandInHub, wanted: dict[str, Any]) -> dict[str, Any]:
    """Where a large file is sent, unless it is there."""
    known = {"oid": wanted["oid"], "size": wanted["size"]}
    if wanted["oid"] in hub.uploaded:
        return known
    return known | {"actions": {"upload": {"href": f"{hub.url}/lfs/{wanted['oid']}"}}}


def commit(hub: StandInHub, name: str, rows: list[dict[str, Any]]) -> tuple[int, Any]:
    files = dict(hub.commits[hub.head])
    message = ""
    for row in rows:
        value = row["value"]
        match row["key"]:
            case "header":
                message = value["summary"]
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                files[value["path"]] = hub.uploaded[value["oid"]]
            case "deletedFile":
                del files[value["path"]]
    made = hub.add(files, message)
    return 200, {"commitUrl": f"{hub.url}/{name}/commit/{made}", "commitOid": made, "success": True}


def tag(hub: StandInHub, revision: str, name: str) -> tuple[int, Any]:
    if name in hub.tags:
        return 409, {"error": "Tag already exists"}
    hub.tags[name] = revision
    return 200, {}


def oid(name: str, content: bytes) -> str:
    """A file's hash as the Hub gives it."""
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(name: str, content: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "file", "path": name, "size": len(content)}
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if name.endswith(LARGE):
        row["lfs"] = {"oid": oid(name, content), "size": len(content), "pointerSize": 130}
    return row | {"oid": blob}
