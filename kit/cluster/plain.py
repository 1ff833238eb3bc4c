"""What the plain batch scripts of sbatch/ need: the file that they source, and options of sbatch.

    plain.write_setup(run, cluster)                  # RUN/setup.sh
    plain.options(run, cluster, job, script_text)    # that the script lacks: ["--array=0-63%64"]

Both come from what `submit` sends, so that a plain script starts the same job.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from kit.cluster import launch
from kit.config.cluster import Kind
from kit.store.files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.cluster.jobs import Job
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

_OPTION = re.compile(r"^#SBATCH --([\w-]+)(?:=(.*))?$", re.MULTILINE)
# Each script has its own logs and dependencies; submitit adds a signal, which tasks ignore.
_OF_THE_SCRIPT = {"output", "open-mode", "dependency"}
_HEAD = """\
# Sets up the shell of a job of this run: `source "$run/setup.sh" SECTION`, with a section of the cluster
# file (network, arrays, single, training). Written by `submit` and `prepare`: change the cluster file.
"""


@dataclass(frozen=True)
class Difference:
    """How the options of a plain script differ from those of the job that `submit` sends."""

    options: list[str]  # to give to sbatch
    surplus: list[str]  # in the script alone: no option of the command line takes them back


def write_setup(run: Run, cluster: Cluster) -> None:
    """Write the file that plain scripts source, after `cluster.json`."""
    write_text(run.setup, setup(run, cluster))


def setup(run: Run, cluster: Cluster) -> str:
    """The text of that file: lines common to all sections of the cluster file, then those of each."""
    environment = launch.job_environment(run, cluster)
    lines = {
        kind: [
            *launch.setup_lines('"$run/code"', environment, cluster, kind),
            f"srun_options=({shlex.join(launch.srun_options(cluster, kind))})",
        ]
        for kind in get_args(Kind)
    }
    common = [line for line in lines["arrays"] if all(line in own for own in lines.values())]
    cases = [
        f"  {kind})\n" + "".join(f"    {line}\n" for line in own if line not in common) + "    ;;\n"
        for kind, own in lines.items()
    ]
    python = f"python={shlex.quote(launch.shell_python(cluster))}"
    task_python = f"task_python=({shlex.join(launch.task_python(cluster))})"
    shared = "".join(f"{line}\n" for line in [*common, python, task_python])
    return f"{_HEAD}{shared}case $1 in\n{''.join(cases)}esac\n"


def options(run: Run, cluster: Cluster, job: Job, script: str) -> Difference:
    """The options of sbatch with which a plain script starts the job that `submit` would send."""
    sent = _options(launch.script(run, cluster, job, []))
    if array := _array(job, cluster):
        sent["array"] = array
    if job.resources != "training":
        sent.pop("signal", None)
    own = _options(script)
    missing = {name: value for name, value in sent.items() if own.get(name) != value}
    if "gpus-per-node" in own and "gpus-per-node" not in sent:
        missing["gpus-per-node"] = "0"
    surplus = own.keys() - sent.keys() - {"gpus-per-node"}
    return Difference(_words(missing), _words({name: own[name] for name in sorted(surplus)}))


def _array(job: Job, cluster: Cluster) -> str | None:
    """The array of a job, whose indices are the numbers of its tasks; None for a single task."""
    if job.tasks == 1 or job.resources == "training":
        return None
    numbers = job.task_numbers
    every = len(numbers) == job.tasks
    indices = f"0-{job.tasks - 1}" if every else ",".join(map(str, numbers))
    return f"{indices}%{min(len(numbers), cluster.resources_of(job.resources).parallel)}"


def _options(script: str) -> dict[str, str]:
    """The options in the #SBATCH lines of a script, without those of each script alone."""
    found = {name: " ".join(shlex.split(value)) for name, value in _OPTION.findall(script)}
    return {name: value for name, value in found.items() if name not in _OF_THE_SCRIPT}


def _words(options: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" if value else f"--{name}" for name, value in options.items()]
