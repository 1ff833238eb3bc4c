"""How a command ends: exit codes, one line for a mistake, an immediate answer to Ctrl-C."""

from __future__ import annotations

import errno
import io
import os
import pwd
import shutil
import signal
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kit.errors import FAILED, INTERRUPTED, USER_MISTAKE, EkidenError, Interrupted
from kit.output import interrupt, program, streams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Stop(BaseException):
    """The user stops the command. Not an Exception, so that only clean-up code sees it."""


@contextmanager
def in_order() -> Iterator[None]:
    """Turn an error or a signal in the block into one line on stderr and the exit code of its kind."""
    _listen()
    _write_what_can_be_written()
    with streams.spared():
        try:
            yield
        except Interrupted as interrupted:
            _leave(str(interrupted), INTERRUPTED)
        except EkidenError as error:
            _leave(f"error: {error}", error.exit_code)
        except Stop as stop:
            _leave(f"interrupted ({stop}); run the same command again to continue", INTERRUPTED)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILED)
        except OSError as error:
            if reason := _full_disk(error):
                _leave(f"error: {reason}", FAILED)
            if reason := _denied(error):
                _leave(f"error: {reason}", USER_MISTAKE)
            raise


def is_unicode(encoding: str) -> bool:
    """Whether text in this encoding may have any character."""
    return encoding.lower().startswith("utf")


def _leave(line: str, code: int) -> None:
    print(program.respelled(line), file=sys.stderr)
    sys.exit(code)


def _write_what_can_be_written() -> None:
    """In a locale without Unicode, as EUC-JP, have a sign that it lacks replaced by a question mark."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not is_unicode(sys.stdout.encoding):
        sys.stdout.reconfigure(errors="replace")


def _listen() -> None:
    """Make SIGINT, SIGTERM and SIGHUP raise Stop once; a second one kills the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _handle)


def _handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    again = signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL  # a shell sends it, too
    signal.signal(number, again)
    name = signal.Signals(number).name
    streams.say(f"stopping ({name}): {interrupt.kept()}")
    raise Stop(name)


def _full_disk(error: OSError) -> str | None:
    """Describe a full or read-only disk, if that is the error, and what to do."""
    number, path = error.errno, error.filename
    if isinstance(error, shutil.Error):  # a list of errors
        _, path, why = error.args[0][0]
        number = next((n for n in _NO_ROOM if f"[Errno {n}]" in str(why)), None)
    place = _nearest(Path(path)) if isinstance(path, str) else "the disk"
    if number in _NO_ROOM:
        return f"{place}: {os.strerror(number)}; free some space, and try again"
    if number == errno.EROFS:
        return f"{place}: {os.strerror(number)}; have it mounted for writing, or use another workspace="
    return None


def _denied(error: OSError) -> str | None:
    """Describe a path that this user may not read or write, with its owner, if that is the error."""
    if error.errno not in (errno.EACCES, errno.EPERM) or not isinstance(error.filename, str):
        return None
    place = _nearest(Path(error.filename))
    status = place.stat()
    owner, me, mode = _user(status.st_uid), _user(os.geteuid()), stat.filemode(status.st_mode)
    return (
        f"{place}: permission denied; it belongs to {owner} ({mode}), and you are {me}: have it opened "
        "for you (a group's workspace needs umask 002 and chmod g+rws), or use another workspace="
    )


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists: that of a temporary file."""
    return next((one for one in (path, *path.parents) if _is_seen(one)), Path("/"))


def _is_seen(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"
