"""A partly downloaded file and the server's facts about the whole, both kept from run to run.

There is one writer: a lock on the partial file excludes a second process, if the file system has locks.
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
class FileFacts:
    """A server's facts about the file it sends."""

    url: str | None = None
    etag: str | None = None  # strong ones only
    last_modified: str | None = None
    size: int | None = None

    @property
    def validator(self) -> str | None:
        """The value of If-Range."""
        return self.etag or self.last_modified


class Partial:
    """A file being downloaded to `path`; a context manager that holds the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.with_name(f"{path.name}.transfer")
        self._facts_file = path.with_name(f"{path.name}.transfer.json")

    def __enter__(self) -> Self:
        """Lock the file. Raises TransferError while another process downloads it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    @property
    def file(self) -> Path:
        """The file with the bytes so far."""
        return self._file

    @property
    def name(self) -> str:
        """The name of the complete file."""
        return self._path.name

    @property
    def size(self) -> int:
        """Bytes downloaded so far."""
        return self._stream.seek(0, os.SEEK_END)

    @property
    def facts(self) -> FileFacts:
        """The facts recorded of the file; empty if there are none."""
        try:
            return FileFacts(**read_json(self._facts_file))
        except (OSError, ValueError, TypeError):
            return FileFacts()

    def begin(self, facts: FileFacts, start: int) -> None:
        """Truncate to `start` bytes and record the facts, before `append`."""
        try:
            self._stream.truncate(start)
            write_json(self._facts_file, dataclasses.asdict(facts))
        except OSError as error:
            raise self._unwritable(error) from None

    def append(self, chunk: bytes) -> None:
        """Append bytes. Raises InputError if they cannot be written."""
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
        except OSError as error:
            raise self._unwritable(error) from None

    def sync(self) -> None:
        """Make the appended bytes durable."""
        try:
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise self._unwritable(error) from None

    def forget(self) -> None:
        """Drop bytes and facts, to start over."""
        self._stream.truncate(0)
        self._facts_file.unlink(missing_ok=True)

    def finish(self) -> None:
        """Move the complete file to its path."""
        self._file.replace(self._path)
        self._facts_file.unlink(missing_ok=True)
        sync_directory(self._path.parent)

    def quarantine(self) -> Path:
        """Keep the wrong file as NAME.wrong, whose path is returned, and start over."""
        renamed = quarantine(self._file, self._path)
        self._facts_file.unlink(missing_ok=True)
        self._stream.close()
        self._open()
        return renamed

    def refuse_small_disk(self, missing: int) -> None:
        """Raise InputError if the disk has less than `missing` bytes free."""
        free = shutil.disk_usage(self._path.parent).free
        if missing > free:
            raise InputError(
                f"{self._path}: {missing / 1e9:.3f} GB to download, but only {free / 1e9:.3f} GB free; "
                "free some space, or set corpus.downloads to a folder on another disk"
            )

    def _open(self) -> None:
        while True:
            # Unbuffered, so that `size` counts written bytes only.
            self._stream = self._file.open("ab", buffering=0)
            try:
                fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._stream.close()
                raise TransferError(
                    f"{self._path}: another process is downloading it; wait for that, then run "
                    "ekiden download again"
                ) from None
            except OSError:
                return  # a file system without locks
            if self._path.exists() or self._is_in_place():
                return
            self._stream.close()  # the previous owner of the lock has renamed this file

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self._file.stat(), os.fstat(self._stream.fileno()))
        except FileNotFoundError:
            return False

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"{self._file}: cannot be written ({error.strerror}); free some space, then run "
            "ekiden download again to resume"
        )


def quarantine(file: Path, path: Path) -> Path:
    """Rename a wrong file to `NAME.wrong`, replacing an earlier one."""
    renamed = path.with_name(f"{path.name}.wrong")
    file.replace(renamed)
    return renamed
