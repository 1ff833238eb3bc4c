"""Word segmentation by MeCab with JumanDIC, or by Juman++ if the recipe was resolved to it.

    name, version = segment.resolve("auto")
    with segment.open(name, version, workers=4) as segmenter:
        for sentences in segmenter.stream(batches): ...

A segmenter never changes the text: its words, joined, are the input. Text that it would change or cannot
handle stays unsegmented, as one word, and is counted by reason.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from kit.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Sequence

_VERSION_TIMEOUT = 60.0  # seconds: `jumanpp --version` loads the model, from a cold file system


class Segmenter(Protocol):
    """Cuts text without spaces into words."""

    unsegmented: Counter[str]  # chunks left as one word, by reason

    def stream(self, batches: Iterable[Sequence[str]]) -> Iterator[list[str]]:
        """Yield for each batch, in order, the words of its chunks, joined by single spaces.

        A chunk has no plain space or line feed, and may be empty; its words without the spaces are the
        chunk. Reads some batches ahead. Only one stream at a time. Raises ClusterError.
        """

    def close(self) -> None:
        """End its processes, if it has any."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def resolve(name: str) -> tuple[str, str]:
    """Resolve `name` (auto, mecab or jumanpp) to a segmenter of this machine and its version.

    Raises ConfigError if jumanpp is requested and not on the PATH, ClusterError if it does not print
    its version.
    """
    jumanpp = shutil.which("jumanpp")
    if name == "jumanpp" and jumanpp is None:
        raise ConfigError(
            "corpus.segmenter=jumanpp: jumanpp is not on the PATH; install it, or use mecab"
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
    """Open the segmenter of a resolved recipe; Juman++ gets `workers` processes.

    `cache` is a folder for the repaired dictionary of MeCab (144 MB), by default on the local disk.
    Raises ClusterError if this machine has another segmenter or version, or a broken one.
    """
    absent = name == "jumanpp" and shutil.which(name) is None
    here = ("no", "jumanpp on the PATH") if absent else resolve(name)
    if absent or (version is not None and here != (name, version)):
        raise ClusterError(
            f"{platform.node()} has {' '.join(here)}, but the recipe was resolved to {name} {version}; "
            "install the same version on every node"
        )
    if here[0] == "jumanpp":
        from kit.corpus.segmenters.jumanpp import Jumanpp

        return Jumanpp(workers)
    from kit.corpus.segmenters.mecab import MeCab

    return MeCab(cache or _cache())


def _jumanpp_version(program: str) -> str:
    """The first line of `jumanpp --version`, which exits with code 1."""
    import subprocess

    try:
        process = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_VERSION_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(
            f"{program} --version: {error}; fix it, or use corpus.segmenter=mecab"
        ) from error
    lines = (process.stdout or process.stderr).decode(errors="replace").split("\n")
    if not lines[0].strip():
        raise ClusterError(
            f"{program} --version: no output (exit code {process.returncode}); "
            "fix it, or use corpus.segmenter=mecab"
        )
    return lines[0].strip()


def _cache() -> Path:
    """This user's folder on the local disk, from which MeCab maps the dictionary into memory."""
    folder = Path(tempfile.gettempdir()) / f"ekiden-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ClusterError(f"{folder}: belongs to another user; remove it, or set TMPDIR")
    return folder
