"""The documents of a piece of raw text, whatever kind of source it was cut from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kit.corpus import jsonl, plaintext, wikipedia
from kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kit.corpus.faults import Faults


def read(
    piece: Mapping[str, Any], faults: Faults, mode: Literal["default", "article"]
) -> Iterator[list[str]]:
    """Each document as its lines, which are not empty. Raises InputError where the raw text is damaged,
    or not what jobs.download found, be it that it changes while it is read.
    """
    _refuse_changed(piece)
    if piece["kind"] == "wikipedia":
        yield from wikipedia.documents(piece, faults, mode)
    elif piece["kind"] == "jsonl":
        yield from jsonl.documents(piece, faults)
    else:
        yield from plaintext.documents(piece, faults)
    _refuse_changed(piece)  # a file cut short in the meantime has lost documents without a fault


def _refuse_changed(piece: Mapping[str, Any]) -> None:
    path = Path(piece["path"])
    if path.suffix == ".zst":  # a part, which is known by its hash and may have been copied
        return
    found = path.stat() if path.exists() else None
    if found is None or (found.st_size, found.st_mtime_ns) != (piece["size"], piece["mtime_ns"]):
        raise InputError(f"{path}: is not what jobs.download found; run jobs.download again")
