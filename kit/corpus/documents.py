"""The documents of a piece of raw text, whatever kind of source it was cut from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from kit.corpus import jsonl, plaintext, wikipedia

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kit.corpus.faults import Faults


def read(
    piece: Mapping[str, Any], faults: Faults, mode: Literal["default", "article"]
) -> Iterator[list[str]]:
    """Each document as its lines, which are not empty. Raises InputError where the raw text is damaged,
    or not what jobs.download found.
    """
    if piece["kind"] == "wikipedia":
        return wikipedia.documents(piece, faults, mode)
    if piece["kind"] == "jsonl":
        return jsonl.documents(piece, faults)
    return plaintext.documents(piece, faults)
