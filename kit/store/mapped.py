"""Files mapped into memory as arrays, without a file descriptor for each.

    tokens = mapped.array(path, np.dtype("<u2"))

Python's mmap keeps a descriptor as long as the map (until 3.13 always), and a process may have no more than
1,024 of them. A corpus has two files a unit, and a thousand units are 64 GB.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def array(path: Path, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The numbers in a file, which is not empty, read-only. Raises OSError."""
    import numpy as np

    return np.asarray(_Map(path, dtype))


class _Map:
    """A map of a whole file, which ends with the last array that is a view of it."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            place = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        if place == _FAILED:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))
        # Not at the exit of the process: a thread may still read there.
        weakref.finalize(self, _LIBC.munmap, place, size).atexit = False
        # https://numpy.org/doc/stable/reference/arrays.interface.html; True: read-only
        self.__array_interface__ = {
            "version": 3,
            "data": (place, True),
            "typestr": dtype.str,
            "shape": (size // dtype.itemsize,),
        }
