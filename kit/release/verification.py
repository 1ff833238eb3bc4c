"""Compares an exported folder, wherever it lies, with its manifest: files damaged, missing or extra.

    found = check(Path("demo-gpt2"))
    found.faults, found.damaged, found.lines()

The SHA-256 of each file is compared; an export of an earlier version has recorded another hash. The pages
`README*.md` are yours to complete: changes to them are reported, and are no fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.errors import StageError
from kit.output import quantities
from kit.output.progress import progress_bar
from kit.store.files import file_hash, read_json, sha256
from kit.store.paths import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from kit.store.records import Output

# What git and the Hub add to a repository, and the Hub's client to a download.
_OF_OTHERS = (".git", ".gitattributes", ".gitignore", ".cache")
PAGE = re.compile(r"README[^/]*\.md")


@dataclass(frozen=True)
class Verification:
    """The result of a check of a folder; names are relative to it."""

    folder: Path
    files: int  # that the manifest lists
    bytes: int  # of these
    damaged: Sequence[str]  # each with the reason
    missing: Sequence[str]
    extra: Sequence[str]  # not in the manifest
    edited: Sequence[str]  # pages that differ from the manifest

    @property
    def faults(self) -> int:
        """The number of files that are not as in the manifest."""
        return len(self.damaged) + len(self.missing) + len(self.extra)

    def lines(self) -> Iterator[str]:
        """A line for each fault, then what was checked."""
        yield from (f"damaged: {fault}" for fault in self.damaged)
        yield from (f"missing: {name}" for name in self.missing)
        yield from (f"extra: {name} is not in {MANIFEST}" for name in self.extra)
        yield from (f"edited: {name}" for name in self.edited)
        result = quantities.count(self.faults, "fault") if self.faults else "intact"
        checked = f"{quantities.count(self.files, 'file')}, {quantities.size(self.bytes)}"
        yield f"{self.folder}: {result}; checked {checked} of {MANIFEST}"

    def facts(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return vars(self) | {"folder": str(self.folder), "intact": not self.faults}


def check(folder: Path) -> Verification:
    """Compare every file of a folder with its manifest. Raises StageError without a readable one."""
    outputs = _outputs(folder)
    whole = sum(record["size"] for record in outputs.values())
    damaged: list[str] = []
    edited: list[str] = []
    missing, done = [], 0
    with progress_bar("verify", whole) as report:
        for name, record in outputs.items():
            report(done, name)
            if not (folder / name).is_file():
                missing.append(name)
            elif fault := _damage(folder / name, record):
                (edited if PAGE.fullmatch(name) else damaged).append(f"{name}: {fault}")
            done += record["size"]
    extra = sorted({*files(folder)} - {*outputs})
    return Verification(folder, len(outputs), whole, damaged, missing, extra, edited)


def files(folder: Path) -> Iterator[str]:
    """The files of a folder that a manifest should list."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if name.parts[0] not in (*_OF_OTHERS, MANIFEST) and not path.is_dir():
            yield str(name)


def _outputs(folder: Path) -> Mapping[str, Output]:
    path = folder / MANIFEST
    if not path.is_file():
        raise StageError(f"{folder}: has no {MANIFEST}; give a folder that ekiden export made")
    try:
        outputs: Mapping[str, Output] = read_json(path)["outputs"]
        assert all({"size", "xxh3"} <= record.keys() for record in outputs.values())
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise StageError(f"{path}: damaged; get the folder again from where it is intact") from None
    return outputs


def _damage(file: Path, record: Output) -> str | None:
    if (size := file.stat().st_size) != record["size"]:
        return f"{size:,} bytes, but {record['size']:,} in {MANIFEST}"
    expected = record.get("sha256")
    same = sha256(file) == expected if expected else file_hash(file) == record["xxh3"]
    return None if same else f"other bytes than {MANIFEST} says"
