"""A prompt, its continuation, the next prompt: until the end of input."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from kit.errors import InputError
from kit.release import prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.release.continuation import Tell, Writer

_PROMPT = "> "
_HELP = "Type the beginning of a text. Ctrl-C stops a text, Ctrl-D ends."


def run(writer: Writer, tell: Tell, read: Callable[[str], str] = input) -> None:
    """Continue each line that is read. A prompt that is refused gets one line on stderr."""
    with contextlib.suppress(ImportError):  # the keys of a shell, where Python has them
        import readline  # noqa: F401
    print(_HELP, file=sys.stderr)
    number = 0
    with _own_interrupts():
        while (prompt := _next(read)) is not None:
            if prompt.strip():
                _answer(writer, prompt, number, tell)
                number += 1


def _next(read: Callable[[str], str]) -> str | None:
    """The next line; None at the end of input, or after Ctrl-C."""
    try:
        return read(_PROMPT)
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)  # the shell's prompt begins a line of its own
        return None
    except UnicodeDecodeError as error:
        print(f"error: byte {error.start} is not valid UTF-8", file=sys.stderr)
        return ""


def _answer(writer: Writer, prompt: str, number: int, tell: Tell) -> None:
    try:
        writer.continued(writer.tokens(prompts.text(prompt, "prompt")), number, tell)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return
    except KeyboardInterrupt:
        pass
    tell("\n")


@contextlib.contextmanager
def _own_interrupts() -> Iterator[None]:
    """Let Ctrl-C end a text, not the command."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
