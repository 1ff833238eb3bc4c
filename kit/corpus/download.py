"""Raw text, at hand and cut into pieces: the first stage.

What is remote is fetched (a broken transfer goes on where it stopped), what is at hand is read where
it is. Pieces are cut by the size of the input, never by the number of tasks; a task of the next
stage is given nothing but its piece.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from kit.config import relocation
from kit.config.defaults import NonDefaults
from kit.config.recipe import Recipe, Source, is_url
from kit.config.section import read_resolved
from kit.corpus import wikipedia
from kit.corpus.raw import checksums, pieces, sources
from kit.corpus.raw.checksums import Sum
from kit.corpus.raw.fetch import NotThere, fetch, place
from kit.errors import InputError, StageError
from kit.output import log
from kit.store import manifest
from kit.store.paths import MANIFEST, Run, Workspace
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.store.records import Causes, Piece, Range, RangeFacts

VERSION = 1  # raise when the same texts come to give other pieces


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """One unit a source. Raises InputError where a local file is missing."""
    return [_unit(recipe, name, source) for name, source in sorted(recipe.corpus.sources.items())]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    make_units("download", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


@dataclass(frozen=True)
class _Source(Unit):
    """A unit whose pieces may lie in files that are no outputs: at hand, or fetched."""

    location: str
    downloads: str | None
    noted: Mapping[str, Any]  # its causes where the text lay when it was cut, which decides nothing

    def state(self, *, verify: bool = False) -> manifest.State:
        """See `Unit`; broken as well where such a file is gone, or another."""
        found = super().state(verify=verify)
        if found == "stale" and self.noted != self.causes:
            found = manifest.state(self.folder, self.noted, verify=verify)
        if found == "done" and not self._are_as_cut(verify):
            return "broken"
        return found

    def why(self, *, verify: bool = False) -> str | None:
        """See `Unit`; names the first such file."""
        has_moved = manifest.state(self.folder, self.noted) != "stale"
        causes = self.noted if has_moved else self.causes
        if told := manifest.difference(self.folder, causes, verify=verify):
            return told
        for path, size, mtime_ns in sorted(_files(rows := self._rows())):
            if not _is_as_cut((path, size, mtime_ns)):
                return f"{path}: gone, or changed since it was cut into units"
        wrong = next((row["path"] for row in rows if not _has_its_bytes(row)), None)
        return f"{wrong}: bytes differ from its manifest" if wrong else None

    def _are_as_cut(self, verify: bool) -> bool:
        rows = self._rows()
        if not all(map(_is_as_cut, _files(rows))):
            return False
        return not verify or all(map(_has_its_bytes, rows))

    def _rows(self) -> list[Piece]:
        """The pieces in files that are no outputs."""
        found = manifest.read(self.folder, "jobs.download")
        rows = relocation.pieces(found, self.folder, self.location, self.downloads)
        return [row for row in rows if Path(row["path"]).parent != self.folder]


def _files(rows: Sequence[Range]) -> set[tuple[str, int, int]]:
    return {(row["path"], row["size"], row["mtime_ns"]) for row in rows}


def _has_its_bytes(row: Range) -> bool:
    return bool(pieces.digest(Path(row["path"]), row["start"], row["end"]) == row["xxh3"])


def _is_as_cut(file: tuple[str, int, int]) -> bool:
    path, size, mtime_ns = file
    try:
        found = sources.look(Path(path))
    except OSError:  # gone, or out of reach: made anew, it says which
        return False
    return (found.size, found.mtime_ns) == (size, mtime_ns)


def _unit(recipe: Recipe, name: str, source: Source) -> Unit:
    """Mirrors and `downloads` are no causes: they do not decide what is read."""
    folder = Workspace(Path(recipe.workspace)).raw(name)
    remote = sources.remote(source)
    files = [] if remote else sources.local(name, source)
    if source.index and len(files) > 1:
        raise InputError(f"corpus.sources.{name}.index: is of one dump, and these are {len(files)}")
    index = [_index_at_hand(name, source.index)] if _is_path(source.index) else []
    causes = functools.partial(_causes, recipe.corpus.unit_mb, source, files, index)
    make = functools.partial(_make, recipe, name, files)
    downloads = recipe.corpus.downloads
    noted = causes(_noted(folder))
    return _Source(name, folder, causes({}), make, source.location, downloads, noted)


def _causes(
    unit_mb: float,
    source: Source,
    files: Sequence[sources.Local],
    index: Sequence[sources.Local],
    noted: Mapping[str, Any],
) -> Causes:
    """The causes of a source's pieces, with the paths that are `noted` in place of those of now."""
    inputs: dict[str, Any] = {}
    lay: dict[str, str] = {}
    for key, found in (("location", files), ("index", index)):
        if not found:
            continue
        now = getattr(source, key)
        was = noted.get(key) or now
        lay[key] = was
        told = sources.fingerprint(
            [_at(file, *relocation.differing_heads(now, was)) for file in found]
        )
        inputs |= told if key == "location" else {key: told}
    there = source.model_copy(update=lay)
    section = NonDefaults(there, _no_causes(source.kind), {"unit_mb": unit_mb})
    return manifest.causes("download", VERSION, section, inputs)


