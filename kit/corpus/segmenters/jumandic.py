"""JumanDIC without the entries that end inside a character.

PyPI's jumandic 1.0.0 has three words, each twice, that end in the middle of a UTF-8 sequence (their
source, AuxV.csv of JumanDIC, was once truncated so). It ships only the compiled dictionary, so the words
are removed from that: `folder(cache)` is a dictionary folder without them, or the package's own if
nothing is broken (another version of the package).

The format of sys.dic (little-endian), as MeCab 0.996 reads it in dictionary.cpp, dictionary.h and darts.h:
ten uint32: the file's size XOR 0xef718f77, the version 102, the type, the number of words, the sizes
of the connection matrix (two), the bytes of the double array, of the words and of the features, 0;
32 bytes name the character set; then the double array in units of (int32 base, uint32 check), the
words in 16 bytes each, of which bytes 8 to 12 are the offset of the features, and the features, each
closed by a NUL. A surface ends in a unit with a negative base, -1 - (first word << 8 | number of
words). A number of 0 is a surface without words, which MeCab skips.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kit.errors import ClusterError
from kit.store.files import sync_directory, text_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC, _VERSION, HEADER = 0xEF718F77, 102, 72
_SYSTEM = "sys.dic"


class Layout(NamedTuple):
    """The offsets of the parts of a compiled dictionary, in bytes, and its number of words."""

    words: int
    number: int
    features: int


def folder(cache: Path) -> Path:
    """The dictionary folder to use; a repaired copy (144 MB) is made in `cache` once, atomically.

    Safe to call from several tasks at once. Raises ClusterError if the copy cannot be written.
    """
    import jumandic

    package = Path(jumandic.DICDIR)
    status = (package / _SYSTEM).stat()
    # Not by its bytes: reading them for every unit of a corpus takes longer than some units do.
    identity = text_hash(f"{package} {status.st_size} {status.st_mtime_ns}")
    copy = cache / f"jumandic-{identity:016x}"
    if copy.is_dir():
        return copy
    repaired = without_broken((package / _SYSTEM).read_bytes())
    if repaired is None:
        return package
    try:
        _make(copy, package, repaired)
    except OSError as error:
        raise ClusterError(
            f"{copy}: cannot write a copy of JumanDIC there ({error.strerror}); "
            "free some space, or set TMPDIR to a writable folder"
        ) from error
    return copy


def without_broken(raw: bytes) -> bytes | None:
    """A compiled dictionary without its words of broken UTF-8; None if it has none.

    Also None if its format is unknown: damaged output is then detected sentence by sentence.
    """
    layout = layout_of(raw[:HEADER], len(raw))
    broken = list(_broken_features(raw, layout.features)) if layout else []
    if not layout or not broken:
        return None
    import numpy as np

    words = np.frombuffer(raw, "<u4", layout.number * 4, layout.words).reshape(-1, 4)
    damaged = np.flatnonzero(np.isin(words[:, 2], broken))
    repaired = bytearray(raw)
    units = np.frombuffer(repaired, "<i4", (layout.words - HEADER) // 4, HEADER)[::2]
    ends = np.flatnonzero(units < 0)
    first, number = (-1 - units[ends]) >> 8, (-1 - units[ends]) & 0xFF
    # The words of one surface are adjacent; in this dictionary all of them are broken, or none.
    ends_of_broken = ends[np.isin(first, damaged)]
    if int(number[np.isin(first, damaged)].sum()) != len(damaged):
        return None
    units[ends_of_broken] = -1 - ((-1 - units[ends_of_broken]) >> 8 << 8)
    return bytes(repaired)


def layout_of(head: bytes, size: int) -> Layout | None:
    """The layout of a compiled dictionary of this many bytes, from its header; None for another format."""
    header = [int.from_bytes(head[start : start + 4], "little") for start in range(0, 36, 4)]
    array, words, features = header[6:]
    is_known_format = (
        header[0] ^ _MAGIC == size == HEADER + array + words + features
        and header[1] == _VERSION
        and head[40:46].lower() == b"utf-8\0"
    )
    return Layout(HEADER + array, words // 16, HEADER + array + words) if is_known_format else None


def _broken_features(raw: bytes, start: int) -> Iterator[int]:
    """Yield the offsets of the features that are not UTF-8."""
    position = start
    while True:
        try:
            raw[position:].decode()
        except UnicodeDecodeError as error:
            broken = position + error.start
            yield raw.rfind(b"\0", start - 1, broken) + 1 - start if broken > start else 0
            position = raw.find(b"\0", broken) + 1 or len(raw)
        else:
            return


def _make(target: Path, package: Path, system: bytes) -> None:
    """Make the folder under another name, then rename it: it is complete or absent."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".partial-jumandic-", dir=target.parent))
    try:
        for path in package.iterdir():
            if path.name != _SYSTEM:
                shutil.copyfile(path, temporary / path.name)
        (temporary / _SYSTEM).write_bytes(system)
        for path in temporary.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        sync_directory(temporary)
        temporary.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another task was first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
