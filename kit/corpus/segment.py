"""Word segmentation by MeCab with JumanDIC, or by Juman++ where the recipe was resolved to it.

    name, version = segment.resolve("auto")
    with segment.open(name, version, workers=4) as segmenter:
        for sentences in segmenter.stream(batches): ...

A segmenter never changes the text: its words, joined, are what it was given. What it would change,
or cannot be given, is kept whole as one word, and counted by reason.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from kit.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Sequence

_VERSION_PATIENCE = 60.0  # seconds: jumanpp loads its model for this, from a cold file system


class Segmenter(Protocol):
    """What cuts text without spaces into words."""

    kept_whole: Counter[str]  # pieces of text that are one word, by reason

    def stream(self, batches: Iterable[Sequence[str]]) -> Iterator[list[str]]:
        """For each batch of chunks the list of their words, joined by single spaces, in order.

        A chunk is not empty and has no plain space or line feed; without the spaces its words are
        the chunk. Some batches are read ahead. One stream at a time. Raises ClusterError.
        """

    def close(self) -> None:
        """End its processes, if it has any."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def resolve(name: str) -> tuple[str, str]:
    """The segmenter that `name` (auto, mecab or jumanpp) means on this machine, and its version.

    Raises ConfigError where jumanpp is asked for by name and not on the PATH, ClusterError where
    it does not tell its version.
    """
    jumanpp = shutil.which("jumanpp")
    if name == "jumanpp" and jumanpp is None:
        raise ConfigError(
            "corpus.segmenter=jumanpp: no jumanpp on the PATH; install it, or use mecab"
        )
    if jumanpp is not None and name in ("auto", "jumanpp"):
        return "jumanpp", _jumanpp_version(jumanpp)
    versions = (
        f"{package} {importlib.metadata.version(package)}" for package in ("fugashi", "jumandic")
    )
    return "mecab", ", ".join(versions)


def open(  # noqa: A001  segment.open, as in gzip.open
    name: str, version: str | None, workers: int, cache: Path | None = None
) -> Segmenter:
    """The segmenter of a resolved recipe; Juman++ has `workers` processes.

    `cache` is a folder for the mended dictionary of MeCab (144 MB), by default one of this machine.
    Raises ClusterError on a machine that has another segmenter or version, or a broken one.
    """
    absent = name == "jumanpp" and shutil.which(name) is None
    here = ("no", "jumanpp on the PATH") if absent else resolve(name)
    if absent or (version is not None and here != (name, version)):
        raise ClusterError(
            f"{platform.node()} has {' '.join(here)}, the recipe was resolved to {name} {version}; "
            "install the same on every node"
        )
    if here[0] == "jumanpp":
        from kit.corpus.segmenters.jumanpp import Jumanpp

        return Jumanpp(workers)
    from kit.corpus.segmenters.mecab import MeCab

    return MeCab(cache or _cache())


def _jumanpp_version(program: str) -> str:
    """The first line of `jumanpp --version`, which ends with code 1."""
    try:
        shown = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_VERSION_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(
            f"{program} --version: {error}; mend it, or use corpus.segmenter=mecab"
        ) from error
    lines = (shown.stdout or shown.stderr).decode(errors="replace").split("\n")
    if not lines[0].strip():
        raise ClusterError(
            f"{program} --version: no answer (code {shown.returncode}); "
            "mend it, or use corpus.segmenter=mecab"
        )
    return lines[0].strip()


def _cache() -> Path:
    """A folder of this user's on a local disk: MeCab maps the dictionary into memory from there."""
    folder = Path(tempfile.gettempdir()) / f"ekiden-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ClusterError(f"{folder}: belongs to another user; remove it, or set TMPDIR")
    return folder
