"""The first stage: fetch raw text and cut it into pieces.

Remote files are downloaded (an interrupted transfer resumes), local ones are read in place. Pieces are
cut by the size of the input, never by the number of tasks; a task of the next stage gets only its piece.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from kit.config import relocation
from kit.config.defaults import NonDefaults
from kit.config.recipe import Recipe, Source, is_url
from kit.config.section import read_resolved
from kit.corpus.raw import checksums, magic, pieces, sources
from kit.corpus.raw.checksums import Sum
from kit.errors import DamagedFile, InputError, StageError
from kit.output import log, quantities
from kit.store import manifest
from kit.store.paths import MANIFEST, Run, Workspace
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.store.records import Causes, Piece, Range, RangeFacts

VERSION = 1  # raise when the same texts give other pieces


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """One unit per source. Raises InputError if a local file is missing."""
    return [_unit(recipe, name, source) for name, source in sorted(recipe.corpus.sources.items())]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    make_units("download", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


@dataclass(frozen=True)
class _Source(Unit):
    """A unit whose pieces may lie in files that are not its outputs: local, or in `downloads`."""

    location: str
    downloads: str | None
    recorded: Mapping[
        str, Any
    ]  # its causes with the paths of when it was cut: a move changes nothing

    def state(self, *, verify: bool = False) -> manifest.State:
        """See `Unit`; also broken if such a file is missing or has changed."""
        state = super().state(verify=verify)
        if state == "stale" and self.recorded != self.causes:
            state = manifest.state(self.folder, self.recorded, verify=verify)
        if state == "done" and not self._are_as_cut(verify):
            return "broken"
        return state

    def why(self, *, verify: bool = False) -> str | None:
        """See `Unit`; names the first such file."""
        has_moved = manifest.state(self.folder, self.recorded) != "stale"
        causes = self.recorded if has_moved else self.causes
        if difference := manifest.difference(self.folder, causes, verify=verify):
            return difference
        for path, size, mtime_ns in sorted(_files(rows := self._rows())):
            if not _is_as_cut((path, size, mtime_ns)):
                return f"{path}: missing, or changed since it was cut into pieces"
        damaged = next((row["path"] for row in rows if not _has_its_bytes(row)), None)
        return f"{damaged}: bytes differ from its manifest" if damaged else None

    def _are_as_cut(self, verify: bool) -> bool:
        rows = self._rows()
        if not all(map(_is_as_cut, _files(rows))):
            return False
        return not verify or all(map(_has_its_bytes, rows))

    def _rows(self) -> list[Piece]:
        """The pieces in files that are not outputs."""
        record = manifest.read(self.folder, "jobs.download")
        rows = relocation.pieces(record, self.folder, self.location, self.downloads)
        own = os.fspath(self.folder)  # strings and not Paths, for ten thousand pieces
        return [row for row in rows if os.path.dirname(row["path"]) != own]  # noqa: PTH120


def _files(rows: Sequence[Range]) -> set[tuple[str, int, int]]:
    return {(row["path"], row["size"], row["mtime_ns"]) for row in rows}


def _has_its_bytes(row: Range) -> bool:
    return bool(pieces.digest(Path(row["path"]), row["start"], row["end"]) == row["xxh3"])


def _is_as_cut(file: tuple[str, int, int]) -> bool:
    path, size, mtime_ns = file
    try:
        status = sources.stat_file(Path(path))
    except OSError:  # missing or unreadable: making the unit again raises the precise error
        return False
    return (status.size, status.mtime_ns) == (size, mtime_ns)


def _unit(recipe: Recipe, name: str, source: Source) -> Unit:
    """The unit of a source. Keys that do not decide its text are no causes."""
    folder = Workspace(Path(recipe.workspace)).raw(name)
    remote = sources.remote(source)
    files = [] if remote else sources.local(name, source)
    if source.index and len(files) > 1:
        raise InputError(
            f"corpus.sources.{name}.index: an index belongs to one dump, but location gives {len(files)} "
            "files; name one dump, or leave the index out"
        )
    index = [_local_index(name, source.index)] if _is_path(source.index) else []
    causes = functools.partial(_causes, recipe.corpus.unit_mb, source, files, index)
    make = functools.partial(_make, recipe, name, files)
    downloads = recipe.corpus.downloads
    recorded = causes(_recorded_section(folder))
    return _Source(name, folder, causes({}), make, source.location, downloads, recorded)


def _causes(
    unit_mb: float,
    source: Source,
    files: Sequence[sources.Local],
    index: Sequence[sources.Local],
    recorded: Mapping[str, Any],
) -> Causes:
    """The causes of a source's pieces, with the paths in `recorded` instead of the current ones."""
    inputs: dict[str, Any] = {}
    old_paths: dict[str, str] = {}
    for key, local_files in (("location", files), ("index", index)):
        if not local_files:
            continue
        now = getattr(source, key)
        was = recorded.get(key) or now
        old_paths[key] = was
        heads = relocation.differing_heads(now, was)
        fingerprint = sources.fingerprint([_moved_back(file, *heads) for file in local_files])
        inputs |= fingerprint if key == "location" else {key: fingerprint}
    as_recorded = source.model_copy(update=old_paths)
    section = NonDefaults(as_recorded, _not_causes(source.kind), {"unit_mb": unit_mb})
    return manifest.causes("download", VERSION, section, inputs)


def _moved_back(file: sources.Local, now: str, was: str) -> sources.Local:
    """The file with the path it had in its earlier folder."""
    return replace(file, path=Path(relocation.rebase(str(file.path), now, was)))


