"""Word segmentation by MeCab with JumanDIC, or by Juman++ where the recipe was resolved to it.

A segmenter never changes the text: its words, joined, are what it was given. What it would change
is kept whole.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
from typing import Protocol

from kit.errors import ClusterError, ConfigError

_JUMANPP_BYTES = 4096  # a longer line gets no answer from Juman++ 2
_JUMANPP_RUN = re.compile(
    r"([A-Za-z]{200}|[ァ-ヶー]{200}|[一-龠]{200})"
)  # its memory grows with the square


class Segmenter(Protocol):
    """What cuts a run of text without white space into words."""

    kept_whole: int

    def words(self, text: str) -> list[str]:
        """The words of `text`, which is not empty; joined, they are `text`."""


def resolve(name: str) -> tuple[str, str]:
    """The segmenter that `name` (auto, mecab or jumanpp) means on this machine, and its version.

    Raises ConfigError where jumanpp is asked for by name and not on the PATH.
    """
    jumanpp = shutil.which("jumanpp")
    if name == "jumanpp" and jumanpp is None:
        raise ConfigError(
            "corpus.segmenter=jumanpp: no jumanpp on the PATH; install it, or use mecab"
        )
    if jumanpp is not None and name in ("auto", "jumanpp"):
        shown = subprocess.run([jumanpp, "--version"], capture_output=True, text=True, check=False)
        return "jumanpp", (shown.stdout or shown.stderr).strip().split("\n", maxsplit=1)[0]
    versions = (
        f"{package} {importlib.metadata.version(package)}" for package in ("fugashi", "jumandic")
    )
    return "mecab", ", ".join(versions)


def segmenter(name: str, version: str | None) -> Segmenter:
    """The segmenter of a resolved recipe. Raises ClusterError on a machine that has another one."""
    here = resolve(name)
    if version is not None and here != (name, version):
        raise ClusterError(
            f"this machine has {' '.join(here)}, the recipe was resolved to {name} {version}; "
            "install the same on every node"
        )
    return Jumanpp() if here[0] == "jumanpp" else MeCab()


class MeCab:
    """MeCab with JumanDIC, in this process."""

    def __init__(self) -> None:
        import fugashi
        import jumandic

        self.kept_whole = 0
        self._tagger = fugashi.GenericTagger(f"-Owakati {jumandic.MECAB_ARGS}")

    def words(self, text: str) -> list[str]:
        """See Segmenter. Two broken entries of JumanDIC cut inside a character."""
        try:
            words = str(self._tagger.parse(text)).split()
        except UnicodeDecodeError:
            words = []
        if "".join(words) == text:
            return words
        self.kept_whole += 1
        return [text]


class Jumanpp:
    """Juman++ 2 over a pipe, a line in and a line out."""

    def __init__(self) -> None:
        self.kept_whole = 0
        self._process = subprocess.Popen(
            ["jumanpp", "--segment"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def words(self, text: str) -> list[str]:
        """See Segmenter. What Juman++ would swallow or choke on is not sent to it."""
        raw = text.encode()
        answer = [text]
        if len(raw) <= _JUMANPP_BYTES and "\0" not in text and not _JUMANPP_RUN.search(text):
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(raw + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            if not line:
                raise ClusterError(f"jumanpp ended (code {self._process.wait()}) at: {text[:60]}")
            answer = line.decode(errors="replace").split()
            if "".join(answer) == text:
                return answer
        self.kept_whole += 1
        return [text]

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()
