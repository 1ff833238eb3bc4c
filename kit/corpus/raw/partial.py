"""The part of a file that has been fetched, and what is known of the whole: kept from run to run.

It has one writer: a lock on the partial file keeps a second process away, where the file system has
locks.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil
from typing import TYPE_CHECKING, Self

from kit.errors import InputError, TransferError
from kit.store.files import read_json, sync_directory, write_json

if TYPE_CHECKING:
    from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Known:
    """What a server told of the file it sent."""

    url: str | None = None
    etag: str | None = None  # strong ones only
    last_modified: str | None = None
    size: int | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range is given."""
        return self.etag or self.last_modified


class Partial:
    """A file on its way to `path`; a context manager, which holds the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.with_name(f"{path.name}.transfer")
        self._facts = path.with_name(f"{path.name}.transfer.json")

    def __enter__(self) -> Self:
        """Raises TransferError while another process fetches the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    @property
    def file(self) -> Path:
        """Where the bytes are."""
        return self._file

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self._stream.seek(0, os.SEEK_END)

    @property
    def known(self) -> Known:
        """What was told of the file that is here in part."""
        try:
            return Known(**read_json(self._facts))
        except (OSError, ValueError, TypeError):
            return Known()

    def begin(self, known: Known, start: int) -> None:
        """Keep `start` bytes of a file of which that is known; `append` comes next."""
        try:
            self._stream.truncate(start)
            write_json(self._facts, dataclasses.asdict(known))
        except OSError as error:
            raise self._unwritable(error) from None

    def append(self, chunk: bytes) -> None:
        """Raises InputError where it cannot be written."""
        left = memoryview(chunk)
        try:
            while left:
                left = left[self._stream.write(left) :]
        except OSError as error:
            raise self._unwritable(error) from None

    def sync(self) -> None:
        """Make what is here durable."""
        try:
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise self._unwritable(error) from None

    def forget(self) -> None:
        """Begin anew."""
        self._stream.truncate(0)
        self._facts.unlink(missing_ok=True)

    def finish(self) -> None:
        """It is whole: put it where it belongs."""
        self._file.replace(self._path)
        self._facts.unlink(missing_ok=True)
        sync_directory(self._path.parent)

    def put_away(self) -> Path:
        """It is wrong: keep it under another name, which is returned, and begin anew."""
        wrong = put_away(self._file, self._path)
        self._facts.unlink(missing_ok=True)
        self._stream.close()
        self._open()
        return wrong

    def refuse_small_disk(self, missing: int) -> None:
        """Raises InputError where there is no room for so many bytes."""
        free = shutil.disk_usage(self._path.parent).free
        if missing > free:
            raise InputError(
                f"{self._path}: {missing / 1e9:.3f} GB are still to come, and the disk has "
                f"{free / 1e9:.3f} GB; make room, or set corpus.downloads to a folder on another disk"
            )

    def _open(self) -> None:
        while True:
            # Unbuffered: what is counted as here is here.
            self._stream = self._file.open("ab", buffering=0)
            try:
                fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._stream.close()
                raise TransferError(
                    f"{self._path}: another process is fetching it; wait for it, and run jobs.download "
                    "again"
                ) from None
            except OSError:
                return  # a file system without locks
            if self._path.exists() or self._is_in_place():
                return
            self._stream.close()  # the one who had the lock has renamed this file

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self._file.stat(), os.fstat(self._stream.fileno()))
        except FileNotFoundError:
            return False

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"{self._file}: cannot be written ({error.strerror}); make room, and run jobs.download "
            "again to go on with it"
        )


def put_away(file: Path, path: Path) -> Path:
    """Give a wrong file the name `NAME.wrong`, in the place of an earlier one."""
    wrong = path.with_name(f"{path.name}.wrong")
    file.replace(wrong)
    return wrong
