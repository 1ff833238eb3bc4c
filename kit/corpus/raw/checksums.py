"""SHA sums of files, as a recipe pins them and as publishers put them beside their files."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from kit.output.progress import shown
from kit.store.files import CHUNK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Sum(NamedTuple):
    """A checksum in hexadecimal digits, and where it stands."""

    digest: str
    origin: str


def mismatch(path: Path, expected: Mapping[str, Sum]) -> str | None:
    """What is wrong with a file, as `its SHA-1 is not that of ...`; None if all sums are right.

    `expected` has the sums by the algorithm's name, sha1 or sha256. The file is read once.
    """
    if not expected:
        return None
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in expected}
    with shown(f"{path.name}, checking", path.stat().st_size) as at, path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            for digest in digests.values():
                digest.update(chunk)
            at(stream.tell())
    for name, digest in digests.items():
        if digest.hexdigest() != expected[name].digest:
            title = name.upper().replace("SHA", "SHA-")
            return f"its {title} is not that of {expected[name].origin}, but {digest.hexdigest()}"
    return None


def published(sums: Path, name: str) -> str | None:
    """The SHA-1 of a file in a list as `sha1sum` writes it; None where the list has no such file."""
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{40}) [ *](.+)", line)
        if match and match[2] == name:
            return match[1]
    return None
