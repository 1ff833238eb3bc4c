"""SHA sums of files, pinned in a recipe or published beside a file."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from kit.output.progress import progress_bar
from kit.store.files import CHUNK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Sum(NamedTuple):
    """A checksum in hexadecimal digits, and its origin: a key of the recipe or a URL."""

    digest: str
    origin: str


def mismatch(path: Path, expected: Mapping[str, Sum]) -> str | None:
    """Describe a wrong checksum, as `its SHA-1 is 6b2f..., not that of ...`; None if all match.

    `expected` has the sums by algorithm, sha1 or sha256. The file is read once.
    """
    if not expected:
        return None
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in expected}
    with (
        progress_bar(f"{path.name}, checking", path.stat().st_size) as advance,
        path.open("rb") as stream,
    ):
        while chunk := stream.read(CHUNK):
            for digest in digests.values():
                digest.update(chunk)
            advance(stream.tell())
    for name, digest in digests.items():
        if digest.hexdigest() != expected[name].digest:
            title = name.upper().replace("SHA", "SHA-")
            return f"its {title} is {digest.hexdigest()}, not that of {expected[name].origin}"
    return None


def listed_sha1(sums: Path, name: str) -> str | None:
    """The SHA-1 of a file in a list written by `sha1sum`; None if the list does not have the file."""
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{40}) [ *](.+)", line)
        if match and match[2] == name:
            return match[1]
    return None
