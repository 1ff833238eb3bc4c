"""Raw text, at hand and cut into units: the first stage.

A URL is fetched into the workspace (a broken transfer goes on where it stopped), a path is read
where it is. Units are cut by the size of the input, never by the number of tasks.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kit import config, manifest, stage
from kit.corpus import plaintext, wikipedia
from kit.errors import InputError, TransferError
from kit.files import CHUNK, file_hash, text_hash
from kit.workspace import Run, Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1  # raise when the same dump comes to give other units
_TIMEOUT = 60  # seconds without a byte


def units(recipe: config.Recipe) -> list[stage.Unit]:
    """One unit a source. Raises InputError where a local file is missing."""
    return [_unit(recipe, name, source) for name, source in sorted(recipe.corpus.sources.items())]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    stage.run("download", units(config.read_resolved(run.recipe, config.Recipe)), task, tasks)


def _unit(recipe: config.Recipe, name: str, source: config.Source) -> stage.Unit:
    folder = Workspace(Path(recipe.workspace)).raw(name)
    inputs: dict[str, Any] = {"location": source.location}
    if not config.is_url(source.location):
        path = Path(source.location)
        if not path.is_file():
            raise InputError(f"corpus.sources.{name}.location={path}: there is no such file")
        inputs |= {"size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}
    section = {"kind": source.kind, "sha256": source.sha256, "unit_mb": recipe.corpus.unit_mb}

    def make(folder: Path) -> Mapping[str, Any]:
        path = Path(source.location)
        if config.is_url(source.location):
            path = fetch(source.location, folder)
        if source.sha256 is not None and _sha256(path) != source.sha256:
            if config.is_url(source.location):
                path.unlink()
            raise InputError(
                f"{path}: its SHA-256 is not that of corpus.sources.{name}; get it again"
            )
        return {"pieces": _cut(name, source.kind, path, folder, int(recipe.corpus.unit_mb * 1e6))}

    return stage.Unit(name, folder, manifest.causes("download", VERSION, section, inputs), make)


def place(url: str, folder: Path) -> Path:
    """Where `fetch` puts a file. Raises InputError for a URL that names none."""
    name = Path(urlsplit(url).path).name
    if not name:
        raise InputError(f"{url}: names no file; give the address of a dump or text")
    return folder / f"fetched-{text_hash(url):016x}" / name


def fetch(url: str, folder: Path) -> Path:
    """Bring a file into a folder of its URL's own, going on with a broken transfer if the server can.

    A file that is there is not loaded again. Raises InputError where the server refuses,
    TransferError where it breaks off.
    """
    path = place(url, folder)
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.transfer")
    have = partial.stat().st_size if partial.exists() else 0
    try:
        whole = _transfer(url, partial, have)
    except urllib.error.HTTPError as error:
        whole = have
        if error.code != 416:
            kind = TransferError if error.code >= 500 else InputError  # 503 passes, 404 does not
            raise kind(f"{url}: the server answers {error.code} {error.reason}") from None
        if error.headers.get("Content-Range") != f"bytes */{have}":  # not: all of it is here
            partial.unlink()
            raise TransferError(
                f"{url}: is another file than the one begun; run jobs.download again"
            ) from None
    except (OSError, HTTPException) as error:
        raise TransferError(
            f"{url}: the transfer broke off ({error}); run jobs.download again to go on with it"
        ) from None
    if whole is not None and partial.stat().st_size != whole:
        raise TransferError(
            f"{url}: the transfer ended early; run jobs.download again to go on with it"
        )
    partial.replace(path)
    return path


def _transfer(url: str, partial: Path, have: int) -> int | None:
    """Append to `partial` what is missing; returns the size of the whole, if the server told it."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  http(s) only
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
        resumed = have if answer.status == 206 else 0
        with partial.open("ab" if resumed else "wb") as out:
            while chunk := answer.read(CHUNK):
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        length = answer.headers.get("Content-Length")
        return None if length is None else resumed + int(length)


def _cut(name: str, kind: str, path: Path, folder: Path, unit_bytes: int) -> list[dict[str, Any]]:
    common = {"source": name, "kind": kind}
    if kind == "plaintext":
        parts = plaintext.split(path, folder, unit_bytes)
        return [
            common
            | {"name": f"{name}-{i:05d}", "path": str(part), "start": 0, "end": part.stat().st_size}
            | {"header_end": 0, "xxh3": file_hash(part)}
            for i, part in enumerate(parts)
        ]
    header_end, ranges = wikipedia.stream_ranges(path, unit_bytes)
    return [
        common
        | {"name": f"{name}-{i:05d}", "path": str(path), "start": start, "end": end}
        | {"header_end": header_end, "xxh3": file_hash(path, start, end)}
        for i, (start, end) in enumerate(ranges)
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
