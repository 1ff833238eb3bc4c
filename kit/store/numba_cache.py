"""A cache of numba's compiled code, keyed by the content of the source and shared by all runs.

numba itself caches beside the source, a different folder for each run's snapshot of the code, or in a
folder named after the source's path. Here the folder is

    ~/.cache/ekiden/numba/CONTENT/    or under XDG_CACHE_HOME, or NUMBA_CACHE_DIR

with CONTENT a hash of the source, numba's version and this machine's processor: nodes of another type
have another folder. It is complete or absent, since several jobs may compile at once on a shared file
system: each compiles into its own folder, and the first to finish renames it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
from numba.core import caching, registry

from kit.store import machine_code
from kit.store.files import file_hash, sync_directory, text_hash

if TYPE_CHECKING:
    from collections.abc import Callable

_DEFAULT_LOCATORS = (
    "UserProvidedCacheLocator,InTreeCacheLocator,UserWideCacheLocator"  # numba's own
)
_DAY = 86_400.0  # seconds; folders older than this were left by killed processes


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile by numba.njit with this cache, or with numba's own if it cannot be created."""
    config: Any = numba.config
    before = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = f"{__name__}.ByContent,{before or _DEFAULT_LOCATORS}"
    try:
        dispatcher: Callable[..., Any] = numba.njit(cache=True)(function)
    finally:
        config.CACHE_LOCATOR_CLASSES = before
    return dispatcher


def publish(source: Path) -> None:
    """Share the code this process has compiled from a source. Call it after the code has run."""
    # RuntimeError: no home directory. OSError: the folder existed, another process was quicker, or the
    # disk is full; our folder is removed at exit.
    with contextlib.suppress(RuntimeError, OSError):
        shared, own = _folders(source.resolve())
        if not (files := list(own.iterdir())):
            return
        for path in files:
            with path.open("rb") as file:
                os.fsync(file)
        sync_directory(own)
        own.rename(shared)
        sync_directory(shared.parent)
        _remove_stale(shared.parent)


def _remove_stale(folder: Path) -> None:
    for path in folder.glob(".*"):
        if path.stat().st_mtime < time.time() - _DAY:
            shutil.rmtree(path, ignore_errors=True)


@functools.cache
def _folders(source: Path) -> tuple[Path, Path]:
    """The shared folder of a source, and the one this process fills if that is absent."""
    processor = registry.cpu_target.target_context.codegen().magic_tuple()  # as in numba's own key
    facts = (file_hash(source), numba.__version__, processor)
    name = f"{source.stem}-{text_hash(repr(facts)):016x}"
    folder = machine_code.folder()
    own = folder / f".{name}-{uuid.uuid4().hex[:8]}"
    atexit.register(_remove, own, os.getpid())
    return folder / name, own


def _remove(own: Path, process: int) -> None:
    if os.getpid() == process:  # not in a fork
        shutil.rmtree(own, ignore_errors=True)


class ByContent(caching.InTreeCacheLocator):
    """numba's locator of a source's cache: the shared folder if it exists, else our own."""

    def __init__(self, function: Callable[..., Any], source: str) -> None:
        super().__init__(function, source)  # type: ignore[no-untyped-call]
        with contextlib.suppress(RuntimeError):  # no home directory
            shared, own = _folders(Path(source).resolve())
            self._cache_path = str(shared if shared.is_dir() else own)
