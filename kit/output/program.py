"""The kit's commands in messages, spelled as the user started this process.

    program.command("train", "amend", run.root)     # ekiden train amend work/demo/runs/demo
    program.respelled(message)                      # of another process, such as a job

Whoever typed `.venv/bin/ekiden` or `python3 -m jobs.train` reads commands that begin alike. A process that
no user started, such as a job, says `ekiden`.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import sys
from pathlib import Path

# In the order of --help: the most used first, then the stages.
JOBS = ("pipeline", "plan", "watch", "list", "presets", "download", "preprocess", "tokenizer", "tokenize",
        "train", "evaluate", "export", "generate", "push")  # fmt: skip

_NAME = "ekiden"
_PATH = r"[\w./~+-]"
_SPELLED = re.compile(
    rf"(?:{_PATH}*\b{_NAME} |(?:{_PATH}+ -m )?\bjobs\.)({'|'.join(JOBS)})\b",
)


def command(job: str, *words: object) -> str:
    """A command to type, quoted for the shell: a job, its verb and their arguments."""
    return shlex.join([*_beginning(job), *map(str, words)])


def respelled(text: str) -> str:
    """A message of another process with its commands spelled as in this one."""
    return _SPELLED.sub(lambda match: command(match[1]), text)


def _beginning(job: str) -> list[str]:
    started = Path(sys.argv[0])
    if started.parent.name == "jobs" and started.suffix == ".py":  # by python -m
        return [sys.orig_argv[0], "-m", f"jobs.{job}"]
    return [_script(sys.argv[0]), job] if started.name == _NAME else [_NAME, job]


@functools.cache
def _script(path: str) -> str:
    """The console script: by its name if the shell would find the same one, else as it was called."""
    found = shutil.which(_NAME)
    return _NAME if found and Path(found).resolve() == Path(path).resolve() else path
