"""What a stage consumed and produced, written last: a folder without a manifest is not there.

A manifest names its causes: the stage and its version, the section of the recipe, the hashes of the
inputs. Equal causes and outputs of the recorded sizes mean done; `verify` reads the bytes as well.

    causes = manifest.causes("tokenize", VERSION, NonDefaults(recipe.tokenizer), {"jawiki-00000": hash})
    if manifest.state(folder, causes) != "done":
        ...write files into folder...
        manifest.commit(folder, causes, counts={"documents": 3})
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from kit.errors import StageError
from kit.store.files import file_hash, is_temporary, read_json, text_hash, write_json
from kit.store.paths import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.records import Causes, Manifest, Output

State = Literal["done", "missing", "stale", "broken"]

_NAMED = 4  # causes told by name
_SHOWN = 60  # characters of a value
_NOT_SET = "not set"


class Reduced(dict[str, Any]):
    """A cause of which a record may hold more than it says, as one that an older version wrote does."""

    def reduce(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """A record of this cause, without what the cause leaves out."""
        raise NotImplementedError


def causes(
    stage: str,
    version: int,
    section: Mapping[str, Any],
    inputs: Mapping[str, Any],
) -> Causes:
    """All that decides the bytes of a stage's outputs.

    Of a section of the recipe only what differs from its defaults is a cause (`NonDefaults` in
    kit/config/defaults.py), so that a key which is new, and which nobody sets, makes nothing stale.
    `version` is a constant of the stage, raised when the same inputs come to give other bytes, and with
    every change of a default of the section.
    """
    return {"stage": stage, "version": version, "section": section, "inputs": dict(inputs)}


def state(folder: Path, expected: Mapping[str, Any], *, verify: bool = False) -> State:
    """Whether a folder holds what these causes produce.

    missing: no manifest; stale: made from other causes; broken: an output is gone, or of another
    size (with `verify`: of other bytes).
    """
    path = folder / MANIFEST
    if not path.is_file():
        return "missing"
    try:
        found = read_json(path)
        outputs: dict[str, Output] = found["outputs"]
        if not agree(expected, found["causes"]):
            return "stale"
        for name, record in outputs.items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != record["size"]:
                return "broken"
            if verify and file_hash(file) != record["xxh3"]:
                return "broken"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "broken"
    return "done"


def agree(expected: Mapping[str, Any], found: Any) -> bool:
    """Whether the causes on record are these; a record of an older version may hold defaults."""
    return bool(expected == found or expected == alike(expected, found))


def alike(expected: Any, found: Any) -> Any:
    """What was found on record, without what a `Reduced` of `expected` leaves out, however deep in it."""
    if not isinstance(found, dict):
        return found
    if isinstance(expected, Reduced):
        return expected.reduce(found)
    if isinstance(expected, Mapping):
        return {key: alike(expected.get(key), value) for key, value in found.items()}
    return found


def difference(folder: Path, expected: Mapping[str, Any], *, verify: bool = False) -> str | None:
    """Why `state` calls a folder stale or broken, in words; None where it is done or missing."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        if not agree(expected, found["causes"]):
            return _other_causes(alike(expected, found["causes"]), expected)
        wrong = (_damage(folder / n, r, verify=verify) for n, r in found["outputs"].items())
        return next((text for text in wrong if text), None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"


def verified(folder: Path, remedy: str) -> Path:
    """The folder itself, whose files are those of its manifest, byte for byte.

    Raises StageError with `remedy` (a command) where they are not.
    """
    if state(folder, read(folder, remedy)["causes"], verify=True) != "done":
        raise StageError(
            f"{folder}: changed since it was made; run {remedy} run RECIPE --verify, which makes it again"
        )
    return folder


def clear(folder: Path) -> None:
    """Make the folder ready for a stage: no manifest first, then no files; its folders stay."""
    folder.mkdir(parents=True, exist_ok=True)
    invalidate(folder)
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


def invalidate(folder: Path) -> None:
    """Have a folder count as not made."""
    (folder / MANIFEST).unlink(missing_ok=True)


def commit(folder: Path, made_from: Mapping[str, Any], **facts: Any) -> None:
    """Write the manifest of a folder whose files are all there, with further facts about them."""
    names = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    outputs = {
        path.name: {"size": path.stat().st_size, "xxh3": file_hash(path)}
        for path in names
        if not is_temporary(path)
    }
    write_json(folder / MANIFEST, {"causes": made_from, "outputs": outputs, **facts})


def read(folder: Path, remedy: str) -> Manifest:
    """The manifest of a folder; raises StageError with `remedy` (a command) where there is none."""
    try:
        found: Manifest = read_json(folder / MANIFEST)
    except FileNotFoundError:
        raise StageError(f"{folder}: not made yet; run {remedy} first") from None
    except ValueError:
        raise StageError(f"{folder / MANIFEST}: damaged; run {remedy} again") from None
    return found


def fingerprint(folder: Path, remedy: str) -> str:
    """One string for a folder's outputs, to stand among the inputs of the next stage."""
    return digest(read(folder, remedy)["outputs"])


def digest(outputs: Mapping[str, Output]) -> str:
    """The fingerprint of outputs as a manifest has them."""
    return f"{text_hash(repr(sorted((name, o['xxh3']) for name, o in outputs.items()))):016x}"


def _other_causes(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The causes that differ: at most a handful by name, then a count."""
    texts = []
    if found["version"] != expected["version"]:
        texts.append(f"version {found['version']} -> {expected['version']} of the stage")
    texts += [
        f"{key}: {old} -> {new}"
        for key, old, new in _changes(found["section"], expected["section"])
    ]
    inputs = _changes(found["inputs"], expected["inputs"])
    told = [f"{key} {old} -> {new}" for key, old, new in inputs if not _is_hash(old, new)]
    texts += [f"input changed: {text}" for text in told or [key for key, _, _ in inputs]]
    more = len(texts) - _NAMED
    return "; ".join(texts[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _changes(found: Any, expected: Any, at: str = "") -> list[tuple[str, str, str]]:
    """Where two trees differ: dotted key, old and new value as JSON has it, `not set` without one."""
    if not (isinstance(found, dict) and isinstance(expected, dict)):
        return [] if found == expected else [(at, _shown(found), _shown(expected))]
    return [
        change
        for key in dict.fromkeys([*found, *expected])
        for change in _changes(
            found.get(key, _NOT_SET), expected.get(key, _NOT_SET), f"{at}.{key}" if at else key
        )
    ]


def _shown(value: Any) -> str:
    text = value if value is _NOT_SET else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_hash(*values: str) -> bool:
    """Whether both are hashes, which say nothing to a reader."""
    return all(re.fullmatch(r'"[0-9a-f]{16,64}"', value) for value in values)


def _damage(file: Path, record: Output, *, verify: bool) -> str | None:
    """What is wrong with an output; None if nothing."""
    if not file.is_file():
        return f"{file.name} is gone"
    if (size := file.stat().st_size) != record["size"]:
        return f"{file.name}: {size} bytes, {record['size']} in its manifest"
    if verify and file_hash(file) != record["xxh3"]:
        return f"{file.name}: bytes differ from its manifest"
    return None
