"""Manifests: the inputs and outputs of a stage, written last; a folder without one counts as missing.

A manifest names its causes: the stage and its version, the section of the recipe, the hashes of the
inputs. A folder is done if its causes are equal and its outputs have the recorded sizes; `verify` compares
their bytes too.

    causes = manifest.causes("tokenize", VERSION, NonDefaults(recipe.tokenizer), {"jawiki-00000": hash})
    if manifest.state(folder, causes) != "done":
        ...write files into folder...
        manifest.commit(folder, causes, counts={"documents": 3})
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from kit.errors import StageError
from kit.output import program
from kit.store import look
from kit.store.files import file_hash, is_temporary, read_json, sha256, text_hash, write_json
from kit.store.paths import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.records import Causes, Manifest, Output

State = Literal["done", "missing", "stale", "broken"]

_MAX_NAMED = 4  # causes listed by name
_MAX_VALUE = 60  # characters of a value
_NOT_SET = "not set"


class Reduced(dict[str, Any]):
    """A cause without some keys, such as defaults, that a record by an older version may still hold."""

    def reduce(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """A record of this cause, without the keys that the cause leaves out."""
        raise NotImplementedError


def causes(
    stage: str,
    version: int,
    section: Mapping[str, Any],
    inputs: Mapping[str, Any],
) -> Causes:
    """Everything that decides the bytes of a stage's outputs.

    Of a section of the recipe only the keys that differ from their defaults count (`NonDefaults` in
    kit/config/defaults.py): a new key that nobody sets makes nothing stale. `version` is a constant of the
    stage; raise it whenever the same inputs give other bytes, and when a default of the section changes.
    """
    return {"stage": stage, "version": version, "section": section, "inputs": dict(inputs)}


def state(folder: Path, expected: Mapping[str, Any], *, verify: bool = False) -> State:
    """Compare a folder with these causes.

    missing: no manifest; stale: made from other causes; broken: an output is missing, or of another
    size (with `verify`: has other bytes).
    """
    place = os.fspath(folder)
    found = look.remember((place, "manifest"), lambda: _Found.at(place))
    if found.manifest is None:
        return "broken" if found.damaged else "missing"
    try:
        outputs: dict[str, Output] = found.manifest["outputs"]
        if not same_causes(expected, found.manifest["causes"]):
            return "stale"
        if not found.has_sizes:
            return "broken"
        if verify and any(file_hash(folder / n) != one["xxh3"] for n, one in outputs.items()):
            return "broken"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "broken"
    return "done"


class _Found:
    """The manifest of a folder, and whether its outputs have the recorded sizes, looked up if need be.

    Ten thousand of them are looked at for a status: hence strings and not Paths.
    """

    def __init__(self, folder: str, manifest: Any, *, damaged: bool) -> None:
        self.manifest, self.damaged, self._folder = manifest, damaged, folder
        self._has_sizes: bool | None = None

    @classmethod
    def at(cls, folder: str) -> _Found:
        """Read the manifest."""
        try:
            # Half the time of a Path, and of a buffer, which a file that is read whole does not need.
            with open(f"{folder}/{MANIFEST}", "rb", buffering=0) as file:  # noqa: PTH123
                return cls(folder, json.loads(file.read()), damaged=False)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return cls(folder, None, damaged=False)
        except ValueError:
            return cls(folder, None, damaged=True)

    @property
    def has_sizes(self) -> bool:
        """Whether each output is a file of its size. Raises KeyError, TypeError for another manifest."""
        if self._has_sizes is None:
            outputs: dict[str, Output] = self.manifest["outputs"]
            self._has_sizes = all(
                _is_file_of(f"{self._folder}/{name}", one["size"]) for name, one in outputs.items()
            )
        return self._has_sizes


def _is_file_of(path: str, size: int) -> bool:
    try:
        status = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def same_causes(expected: Mapping[str, Any], recorded: Any) -> bool:
    """Whether the recorded causes equal the expected ones; an older record may hold defaults."""
    return bool(expected == recorded or expected == reduce_like(expected, recorded))


def reduce_like(expected: Any, recorded: Any) -> Any:
    """The record without the keys that any `Reduced` in `expected` leaves out, at any depth."""
    if not isinstance(recorded, dict):
        return recorded
    if isinstance(expected, Reduced):
        return expected.reduce(recorded)
    if isinstance(expected, Mapping):
        return {key: reduce_like(expected.get(key), value) for key, value in recorded.items()}
    return recorded


def difference(folder: Path, expected: Mapping[str, Any], *, verify: bool = False) -> str | None:
    """The reason why `state` calls a folder stale or broken; None if it is done or missing."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = read_json(path)
        if not same_causes(expected, manifest["causes"]):
            return _other_causes(reduce_like(expected, manifest["causes"]), expected)
        damage = (_damage(folder, n, r, verify=verify) for n, r in manifest["outputs"].items())
        return next((text for text in damage if text), None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"


def verified(folder: Path, remedy: str) -> Path:
    """Compare the bytes of a folder's files with its manifest, and return the folder.

    Raises StageError with `remedy` (a command) if any differ.
    """
    if state(folder, read(folder, remedy)["causes"], verify=True) != "done":
        raise StageError(
            f"{folder}: changed since it was made; run {program.respelled(remedy)} run RECIPE --verify, "
            "to make it again"
        )
    return folder


def clear(folder: Path, *, published: bool = False) -> None:
    """Empty the folder for a stage: the manifest first, then the other files.

    Subfolders are other units and stay, unless the folder is `published` as a whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    invalidate(folder)
    for path in folder.iterdir():
        if path.is_file() or (published and path.is_symlink()):
            path.unlink()
        elif published:
            shutil.rmtree(path)


def invalidate(folder: Path) -> None:
    """Remove the manifest: the folder counts as missing."""
    (folder / MANIFEST).unlink(missing_ok=True)


def commit(
    folder: Path, made_from: Mapping[str, Any], *, published: bool = False, **facts: Any
) -> None:
    """Write the manifest of a folder whose files are complete, with further facts about them.

    A `published` folder is listed with its subfolders, and each file with a SHA-256, which others can check
    without the kit and which nobody can forge.
    """
    paths = folder.rglob("*") if published else folder.iterdir()
    own = folder / MANIFEST
    files = sorted(p for p in paths if p.is_file() and p != own and not is_temporary(p))
    outputs = {str(p.relative_to(folder)): _output(p, published=published) for p in files}
    write_json(own, {"causes": made_from, "outputs": outputs, **facts})


def _output(path: Path, *, published: bool) -> Output:
    """The record of a file."""
    record: Output = {"size": path.stat().st_size, "xxh3": file_hash(path)}
    if published:
        record["sha256"] = sha256(path)
    return record


def read(folder: Path, remedy: str) -> Manifest:
    """Read the manifest of a folder. Raises StageError with `remedy` (a command) if there is none."""
    place = os.fspath(folder)
    found = look.remember((place, "manifest"), lambda: _Found.at(place))
    if found.damaged:
        raise StageError(f"{folder / MANIFEST}: damaged; run {program.respelled(remedy)} again")
    if found.manifest is None:
        raise StageError(f"{folder}: missing; run {program.respelled(remedy)} first")
    manifest: Manifest = found.manifest
    return manifest


def fingerprint(folder: Path, remedy: str) -> str:
    """One hash of a folder's outputs, as an input of the next stage."""
    key = (os.fspath(folder), "fingerprint")
    return look.remember(key, lambda: digest(read(folder, remedy)["outputs"]))


def digest(outputs: Mapping[str, Output]) -> str:
    """The fingerprint of the outputs in a manifest."""
    return f"{text_hash(repr(sorted((name, o['xxh3']) for name, o in outputs.items()))):016x}"


def _other_causes(recorded: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The causes that differ: the first few by name, then a count."""
    texts = []
    if recorded["version"] != expected["version"]:
        texts.append(f"version {recorded['version']} -> {expected['version']} of the stage")
    texts += [
        f"{key}: {old} -> {new}"
        for key, old, new in _changes(recorded["section"], expected["section"])
    ]
    inputs = _changes(recorded["inputs"], expected["inputs"])
    readable = [f"{key} {old} -> {new}" for key, old, new in inputs if not _are_hashes(old, new)]
    texts += [f"input changed: {text}" for text in readable or [key for key, _, _ in inputs]]
    more = len(texts) - _MAX_NAMED
    return "; ".join(texts[:_MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _changes(recorded: Any, expected: Any, path: str = "") -> list[tuple[str, str, str]]:
    """The differences of two trees: dotted key, old and new value as JSON, or `not set`."""
    if not (isinstance(recorded, dict) and isinstance(expected, dict)):
        return [] if recorded == expected else [(path, _short(recorded), _short(expected))]
    return [
        change
        for key in dict.fromkeys([*recorded, *expected])
        for change in _changes(
            recorded.get(key, _NOT_SET),
            expected.get(key, _NOT_SET),
            f"{path}.{key}" if path else key,
        )
    ]


def _short(value: Any) -> str:
    text = value if value is _NOT_SET else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}..."


def _are_hashes(*values: str) -> bool:
    """Whether all values are hashes, which mean nothing to a reader."""
    return all(re.fullmatch(r'"[0-9a-f]{16,64}"', value) for value in values)


def _damage(folder: Path, name: str, record: Output, *, verify: bool) -> str | None:
    """The damage of an output; None if it is intact."""
    file = folder / name
    if not file.is_file():
        return f"{name} is missing"
    if (size := file.stat().st_size) != record["size"]:
        return f"{name}: {size} bytes, but {record['size']} in its manifest"
    if verify and file_hash(file) != record["xxh3"]:
        return f"{name}: bytes differ from its manifest"
    return None
