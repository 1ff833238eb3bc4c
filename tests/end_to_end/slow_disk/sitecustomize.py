"""A disk that takes its time for every file: on the PYTHONPATH of a test's run alone."""

import os
import time

_PAUSE = 0.3  # seconds
_fsync = os.fsync


def _slow(file: int) -> None:
    time.sleep(_PAUSE)
    _fsync(file)


os.fsync = _slow  # type: ignore[assignment]
