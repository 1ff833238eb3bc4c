"""Options of sbatch and srun and environment variables of a cluster file: text that goes into a script.

    options({"mem": 0, "exclusive": True})    # {"mem": "0", "exclusive": "true"}

Some options replace a key of their section, others are the kit's own and are refused. Values are quoted
where the script is written. A name cannot be quoted, and a line break ends an #SBATCH
line even within quotes: both are refused here.
"""

from __future__ import annotations

import re
from typing import Any

_OPTION = re.compile(r"[a-z][a-z0-9_-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f]")


# Keys of a section, by the options of sbatch that replace them.
_REPLACED = {
    "partition": ("partition",),
    "minutes": ("time",),
    "memory_gb": ("mem", "mem-per-cpu", "mem-per-gpu"),
    "gpus": ("gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"),
}
# Options that the kit sets, by what to do instead.
_OWN = {
    "nodes": "set training.nodes",
    "ntasks": "set training.ranks_per_node",
    "ntasks-per-node": "set training.ranks_per_node",
    "cpus-per-task": "set cpus, or training.cpus_per_rank",
    "array": "set corpus.tasks, tokenizer.tasks or tokens.tasks in the recipe",
    "signal": "set training.warning_seconds",
    "job-name": "a job has the names of its run and stage",
    "output": "logs are in the run directory",
    "error": "logs are in the run directory",
    "open-mode": "a requeued job appends to its log",
}


def options(given: Any) -> Any:
    """Check options of sbatch or srun, and return their values as text. Raises ValueError.

    Anything but a mapping is returned as it is, for pydantic to refuse.
    """
    if not isinstance(given, dict):
        return given
    return {_option(name): _value(name, value) for name, value in given.items()}


def names_of_variables(given: dict[str, str | None]) -> dict[str, str | None]:
    """Check the names of environment variables. Raises ValueError."""
    if "PYTHONPATH" in given and given["PYTHONPATH"] is None:
        raise ValueError(
            "null is not for PYTHONPATH: jobs run the code of their run; write the folders to append"
        )
    for name in given:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(
                f"{name!r:.80} cannot be the name of a variable; use letters, digits and _"
            )
    return given


def refuse_own(given: dict[str, str]) -> None:
    """Raise ValueError for an option of sbatch that the kit sets."""
    for name in given:
        if remedy := _OWN.get(name.replace("_", "-")):
            raise ValueError(f"sbatch.{name}: ekiden sets this option itself; {remedy}")


def replacing(given: dict[str, str], key: str) -> str | None:
    """The option of sbatch among these that replaces a key of a section; None if there is none."""
    for name, value in given.items():
        option = name.replace("_", "-")
        if option in _REPLACED[key] and (option != "gres" or "gpu" in value):
            return name
    return None


def merged(general: dict[str, str], own: dict[str, str]) -> dict[str, str]:
    """The general options without those that a section has itself, then the section's."""
    named = {name.replace("_", "-") for name in own}
    return {k: v for k, v in general.items() if k.replace("_", "-") not in named} | own


def flag(value: str) -> str | bool | None:
    """The value as submitit takes it: True for an option without a value, None to leave it out."""
    return {"true": True, "false": None}.get(value, value)


def _option(name: Any) -> str:
    if not isinstance(name, str) or not _OPTION.fullmatch(name):
        raise ValueError(
            f"{name!r:.80} cannot be an option; write its long name without --, such as mail-user"
        )
    return name


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise ValueError(f"{name}={value!r:.80}: write text, a number, or true or false")
    text = str(value)
    if _CONTROL.search(text):
        raise ValueError(f"{name}={text!r:.80}: write it on one line")
    return text
