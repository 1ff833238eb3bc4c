"""A compiled dictionary of MeCab as arrays, for `search.py`.

The formats (little-endian) are those of MeCab 0.996. jumandic.py describes sys.dic; unk.dic has the same,
with the names of kinds of characters as texts, and the others are:

    char.bin    uint32 the number of kinds; their names, 32 bytes each; for each code point below 65,535 a
                uint32: 18 bits for the kinds it is of; 8 bits for the one of unknown words; 4 bits for the
                longest of these, in characters; 1 bit if one goes on to the next kind; 1 bit if they are
                tried beside words of the dictionary
    matrix.bin  two uint16, the numbers of right and left sides; then, for the left side of each word, the
                int16 costs of connecting it to the right sides of the word before
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kit.corpus.segmenters import jumandic

if TYPE_CHECKING:
    from pathlib import Path

    Array = np.ndarray[Any, Any]

_NAME = 32  # bytes


class Dictionary(NamedTuple):
    """The arrays of a dictionary, mapped into memory where they are large."""

    units: Array  # int32: base and check of each unit of the double array
    tokens: Array  # uint16, eight a word: left side, right side, part of speech, cost; features
    matrix: Array  # int16 [sides * sides]
    sides: int  # the number of right sides, and of left ones
    kinds: Array  # uint32 [65537], by code point; the last is of all others
    unknown: Array  # uint16: unknown words, as tokens
    unknown_words: Array  # int32, by kind: the first of its unknown words << 8 | their number


def read(folder: Path) -> Dictionary | None:
    """The dictionary of a folder; None if it has another format, or options that search.py has not."""
    system, unknown = _words(folder / "sys.dic"), _words(folder / "unk.dic")
    matrix = np.asarray(np.memmap(folder / "matrix.bin", "<i2", "r"))
    options = (folder / "dicrc").read_bytes()
    if system is None or unknown is None or matrix[0] != matrix[1] or b"max-grouping" in options:
        return None
    if any(_largest_side(words) >= matrix[0] for _, words in (system, unknown)):
        return None  # damaged: search.py would write beyond its arrays
    names, kinds = _kinds(folder / "char.bin")
    unknown_words = np.array([_value(unknown[0], name) for name in names], np.int32)
    return Dictionary(*system, matrix[2:], int(matrix[0]), kinds, unknown[1], unknown_words)


def _words(path: Path) -> tuple[Array, Array] | None:
    """The double array and the words of a file."""
    raw = np.asarray(np.memmap(path, np.uint8, "r"))
    layout = jumandic.layout_of(raw[: jumandic.HEADER].tobytes(), len(raw))
    if layout is None:
        return None
    units, tokens = raw[jumandic.HEADER : layout.words], raw[layout.words : layout.features]
    return units.view("<i4"), tokens.view("<u2")


def _largest_side(words: Array) -> int:
    """The largest left or right side of words."""
    return int(words.reshape(-1, 8)[:, :2].max())


def _kinds(path: Path) -> tuple[list[bytes], Array]:
    """The names of the kinds, and `kinds`."""
    raw = path.read_bytes()
    number = int.from_bytes(raw[:4], "little")
    names = [raw[4 + _NAME * n : 4 + _NAME * (n + 1)].rstrip(b"\0") for n in range(number)]
    kinds = np.frombuffer(raw, "<u4", offset=4 + _NAME * number)
    others = kinds[0]  # of NUL
    return names, np.concatenate([kinds, np.array([0, others], np.uint32)])


def _value(units: Array, text: bytes) -> int:
    """The words of a text that is in the double array."""
    base = int(units[0])
    for byte in text:
        place = base + byte + 1
        assert units[2 * place + 1] == base, text
        base = int(units[2 * place])
    return -1 - int(units[2 * base])
