"""Environments for programs that are no dependency of the kit: packages from PyPI over those of the tests.

python = environments.with_packages(tmp_path, "ctranslate2")
subprocess.run([python, "-P", "program.py"], check=True)
"""

from __future__ import annotations

import subprocess
import sys
import venv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def with_packages(root: Path, *packages: str) -> Path:
    """Make an environment there; returns its Python, which sees of ours whatever the packages accept."""
    venv.create(root, with_pip=True)
    (site,) = root.glob("lib/*/site-packages")
    (site / "base.pth").write_text("\n".join(p for p in sys.path if p.endswith("-packages")) + "\n")
    install = [root / "bin/pip", "install", "--quiet", "--upgrade", *packages]
    subprocess.run(install, check=True)
    return root / "bin/python"