def _recorded_section(folder: Path) -> Mapping[str, Any]:
    """The source's section in the manifest of its pieces; empty if there is none."""
    if not (folder / MANIFEST).is_file():
        return {}
    try:
        section: Mapping[str, Any] = manifest.read(folder, "jobs.download")["causes"]["section"]
    except (StageError, KeyError, TypeError):
        return {}
    return section


def _is_path(index: str | None) -> TypeGuard[str]:
    return bool(index) and not is_url(str(index))


def _not_causes(kind: str) -> frozenset[str]:
    never = {"mirrors", "url_key", "id_key", "license"}
    others = {"wikipedia": {"text_key"}, "jsonl": {"title", "index"}, "parquet": {"title", "index"}}
    return frozenset(never | others.get(kind, {"text_key", "title", "index"}))


def _local_index(name: str, index: str) -> sources.Local:
    try:
        return sources.stat_file(Path(index))
    except FileNotFoundError:
        raise InputError(
            f"corpus.sources.{name}.index={index}: no such file; correct the path, or leave the key out"
        ) from None
    except OSError as error:
        raise InputError(
            f"corpus.sources.{name}.index={index}: {error.strerror}; fix that, or leave the key out"
        ) from None


def _make(
    recipe: Recipe, name: str, files: Sequence[sources.Local], folder: Path
) -> Mapping[str, Any]:
    from kit.corpus.raw.fetch import download_path, fetch
    from kit.corpus.raw.partial import quarantine

    source = recipe.corpus.sources[name]
    downloads = Path(recipe.corpus.downloads) if recipe.corpus.downloads else folder
    paths = [file.path for file in files]
    sums = _pinned(name, source)
    remote = sources.remote(source)
    if remote:
        sums = sums or _published(remote.urls[0], remote, downloads)
        paths = [fetch(remote.urls, download_path(remote.urls[0], downloads), sums)]
    elif mismatch := checksums.mismatch(paths[0], sums):
        raise InputError(f"{paths[0]}: {mismatch}; get a fresh copy, or correct the recipe")
    index = _index(source, remote, downloads)
    rows: list[tuple[Range, RangeFacts]] = []
    for path in paths:
        magic.refuse_other(path, source.kind)
    if not remote and (others := sources.left_out(source)):
        number = quantities.count(len(others), "file")
        log.warning(f"{source.location}: {number} left out, not of kind {source.kind}: {others[0]}")
    try:
        for path in paths:
            rows += _cut(source, path, index, folder, int(recipe.corpus.unit_mb * 1e6), len(rows))
    except DamagedFile as error:
        if not remote:
            raise
        raise DamagedFile(f"{error}: kept as {quarantine(path, path)}") from None
    numbered: list[Piece] = [
        {"name": f"{name}-{number:05d}", "source": name, "kind": source.kind, **piece, **facts}
        for number, (piece, facts) in enumerate(rows)
    ]
    return {"pieces": numbered, "checked": {key: value.digest for key, value in sums.items()}}


def _pinned(name: str, source: Source) -> dict[str, Sum]:
    pinned = {"sha1": source.sha1, "sha256": source.sha256}
    origin = f"corpus.sources.{name}"
    return {key: Sum(value, origin) for key, value in pinned.items() if value}


def _published(url: str, remote: sources.Remote, downloads: Path) -> dict[str, Sum]:
    """The checksum published beside a named dump, if there is one."""
    from kit.corpus.raw.fetch import NotFound, download_path, fetch

    if not remote.sums:
        return {}
    name = url.rsplit("/", 1)[1]
    try:
        listing = fetch(remote.sums, download_path(remote.sums[0], downloads))
    except NotFound as error:
        log.warning(f"{name}: not verified, its checksum is not published ({error})")
        return {}
    digest = checksums.listed_sha1(listing, name)
    if digest is None:
        listing.unlink()  # written before the dump was complete
        log.warning(f"{name}: not verified, {remote.sums[0]} has no checksum for it")
        return {}
    return {"sha1": Sum(digest, remote.sums[0])}


def _index(source: Source, remote: sources.Remote | None, downloads: Path) -> Path | None:
    """The index of a dump, fetched if necessary; None if the recipe names none and none is published."""
    from kit.corpus.raw.fetch import NotFound, download_path, fetch

    if source.kind != "wikipedia":
        return None
    if source.index and not is_url(source.index):
        return Path(source.index)
    if source.index:
        return fetch([source.index], download_path(source.index, downloads))
    if not remote or not remote.index:
        return None
    url = remote.index[0]
    sums = _published(url, remote, downloads)
    try:
        return fetch(remote.index, download_path(url, downloads), sums)
    except NotFound as error:
        log.warning(f"{source.location}: no index, scanning the dump for its streams ({error})")
        return None


def _cut(
    source: Source,
    path: Path,
    index: Path | None,
    folder: Path,
    unit_bytes: int,
    first: int,
) -> list[tuple[Range, RangeFacts]]:
    """The pieces of one file, each with the facts its reader needs."""
    if source.kind == "wikipedia":
        from kit.corpus import wikipedia

        header_end, ranges = wikipedia.stream_ranges(path, unit_bytes, index)
        facts: RangeFacts = {"header_end": header_end, "title": source.title}
        return [(piece, facts) for piece in pieces.ranges(path, ranges)]
    if source.kind == "parquet":
        from kit.corpus.raw import parquet

        facts = {"text_key": source.text_key}
        ranges = parquet.ranges(path, unit_bytes, source.text_key)
        return [(piece, facts) for piece in pieces.ranges(path, ranges)]
    facts = {"text_key": source.text_key} if source.kind == "jsonl" else {}
    return [(piece, facts) for piece in pieces.cut(source.kind, path, folder, unit_bytes, first)]
