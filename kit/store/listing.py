"""The files that a path, a folder or a pattern names.

Links to files and folders are followed, by a folder as by a pattern. A file or folder
that is reached twice would double its text, or never end: that is an error.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class SameFile(Exception):  # noqa: N818  says what it is about
    """Two names of the same file or folder."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second} are the same")
        self.first, self.second = first, second


def files(location: str) -> dict[str, os.stat_result]:
    """The files of a path, of a folder at any depth, or of a pattern, in sorted order, with their status.

    Hidden files are ignored. Raises SameFile, and OSError for a folder or file that cannot be read.
    """
    if Path(location).is_file():
        names: Iterable[str] = [location]
    elif Path(location).is_dir():
        names = _below(location, {})
    else:
        # pathlib takes no absolute patterns
        names = filter(os.path.isfile, glob.glob(location, recursive=True))  # noqa: PTH207
    found = {name: os.stat(name) for name in sorted(names)}  # noqa: PTH116  ten thousand of them
    _refuse_same(found)
    return found


def _below(folder: str, seen: dict[tuple[int, int], str]) -> Iterator[str]:
    """The files of a folder and of those below it; `seen` has the folders, by device and inode."""
    status = os.stat(folder)  # noqa: PTH116
    first = seen.setdefault((status.st_dev, status.st_ino), folder)
    if first != folder:
        raise SameFile(first, folder)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _below(entry.path, seen)
            elif (
                entry.is_file() or entry.is_symlink()
            ):  # a link that leads nowhere is an error, too
                yield entry.path


def _refuse_same(found: Mapping[str, os.stat_result]) -> None:
    """Raise SameFile if two names lead to one file by way of a link; hard links are files of their own."""
    seen: dict[tuple[int, int], str] = {}
    for name, status in found.items():
        first = seen.setdefault((status.st_dev, status.st_ino), name)
        if first != name and os.path.realpath(first) == os.path.realpath(name):
            raise SameFile(first, name)