def _at(file: sources.Local, now: str, was: str) -> sources.Local:
    """A file as it was in the folder where it lay."""
    return replace(file, path=Path(relocation.rebase(str(file.path), now, was)))


def _noted(folder: Path) -> Mapping[str, Any]:
    """The source as the manifest of its pieces has it; empty where there is none."""
    if not (folder / MANIFEST).is_file():
        return {}
    try:
        found: Mapping[str, Any] = manifest.read(folder, "jobs.download")["causes"]["section"]
    except (StageError, KeyError, TypeError):
        return {}
    return found


def _is_path(index: str | None) -> TypeGuard[str]:
    return bool(index) and not is_url(str(index))


def _no_causes(kind: str) -> frozenset[str]:
    others = {"wikipedia": {"text_key"}, "jsonl": {"title", "index"}}
    return frozenset({"mirrors"} | others.get(kind, {"text_key", "title", "index"}))


def _index_at_hand(name: str, index: str) -> sources.Local:
    try:
        return sources.look(Path(index))
    except FileNotFoundError:
        raise InputError(
            f"corpus.sources.{name}.index={index}: there is no such file; it can be left out"
        ) from None
    except OSError as error:
        raise InputError(
            f"corpus.sources.{name}.index={index}: {error.strerror}; mend that, or leave it out"
        ) from None


def _make(
    recipe: Recipe, name: str, files: Sequence[sources.Local], folder: Path
) -> Mapping[str, Any]:
    source = recipe.corpus.sources[name]
    downloads = Path(recipe.corpus.downloads) if recipe.corpus.downloads else folder
    paths = [file.path for file in files]
    sums = _pinned(name, source)
    remote = sources.remote(source)
    if remote:
        sums = sums or _published(remote.urls[0], remote, downloads)
        paths = [fetch(remote.urls, place(remote.urls[0], downloads), sums)]
    elif wrong := checksums.mismatch(paths[0], sums):
        raise InputError(f"{paths[0]}: {wrong}; get it again, or correct the recipe")
    index = _index(source, remote, downloads)
    rows: list[tuple[Range, RangeFacts]] = []
    for path in paths:
        rows += _cut(source, path, index, folder, int(recipe.corpus.unit_mb * 1e6), len(rows))
    named: list[Piece] = [
        {"name": f"{name}-{number:05d}", "source": name, "kind": source.kind, **piece, **facts}
        for number, (piece, facts) in enumerate(rows)
    ]
    return {"pieces": named, "checked": {key: value.digest for key, value in sums.items()}}


def _pinned(name: str, source: Source) -> dict[str, Sum]:
    pinned = {"sha1": source.sha1, "sha256": source.sha256}
    origin = f"corpus.sources.{name}"
    return {key: Sum(value, origin) for key, value in pinned.items() if value}


def _published(url: str, remote: sources.Remote, downloads: Path) -> dict[str, Sum]:
    """The checksum that stands beside a named dump; none where there is none."""
    if not remote.sums:
        return {}
    name = url.rsplit("/", 1)[1]
    try:
        listed = fetch(remote.sums, place(remote.sums[0], downloads))
    except NotThere as error:
        log.warning(f"{name}: its checksum is not published ({error})")
        return {}
    digest = checksums.published(listed, name)
    if digest is None:
        listed.unlink()  # of a dump that was still being written
        log.warning(f"{name}: no checksum in {remote.sums[0]}")
        return {}
    return {"sha1": Sum(digest, remote.sums[0])}


def _index(source: Source, remote: sources.Remote | None, downloads: Path) -> Path | None:
    """The index of a dump, fetched if need be; None where none is named or published."""
    if source.kind != "wikipedia":
        return None
    if source.index and not is_url(source.index):
        return Path(source.index)
    if source.index:
        return fetch([source.index], place(source.index, downloads))
    if not remote or not remote.index:
        return None
    url = remote.index[0]
    sums = _published(url, remote, downloads)
    try:
        return fetch(remote.index, place(url, downloads), sums)
    except NotThere as error:
        log.warning(f"{source.location}: cut without an index ({error})")
        return None


def _cut(
    source: Source,
    path: Path,
    index: Path | None,
    folder: Path,
    unit_bytes: int,
    first: int,
) -> list[tuple[Range, RangeFacts]]:
    """The pieces of one file, and what their reader must know."""
    if source.kind == "wikipedia":
        header_end, ranges = wikipedia.stream_ranges(path, unit_bytes, index)
        facts: RangeFacts = {"header_end": header_end, "title": source.title}
        return [(piece, facts) for piece in pieces.ranges(path, ranges)]
    facts = {"text_key": source.text_key} if source.kind == "jsonl" else {}
    return [(piece, facts) for piece in pieces.cut(source.kind, path, folder, unit_bytes, first)]
