"""The output that pages show, held against what commands print today.

    shape("a save          0.31 s, blocking training for 0.018 s") == shape(another_line)
    not_printed(page, output)              # lines of the page that its commands have not printed

Figures, names of files and texts of a model differ from run to run; words and their order may not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.markdown import printed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# How blocks of text begin that show another run than that of the commands above them, or a file.
OF_ANOTHER_RUN = (
    "$ ",  # the command is in the block
    "train: training starts at step 0",
    "train: step 38 of 5,000",
    "2026-11-29 10:31:35 attempt 1 rank 0: STOP file found",
    "work/demo/runs/long, ",
    "work/demo/runs/demo    evaluate: stale",
    "{",
    "step  held-out/bits_per_byte  terms/acc",
)


def not_printed(page: Path, output: str) -> Iterator[str]:
    """The lines that the page shows after its commands, and that these have not printed."""
    sections = dict(re.findall(r"^--- (\S+)\n(.*?)(?=^--- |\Z)", output, re.MULTILINE | re.DOTALL))
    for commands_before, number, text in printed(page):
        if commands_before.needs is None and not text.startswith(OF_ANOTHER_RUN):
            said = {*map(shape, sections[commands_before.place].splitlines())}
            for line in map(shape, text.splitlines()):
                if line not in said and not begins(said, line):
                    yield f"{page.name}:{number}: {line}"


def begins(said: set[str], line: str) -> bool:
    """Whether a line that ends in `...`, or is nothing else, begins one of those."""
    start = line.removesuffix("...")
    return start != line and any(one.startswith(start.rstrip()) for one in said)


def shape(line: str) -> str:
    """A line without its figures, names of files and texts of a model; words in the singular."""
    for pattern, instead in (
        (r"'.*'", "'TEXT'"),
        (r"\S*/\S+", "PATH"),
        (r"\d[\d,.:-]*", "0"),
        (r"\b0 (d|h|min|s|ms|kB|MB|GB)( 0 (h|min|s))?\b", "0 UNIT"),
        (r"(?<=\w\w)s\b", ""),
        (r"[─━]+", "-"),
    ):
        line = re.sub(pattern, instead, line)
    return " ".join(line.split())
