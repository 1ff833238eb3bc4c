"""Keys of a terminal, without waiting for a line.

    with Keyboard(sys.stdin.fileno()) as keyboard:
        keyboard.wait(0.25)                  # ["a", "up", "page down", "escape"]

The terminal is as before when the block ends, however it ends.
"""

from __future__ import annotations

import os
import select
import termios
import tty
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

QUIT = "q"
_READ = 1024  # bytes
_PATIENCE = 0.05  # seconds until an escape without a following byte is the key itself
_SEQUENCES = {
    "A": "up", "B": "down", "H": "home", "F": "end", "1~": "home", "4~": "end", "7~": "home",
    "8~": "end", "5~": "page up", "6~": "page down",
}  # fmt: skip


def keys_of(data: bytes) -> list[str]:
    """The keys in some bytes of a terminal; an unknown sequence is no key."""
    text = data.decode("utf-8", errors="ignore")
    keys = []
    at = 0
    while at < len(text):
        if text[at] != "\x1b":
            keys.append(text[at])
            at += 1
        elif text[at + 1 : at + 2] not in ("[", "O"):
            keys.append("escape")
            at += 1
        else:
            end = at + 2
            while end < len(text) and not (text[end].isalpha() or text[end] == "~"):
                end += 1
            keys += [key] if (key := _SEQUENCES.get(text[at + 2 : end + 1])) else []
            at = end + 1
    return keys


class Keyboard:
    """A terminal that gives each key at once, and does not show it."""

    def __init__(self, terminal: int) -> None:
        """`terminal` is its file descriptor."""
        self._terminal = terminal
        self._before = termios.tcgetattr(terminal)

    def __enter__(self) -> Self:
        """Switch the terminal; Ctrl-C and Ctrl-Z remain signals."""
        tty.setcbreak(self._terminal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Switch it back, and drop keys that nothing has read."""
        termios.tcsetattr(self._terminal, termios.TCSAFLUSH, self._before)

    def wait(self, seconds: float) -> list[str]:
        """The keys that were pressed, after that time at the latest; `q` if the terminal is gone."""
        data = self._read(seconds)
        if data is None:
            return [QUIT]
        if data.endswith(b"\x1b"):
            data += self._read(_PATIENCE) or b""
        return keys_of(data)

    def _read(self, seconds: float) -> bytes | None:
        """Bytes that were typed within a time, none or more; None if there is no terminal any more."""
        if not select.select([self._terminal], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self._terminal, _READ) or None
        except OSError:
            return None
