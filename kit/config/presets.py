"""Files given by name instead of path: `pipeline run demo`, `deepspeed: zero2`, `--cluster local`.

Recipes are in ./configs and in the kit's own configs; clusters and DeepSpeed files in the subfolders
`cluster` and `deepspeed` there, and beside the recipe. A checkout has `configs` and `sbatch` beside the
kit, a wheel inside it, as kit/share. A word with a suffix or a slash is a path. The demo's text and the
schemas are here as well.
"""

from __future__ import annotations

import re
from pathlib import Path

from kit.errors import ConfigError

_KIT = Path(__file__).resolve().parents[1]
SHARE = "share"  # the folder of the kit that holds the files in a wheel
INSTALLED = (_KIT / SHARE).is_dir()  # from a wheel
OWN = _KIT / SHARE if INSTALLED else _KIT.parent
_HERE = Path("configs")


def is_name(text: str) -> bool:
    """Whether a text is a name, such as zero2, not a path."""
    return re.fullmatch(r"[\w-]+", text) is not None


def recipes() -> dict[str, Path]:
    """The recipes by name."""
    return _files("*.yaml", _HERE)


def recipe(given: Path) -> Path:
    """The file or run directory given to a command: the file of a recipe's name, or the path itself.

    Raises ConfigError if the name is also that of a file or a run directory in the current directory.
    """
    from kit.store.paths import Run  # not above: each --help imports this module

    path = recipes().get(str(given))
    if path is None:
        return given
    if given.is_file() or Run(given).recipe.is_file():
        other = "a file" if given.is_file() else "a run directory"
        raise ConfigError(
            f"{given}: ambiguous: a recipe ({path}) and {other} in the current directory; write ./{given} "
            f"for the latter, {path} for the recipe"
        )
    return path


def base_folder(file: Path) -> Path:
    """The folder to which `workspace` and `downloads` of a recipe are relative: that of the file.

    Recipes of an installed package count as if they were in ./configs: nothing is written into it.
    """
    return _HERE if INSTALLED and file.resolve().is_relative_to(OWN) else file.parent


def deepspeed(recipes: Path) -> dict[str, Path]:
    """The DeepSpeed files by name, for a recipe in that folder."""
    return _files("deepspeed/*.json", _HERE, recipes)


def clusters(recipes: Path) -> dict[str, Path]:
    """The cluster files by name, for a recipe in that folder."""
    return _files("cluster/*.yaml", _HERE, recipes)


def demo_text() -> Path | None:
    """The demo's plain text, if it is installed."""
    return _own("demo/web.txt.xz")


def recipe_schema() -> Path | None:
    """The JSON schema of recipes, if it is installed."""
    return _own("recipe.schema.json")


def scripts() -> dict[str, Path]:
    """The folders of shell scripts by name: `slurm` sets up Slurm on one machine."""
    return {path.name: path for path in sorted((OWN / "sbatch").glob("*/"))}


def batch_script(stage: str) -> Path:
    """The plain batch script of a stage's job."""
    return OWN / "sbatch" / f"{stage}.sbatch"


def all_files() -> dict[str, Path]:
    """All named files and folders, as seen from the current directory, by KIND/NAME."""
    kinds = {
        "recipe": recipes(),
        "cluster": clusters(_HERE),
        "deepspeed": deepspeed(_HERE),
        "sbatch": scripts(),
    }
    return {f"{kind}/{name}": path for kind, files in kinds.items() for name, path in files.items()}


def find(name: str) -> Path:
    """The file or folder of that name, given as NAME or KIND/NAME. Raises ConfigError."""
    files = all_files()
    matches = [key for key in files if name in (key, key.partition("/")[2])]
    if len(matches) > 1:
        raise ConfigError(f"{name}: ambiguous; write {' or '.join(matches)}")
    if not matches:
        raise ConfigError(f"{name}: unknown name; known: {', '.join(files)}")
    return files[matches[0]]


def _files(pattern: str, *folders: Path) -> dict[str, Path]:
    """The files by name: the kit's own, overridden by those of each folder in turn."""
    every = (OWN / "configs", *folders)
    return {path.stem: path for folder in every for path in sorted(folder.glob(pattern))}


def _own(name: str) -> Path | None:
    """A file of the kit's own configs."""
    path = OWN / "configs" / name
    return path if path.is_file() else None
