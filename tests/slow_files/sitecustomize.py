"""A file system that takes its time to say whether there is a file SAVE, which rank 0 asks once a step."""

import os
import time
from typing import Any

_PAUSE = 0.1  # seconds
_stat = os.stat


def _slow(path: Any, *more: Any, **options: Any) -> os.stat_result:
    if str(path).endswith("/SAVE"):
        time.sleep(_PAUSE)
    return _stat(path, *more, **options)


os.stat = _slow  # type: ignore[assignment]
