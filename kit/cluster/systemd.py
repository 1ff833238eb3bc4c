"""A unit of systemd that continues a run of this machine after a reboot, in place of a Slurm that would.

    print(systemd.unit(run, cluster))     # for /etc/systemd/system/ekiden-NAME.service

It is a unit of the system, not of a user: only those wait for mounts and for NVIDIA's services. Options are
those of systemd.exec(5), systemd.service(5) and systemd.kill(5), systemd 252.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster.processes import GRACE
from kit.errors import ConfigError, RunError
from kit.output import program

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

_MORE = 30  # seconds beyond the time that the supervisor gives its tasks to save
# Fabric manager connects the GPUs of an NVSwitch: before it runs, CUDA finds none that it can use.
_NVIDIA = "nvidia-persistenced.service nvidia-fabricmanager.service"


def unit(run: Run, cluster: Cluster) -> str:
    """The text of the unit; `pipeline run` makes missing files, and ends at once if all is done.

    Raises ConfigError for a cluster with a scheduler of its own, RunError for a run that was never begun.
    """
    if not cluster.is_this_machine:
        raise ConfigError(
            f"systemd: cluster {cluster.name} starts jobs again by itself; kind: local needs a unit"
        )
    if not run.recipe.is_file():
        begin = program.command("pipeline", "run", "RECIPE", "--cluster", "NAME")
        raise RunError(f"{run.root}: not begun; type: {begin}")
    return "\n".join([*_head(run), "", *_order(run, cluster), "", *_service(run, cluster), ""])


def name(run: Run) -> str:
    """The name of its file."""
    return f"ekiden-{run.root.name}.service"


def _head(run: Run) -> list[str]:
    file = f"/etc/systemd/system/{name(run)}"
    return [
        f"# {file}, written by {program.command('pipeline', 'systemd')}. Save it there, then:",
        f"#   sudo systemctl enable {name(run)}         begins with the next boot; --now: at once",
        f"#   sudo systemctl disable --now {name(run)}  saves and stops, and is not started again",
    ]


def _order(run: Run, cluster: Cluster) -> list[str]:
    services = f" {_NVIDIA}" if cluster.device == "cuda" else ""
    return [
        "[Unit]",
        f"Description=ekiden: the run {_escaped(run.root.name)}",
        f"RequiresMountsFor={_quoted(run.root)}",
        f"After=network-online.target remote-fs.target{services}",
        "Wants=network-online.target",
    ]


def _service(run: Run, cluster: Cluster) -> list[str]:
    words = [sys.executable, "-u", "-m", "jobs.pipeline", "run", run.root]
    command = " ".join(_quoted(word).replace("$", "$$") for word in words)
    return [
        "[Service]",
        f"User={getpass.getuser()}",
        f"WorkingDirectory={_escaped(Path.cwd())}",
        f"Environment={_quoted('PATH=' + os.environ.get('PATH', os.defpath))}",
        *_passed(run, cluster),
        f"ExecStart={command}",
        "# SIGTERM goes to the supervisor alone, whose training saves.",
        "KillMode=mixed",
        f"TimeoutStopSec={GRACE + _MORE}",
        "# Whether a rank that runs out of memory is retried is for the supervisor to decide.",
        "OOMPolicy=continue",
        "# If the supervisor is killed: its own exit codes are decisions.",
        "Restart=on-abnormal",
        "RestartSec=60",
        "LimitMEMLOCK=infinity",
        "LimitNOFILE=1048576",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]


def _passed(run: Run, cluster: Cluster) -> list[str]:
    """Variables that jobs take from who submits: systemd reads them from a file of yours."""
    if not cluster.passed_variables:
        return []
    file = Path.home() / ".config/ekiden" / f"{run.root.name}.env"
    lines = " ".join(f"{name}=..." for name in cluster.passed_variables)
    return [f"# Write {lines} into it, a line each, and `chmod 600` it.", f"EnvironmentFile={file}"]


def _escaped(text: object) -> str:
    """A value that may hold spaces: % begins a specifier."""
    return str(text).replace("%", "%%")


def _quoted(text: object) -> str:
    """A word of a list."""
    inner = _escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'
