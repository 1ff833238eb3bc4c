"""A real dump of a Japanese Wikipedia, for tests that want more than the demo's texts.

    DUMP=path/to/jawiki-pages-articles-multistream.xml.bz2 make test

The head of one is enough. Without DUMP these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "DUMP"
DUMP = Path(os.environ.get(VARIABLE) or "no dump")
needs_dump = pytest.mark.skipif(
    not os.environ.get(VARIABLE), reason=f"no real dump: {VARIABLE}=PATH names one"
)
