"""TensorBoard over a run, or over all runs of a workspace.

Its files stay in the run directories. Of a workspace it is given a folder of links, one a run: in the
run directories themselves it would list checkpoints, code and logs, again and again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kit.tracking import event_files
from kit.watch.services import server, tunnel
from kit.watch.services.tunnel import LOOPBACK

if TYPE_CHECKING:
    from kit.store.paths import Run, Workspace

_RELOAD = 30  # seconds


def serve(
    workspace: Workspace, run: Run | None, *, port: int | None = None, login: str | None = None
) -> None:
    """Serve a run, or without one all of the workspace, on this machine's loopback until stopped.

    Raises ConfigError if the port is taken, JobFailed if TensorBoard ends.
    """
    with (
        server.free_port(port, event_files.PORT) as free,
        tempfile.TemporaryDirectory(prefix="ekiden-tensorboard-") as links,
    ):
        folder = run.tensorboard if run else Path(links)

        def link_new_runs() -> None:
            if run is None:
                link(workspace, folder)

        link_new_runs()
        with server.running(command(folder, free)) as process:
            server.wait(process, "TensorBoard", free)
            tunnel.show("TensorBoard", free, "/", login)
            server.watch(process, "TensorBoard", link_new_runs, every=_RELOAD)


def command(folder: Path, port: int) -> list[str]:
    """The command that serves a folder of event files."""
    options = {
        "--logdir": str(folder),
        "--host": LOOPBACK,
        "--port": str(port),
        "--samples_per_plugin": event_files.SAMPLES,
        "--reload_interval": str(_RELOAD),
    }
    words = [word for option in options.items() for word in option]
    return [sys.executable, "-m", "tensorboard.main", *words]


def link(workspace: Workspace, folder: Path) -> None:
    """Link each run's event files into the folder, under the run's name, and unlink deleted runs."""
    for place in folder.iterdir():
        if not place.exists():
            place.unlink()
    for run in workspace.runs():
        place = folder / run.root.name
        if run.tensorboard.is_dir() and not place.is_symlink():
            place.symlink_to(run.tensorboard.resolve())
