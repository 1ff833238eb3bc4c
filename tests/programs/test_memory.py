"""The memory of a task: bounded on the longest documents that are taken, whatever its number of units."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.corpus import preprocess
from kit.corpus.plaintext import DOCUMENT_CHARACTERS, DOCUMENT_LINES
from kit.corpus.raw.lines import LINE_BYTES
from kit.store.files import read_json
from kit.store.paths import MANIFEST
from kit.store.units import make_units
from tests.conftest import units_of
from tests.relay import ROOT
from tests.speed import LONG

if TYPE_CHECKING:
    from tests.conftest import Workdir

BOUND = 500  # MB, as docs/corpus.md says; about a hundred more than was ever seen
# The peak of Python with these arguments, KiB. It is started from a small process: a child's peak is
# never told as less than what its parent holds when it starts it.
PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
WORDS = "駅伝は 襷をつなぐ。 ab cd "


def _of_characters() -> str:
    line = WORDS * (LINE_BYTES // 100)
    return "\n".join([line] * (DOCUMENT_CHARACTERS // len(line)))


TEXTS = {
    "as many characters as may be": ("plaintext", _of_characters),
    "as many lines as may be": ("plaintext", lambda: "日本。\n" * (DOCUMENT_LINES - 1)),
    "an object of as many lines": (
        "jsonl",
        lambda: json.dumps({"text": "日\n" * (DOCUMENT_LINES - 1)}, ensure_ascii=False),
    ),
}


def _resident() -> float:
    """MB of memory that this process holds."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 1e6


def test_the_memory_of_a_task_does_not_grow_with_its_units(workdir: Workdir) -> None:
    source = f"corpus.sources={{web: {{kind: plaintext, location: {workdir.web}}}}}"
    recipe = workdir.recipe(source, "corpus.unit_mb=0.0005", "corpus.segmenter=mecab")
    workdir.make(recipe, "download")
    first, *others = units_of(preprocess, recipe)
    assert len(others) >= 8
    make_units("preprocess", [first])
    before = _resident()
    make_units("preprocess", others)
    assert _resident() - before < 40  # a tagger takes 45


# One of them always, all of them in the long run.
@pytest.mark.parametrize("name", TEXTS if LONG else ["as many lines as may be"])
def test_the_longest_document_stays_within_the_bound(workdir: Workdir, name: str) -> None:
    kind, text = TEXTS[name]
    workdir.web.write_text(text() + "\n", encoding="utf-8")
    source = f"corpus.sources={{web: {{kind: {kind}, location: {workdir.web}}}}}"
    words = [str(workdir.recipe_file), source, "corpus.unit_mb=1000"]
    assert workdir.run("jobs.download", "run", *words).returncode == 0
    job = subprocess.run(
        [sys.executable, "-c", PEAK, "-m", "jobs.preprocess", "run", *words],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (made,) = workdir.workspace.root.glob(f"shards/*/{MANIFEST}")
    assert read_json(made)["steps"]["read"]["documents"] == 1
    assert int(job.stdout) / 1024 < BOUND
