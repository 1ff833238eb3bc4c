"""A recipe or cluster file as it is written: its YAML, and what to name in place of a missing file.

tree = yaml_file.read(Path("configs/demo.yaml"), Recipe)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from kit.config import presets, written
from kit.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.section import Section

_MAX_NAMED = 5  # runs in a line


def read(path: Path, kind: type[Section]) -> dict[str, Any]:
    """The keys and values of a file for a section of this kind. Raises ConfigError."""
    try:
        tree = written.read(path.read_text(encoding="utf-8"), kind)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {_suggestion(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not valid UTF-8") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}, {_lines(error)}: invalid YAML ({error.problem})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: invalid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: has no keys; write lines such as name: demo")
    return tree


def runs_at(path: Path) -> str | None:
    """The runs to name in place of a workspace, of its folder of runs, or of a missing run in it."""
    near = (path / "runs", path, path.parent)
    folders = [folder for folder in near if folder.name == "runs" and folder.is_dir()]
    found = [run.parent for folder in folders for run in sorted(folder.glob("*/recipe.json"))]
    more = f", and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    return f"name a run: {', '.join(map(str, found[:_MAX_NAMED]))}{more}" if found else None


def _lines(error: yaml.MarkedYAMLError) -> str:
    """The line of a mistake in YAML, or the lines between which it is: the parser stops later."""
    end = error.problem_mark.line + 1 if error.problem_mark else 0
    begin = error.context_mark.line + 1 if error.context_mark else end
    context = error.context or ""
    if context.startswith(("while scanning a simple key", "while scanning a quoted scalar")):
        return f"line {begin}"
    if context.startswith("while parsing a flow") and begin < end:
        return f"lines {begin} to {end}"
    return f"line {end}"


def _suggestion(path: Path) -> str:
    """Names to give in place of a missing file."""
    beside = path.with_name(f"{path.name}.yaml")
    if not path.suffix and beside.is_file():
        return f"did you mean {beside}?"
    if runs := runs_at(path):
        return runs
    return f"name a recipe file, or one of {', '.join(sorted(presets.recipes()))}"
