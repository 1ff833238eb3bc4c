"""Where numba keeps what it has compiled: one place for all runs, found by the content of the source.

numba looks beside the source, which is another folder for each run's snapshot of the code, or in a folder
named by the source's path. Here it is

    ~/.cache/ekiden/numba/CONTENT/    or under XDG_CACHE_HOME, or NUMBA_CACHE_DIR

with CONTENT a hash of the source, numba's version and this machine's processor: nodes of another kind
have another folder. It is whole or absent, as on a shared file system several jobs may compile at once:
each compiles into a folder of its own, and the first to end renames it.
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

from kit.store.files import file_hash, sync_directory, text_hash

if TYPE_CHECKING:
    from collections.abc import Callable

_ITS_OWN = "UserProvidedCacheLocator,InTreeCacheLocator,UserWideCacheLocator"  # numba's defaults
_DAY = 86_400.0  # seconds: what a killed process has left is older


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """numba.njit with that cache; numba's own where it cannot be made."""
    config: Any = numba.config
    before = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = f"{__name__}.ByContent,{before or _ITS_OWN}"
    try:
        made: Callable[..., Any] = numba.njit(cache=True)(function)
    finally:
        config.CACHE_LOCATOR_CLASSES = before
    return made


def publish(source: Path) -> None:
    """Have others find what this process has compiled of a source. To be called when it has run."""
    # RuntimeError: no home directory. OSError: it was there, another process was
    # quicker, or the disk is full; ours goes at exit.
    with contextlib.suppress(RuntimeError, OSError):
        found, own = _folders(source.resolve())
        if not (files := list(own.iterdir())):
            return
        for path in files:
            with path.open("rb") as file:
                os.fsync(file)
        sync_directory(own)
        own.rename(found)
        sync_directory(found.parent)
        _tidy(found.parent)


def _tidy(folder: Path) -> None:
    for path in folder.glob(".*"):
        if path.stat().st_mtime < time.time() - _DAY:
            shutil.rmtree(path, ignore_errors=True)


@functools.cache
def _folders(source: Path) -> tuple[Path, Path]:
    """The folder for a source, and the one that this process fills if the first is absent."""
    processor = registry.cpu_target.target_context.codegen().magic_tuple()  # as in numba's own key
    facts = (file_hash(source), numba.__version__, processor)
    name = f"{source.stem}-{text_hash(repr(facts)):016x}"
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "ekiden" / "numba"
    own = folder / f".{name}-{uuid.uuid4().hex[:8]}"
    atexit.register(_leave, own, os.getpid())
    return folder / name, own


def _leave(own: Path, process: int) -> None:
    if os.getpid() == process:  # not of a fork
        shutil.rmtree(own, ignore_errors=True)


class ByContent(caching.InTreeCacheLocator):
    """numba's locator of a source's cache: the shared folder if it is there, else our own."""

    def __init__(self, function: Callable[..., Any], source: str) -> None:
        super().__init__(function, source)  # type: ignore[no-untyped-call]
        with contextlib.suppress(RuntimeError):  # no home directory
            found, own = _folders(Path(source).resolve())
            self._cache_path = str(found if found.is_dir() else own)
