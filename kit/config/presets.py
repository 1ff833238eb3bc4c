"""Files that are named and not pointed at: `pipeline run demo`, `deepspeed: zero2`, `--cluster local`.

Recipes lie in ./configs and in the kit's own configs; clusters and DeepSpeed files in the folders `cluster`
and `deepspeed` there, and beside the recipe. A checkout has `configs` and `sbatch` beside the kit, a wheel
within it, as kit/share. A word with a suffix or a slash is a path. There are
the demo's text and the schemas as well.
"""

from __future__ import annotations

import re
from pathlib import Path

from kit.errors import ConfigError
from kit.store.paths import Run

_KIT = Path(__file__).resolve().parents[1]
SHARE = "share"  # the folder of the kit in which a wheel has the files
INSTALLED = (_KIT / SHARE).is_dir()  # from a wheel
OWN = _KIT / SHARE if INSTALLED else _KIT.parent
_HERE = Path("configs")


def is_name(text: str) -> bool:
    """Whether a text is a name, as zero2, and no path."""
    return re.fullmatch(r"[\w-]+", text) is not None


def recipes() -> dict[str, Path]:
    """The recipes by name."""
    return _files("*.yaml", _HERE)


def recipe(given: Path) -> Path:
    """The file or run directory that a command is given: a path as it is, a recipe's name as its file.

    Raises ConfigError for a name that a file or a run directory of the current directory has too.
    """
    named = recipes().get(str(given))
    if named is None:
        return given
    if given.is_file() or Run(given).recipe.is_file():
        what = "a file" if given.is_file() else "a run directory"
        raise ConfigError(
            f"{given}: is the name of the recipe {named}, and {what} here; write ./{given} for the "
            f"latter, {named} for the recipe"
        )
    return named


def home(file: Path) -> Path:
    """The folder to which `workspace` and `downloads` of a recipe are relative: that of the file.

    Nothing is made within an installed package: its recipes are taken as if they lay in ./configs.
    """
    return _HERE if INSTALLED and file.resolve().is_relative_to(OWN) else file.parent


def deepspeed(recipes: Path) -> dict[str, Path]:
    """The DeepSpeed files by name, for a recipe in that folder."""
    return _files("deepspeed/*.json", _HERE, recipes)


def clusters(recipes: Path) -> dict[str, Path]:
    """The cluster files by name, for a recipe in that folder."""
    return _files("cluster/*.yaml", _HERE, recipes)


def demo_text() -> Path | None:
    """The demo's plain text, if the kit has it here."""
    return _own("demo/web.txt")


def recipe_schema() -> Path | None:
    """The JSON schema of recipes, if the kit has it here."""
    return _own("recipe.schema.json")


def scripts() -> dict[str, Path]:
    """The folders of shell scripts by name: slurm, a Slurm on one machine."""
    return {path.name: path for path in sorted((OWN / "sbatch").glob("*/"))}


def everything() -> dict[str, Path]:
    """All that has a name, for the current directory, by KIND/NAME."""
    kinds = {
        "recipe": recipes(),
        "cluster": clusters(_HERE),
        "deepspeed": deepspeed(_HERE),
        "sbatch": scripts(),
    }
    return {f"{kind}/{name}": path for kind, found in kinds.items() for name, path in found.items()}


def named(name: str) -> Path:
    """The file or folder of that name, which may be KIND/NAME. Raises ConfigError."""
    known = everything()
    found = [key for key in known if name in (key, key.partition("/")[2])]
    if len(found) > 1:
        raise ConfigError(f"{name}: is the name of several; write {' or '.join(found)}")
    if not found:
        raise ConfigError(f"{name}: there is nothing of that name; known: {', '.join(known)}")
    return known[found[0]]


def _files(pattern: str, *folders: Path) -> dict[str, Path]:
    """The files by name: the kit's own, and those of the folders, of which the last one counts."""
    every = (OWN / "configs", *folders)
    return {path.stem: path for folder in every for path in sorted(folder.glob(pattern))}


def _own(name: str) -> Path | None:
    """A file of the kit's own configs."""
    path = OWN / "configs" / name
    return path if path.is_file() else None
