"""Files that are named and not pointed at: `deepspeed: zero2`, `--cluster local`.

They lie in the folders `deepspeed` and `cluster` beside the recipe, in ./configs, and in the kit's own
configs, which an installed kit has under share/ekiden of its environment. There are the demo's text and
the schemas as well.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_HOUSE = Path(__file__).resolve().parents[2] / "configs"
_INSTALLED = Path(sys.prefix) / "share" / "ekiden" / "configs"


def is_name(text: str) -> bool:
    """Whether `training.deepspeed` is a name, as zero2, and no path."""
    return re.fullmatch(r"[\w-]+", text) is not None


def deepspeed(recipes: Path) -> dict[str, Path]:
    """The DeepSpeed files by name, for a recipe in that folder."""
    return _files("deepspeed/*.json", recipes)


def clusters(recipes: Path) -> dict[str, Path]:
    """The cluster files by name, for a recipe in that folder."""
    return _files("cluster/*.yaml", recipes)


def demo_text() -> Path | None:
    """The demo's plain text, if the kit has it here."""
    return _own("demo/web.txt")


def recipe_schema() -> Path | None:
    """The JSON schema of recipes, if the kit has it here."""
    return _own("recipe.schema.json")


def _own(name: str) -> Path | None:
    """A file of the kit's own configs."""
    return next(
        (folder / name for folder in (_HOUSE, _INSTALLED) if (folder / name).is_file()), None
    )


def _files(pattern: str, recipes: Path) -> dict[str, Path]:
    folders = (_INSTALLED, _HOUSE, Path("configs"), recipes)  # the last one counts
    return {path.stem: path for folder in folders for path in sorted(folder.glob(pattern))}
