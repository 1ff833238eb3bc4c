"""Push an exported folder to the Hub: one commit, with a tag of its step.

    plan(folder).files                                  # bytes by name
    push(folder, "ann/demo-gpt2", tag="step-120")

A push that broke off goes on: no file is sent twice, and until all have arrived, the repository shows none
of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.errors import RunError, StageError
from kit.release import verification
from kit.release.hub import Hub, is_same
from kit.store import manifest
from kit.store.paths import MANIFEST, checkpoint_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

# Files that an earlier push may have left and this one would not overwrite: readers would load them.
_OF_A_RELEASE = re.compile(
    r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?|[^/]*\.gguf|(runs|\.eval_results)/.*"
)


@dataclass(frozen=True)
class Plan:
    """The files of a push."""

    folder: Path
    step: int
    files: Mapping[str, int]  # bytes by name
    by_hand: tuple[str, ...]  # pages that were completed, files that were added

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(self.files.values())

    @property
    def tag(self) -> str:
        """The tag of the step."""
        return f"step-{self.step}"


@dataclass(frozen=True)
class Pushed:
    """A push that was done."""

    url: str
    commit: str
    tag: str
    removed: tuple[str, ...]  # files of an earlier push


def plan(folder: Path) -> Plan:
    """The push of an exported folder. Raises StageError if a file is damaged or missing."""
    found = verification.check(folder)
    if wrong := [*found.damaged, *(f"{name} is missing" for name in found.missing)]:
        raise StageError(f"{folder}: {wrong[0]}; export it again, or copy it again")
    names = sorted({*verification.files(folder), MANIFEST})
    edited = [page.partition(":")[0] for page in found.edited]
    sizes = {name: (folder / name).stat().st_size for name in names}
    return Plan(folder, _step(folder), sizes, (*edited, *found.extra))


def push(planned: Plan, repository: str, *, tag: str, public: bool = False) -> Pushed:
    """Push to a model repository, which is created if need be; it is private unless `public`.

    Raises RunError if the tag is at other files; ConfigError without a token that may write.
    """
    hub = Hub(repository)
    hub.create(private=not public)
    there = hub.files()
    if (commit := hub.tags().get(tag)) is not None:
        if not _is_there(planned, hub.files(commit)):
            raise RunError(f"{hub.url}: tag {tag} is at other files; give another --tag")
        return Pushed(hub.url, commit, tag, ())
    removed = tuple(n for n in there if n not in planned.files and _OF_A_RELEASE.fullmatch(n))
    commit = hub.commit(planned.folder, [*planned.files], removed, f"Step {planned.step}")
    hub.tag(tag, commit)
    return Pushed(hub.url, commit, tag, removed)


def _is_there(planned: Plan, there: Mapping[str, str]) -> bool:
    """Whether a commit has all files."""
    return all(
        name in there and is_same(planned.folder / name, there[name]) for name in planned.files
    )


def _step(folder: Path) -> int:
    """The step of the checkpoint that was exported."""
    checkpoint = manifest.read(folder, "jobs.export")["causes"]["inputs"]["checkpoint"]
    numbers = checkpoint_numbers(Path(checkpoint))
    assert numbers is not None
    return numbers[0]
