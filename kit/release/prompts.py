"""Prompts from the command line, from a file, or from standard input: a prompt a line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

STANDARD_INPUT = Path("-")


def of_arguments(prompts: Sequence[str]) -> list[str]:
    """The prompts of the command line. Raises InputError for one that is not UTF-8."""
    return [text(prompt, f"prompt {number}") for number, prompt in enumerate(prompts, 1)]


def of_file(path: Path) -> list[str]:
    """The lines of a file, or of standard input for `-`, without empty ones.

    Raises InputError if it cannot be read, has no prompt, or is not UTF-8.
    """
    if path == STANDARD_INPUT:
        return _lines(sys.stdin.buffer.read(), "standard input")
    try:
        return _lines(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"--file {path}: cannot be read ({error.strerror})") from None


def text(prompt: str, place: str) -> str:
    """The prompt, unless Python had to replace bytes of it that are not UTF-8. Raises InputError."""
    return _decoded(prompt.encode("utf-8", "surrogateescape"), place)


def _lines(raw: bytes, place: str) -> list[str]:
    lines = [
        _decoded(line.rstrip(b"\r"), f"{place}, line {number}")
        for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
    ]
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{place}: no prompt; write one a line, or give --prompt")
    return prompts


def _decoded(raw: bytes, place: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place}: byte {error.start} (0x{raw[error.start]:02x}) is not valid UTF-8; convert it, for "
            "example with iconv -f CP932 -t UTF-8"
        ) from None
