"""DeepSpeed's files of a checkpoint, written, and read without running the code that a pickle can hold.

written = write(path, state)
state = read(path, "cpu", import_deepspeed)
refuse_code(folder)            # before a program of DeepSpeed unpickles the files of a folder
"""

from __future__ import annotations

import contextlib
import pkgutil
from typing import IO, TYPE_CHECKING, Any, cast

import torch
import xxhash
from torch.utils.serialization import config

from kit.errors import CheckpointError
from kit.training import direct_io
from kit.training.file_in_memory import FileInMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kit.store.records import Output
    from kit.training.pace import Pace

_CHUNK = (
    8 << 20
)  # bytes that are hashed and written at a time; between two of them a writer may rest
# What DeepSpeed 0.19.8 pickles beside tensors and plain containers: enumerations and records of values.
_PLAIN_TYPES = {
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.utils.tensor_fragment.fragment_address",
}


def write(path: Path, state: Any, pace: Pace | None = None) -> Output:
    """Write a state as torch.save does, and sync it; returns size and hash. Raises OSError.

    Tensors are aligned to pages in the file: those of a `HostCopy`, which are in memory too, are written
    without a copy. torch's own checksums (CRC-32) are left out: they take four times the processor time of
    this hash, and nothing reads them.
    """
    file = direct_io.Writer(path)
    try:
        sink = _Sink(file, pace)
        with _as_saved():
            torch.save(state, cast("IO[bytes]", sink))
        if sink.error is not None:
            raise sink.error
        file.sync()
    finally:
        file.close()
    return {"size": sink.size, "xxh3": sink.digest.hexdigest()}


def read(
    source: Path | FileInMemory,
    map_location: Any,
    import_deepspeed: Callable[[], object],
    *,
    name: str | None = None,
    mapped: bool = False,
) -> Any:
    """Read a file; `import_deepspeed` is called if it has DeepSpeed's types.

    `name` is that in errors, the path by default. `mapped`: tensors are views of the file in memory.
    Raises CheckpointError if the file would run code.
    """
    needed = _types(source, name)
    if needed:
        import_deepspeed()
    with torch.serialization.safe_globals([pkgutil.resolve_name(one) for one in needed]):
        if not isinstance(source, FileInMemory):
            return torch.load(source, map_location=map_location, weights_only=True)
        if not mapped:
            return torch.load(source.open(), map_location=map_location, weights_only=True)
        return _views(source, map_location)


def refuse_code(folder: Path) -> None:
    """Raise CheckpointError if a file of the folder would run code when it is unpickled."""
    for path in sorted(folder.glob("*.pt")):
        _types(path)


def _views(file: FileInMemory, map_location: Any) -> Any:
    """As torch.load does with `mmap=True`, which takes only files that have a path."""
    serialization: Any = torch.serialization
    with serialization._open_zipfile_reader(file.open()) as records:
        return serialization._load(
            *(records, map_location, torch._weights_only_unpickler),
            overall_storage=torch.frombuffer(file.memory, dtype=torch.uint8).untyped_storage(),
            encoding="utf-8",
        )


@contextlib.contextmanager
def _as_saved() -> Iterator[None]:
    """torch's options for files of checkpoints."""
    options: Any = config
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        with options.patch({"save.storage_alignment": direct_io.PAGE}):
            yield
    finally:
        torch.serialization.set_crc32_options(before)


class _Sink:
    """The file that torch.save writes to; it hashes the bytes in memory, not those on the disk.

    Hashing and writing release the interpreter's lock. An error of the disk is stored: raised within
    torch's writer, whose destructor writes again, it would end the process.
    """

    def __init__(self, file: direct_io.Writer, pace: Pace | None) -> None:
        self._file, self._pace = file, pace
        self._since = 0  # bytes written since the last rest
        self.size = 0
        self.digest = xxhash.xxh3_128()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        if self.error is None:
            self.size += size
            try:
                for at in range(0, size, _CHUNK):
                    self._write(rest[at : at + _CHUNK])
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """The end of the file writes the rest."""

    def _write(self, chunk: memoryview) -> None:
        self.digest.update(chunk)
        self._file.write(chunk)
        self._since += len(chunk)
        if self._pace is not None and self._since >= _CHUNK and not self._pace.hurried:
            self._since = 0
            # Or the last sync would write it all at once, and take longer than the save has worked so far.
            self._file.sync_data()
            self._pace.rest()


def _types(source: Path | FileInMemory, shown: str | None = None) -> list[str]:
    """The types in a pickle besides tensors and plain values. Raises CheckpointError for foreign ones."""
    file: Any = source.open() if isinstance(source, FileInMemory) else source
    found = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    for name in found:
        if name not in _PLAIN_TYPES:
            raise CheckpointError(
                f"{shown or source}: not loaded, as it would call {name}, which DeepSpeed never writes; "
                "restore the checkpoint from a copy that you trust"
            )
    return list(found)
