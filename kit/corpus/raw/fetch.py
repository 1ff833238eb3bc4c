"""Download one file over HTTP: complete, verified, and only once.

An interrupted transfer resumes, in this run or a later one, if the server still has the same file. The
URLs of a file are tried in turn, round after round, with growing pauses; progress resets the pauses.
"""

from __future__ import annotations

import dataclasses
import email.utils
import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from kit import __version__
from kit.config.corpus import file_of
from kit.corpus.raw import checksums, magic
from kit.corpus.raw.partial import FileFacts, Partial, quarantine
from kit.errors import InputError, TransferError
from kit.output import log
from kit.output.progress import progress_bar
from kit.store.files import CHUNK, text_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAUSES = (2.0, 10.0, 30.0, 60.0, 120.0)  # seconds between rounds over the URLs
_AGENT = f"ekiden/{__version__} (jobs.download)"  # Wikimedia rejects clients without a name
_TRANSIENT = (408, 425, 429)  # client errors worth a retry, as are all of 500 and above


class NotFound(InputError):  # noqa: N818  HTTP's word
    """No server has the file (404, 410)."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to wait for a server."""

    pauses: tuple[float, ...] = PAUSES
    longest: float = 600  # seconds that a server's Retry-After may ask for
    silence: float = 60  # seconds without a byte


def download_path(url: str, folder: Path) -> Path:
    """The path in a folder for the file of a URL. Raises InputError for a URL without a file name."""
    name = file_of(url)
    if name is None:
        raise InputError(f"{url}: has no file name; give the URL of a dump or a text file")
    return folder / f"fetched-{text_hash(url):016x}" / name


def fetch(
    urls: Sequence[str],
    path: Path,
    sums: Mapping[str, checksums.Sum] | None = None,
    patience: Patience = Patience(),
) -> Path:
    """Download a file to `path` from the first of its URLs that has it, unless it exists.

    `sums` are its checksums, by algorithm (sha1, sha256). A file with others, a web page, and a file
    that is not compressed as its name says are renamed to NAME.wrong.
    Raises InputError if every server refuses or has a wrong file, or the disk is too small;
    TransferError if the transfer was interrupted too often, or another process is downloading it.
    """
    sums = sums or {}
    if _exists(path, sums):
        return path
    with Partial(path) as partial:
        if not path.is_file():  # another process may just have downloaded it
            _download(urls, partial, sums, patience)
            partial.finish()
    return path


def _exists(path: Path, sums: Mapping[str, checksums.Sum]) -> bool:
    if not path.is_file():
        return False
    mismatch = magic.mismatch(path, path.name) or checksums.mismatch(path, sums)
    if mismatch is not None:
        log.warning(
            f"{path}: {mismatch}; renamed to {quarantine(path, path).name}, fetching it again"
        )
    return mismatch is None


def _download(
    urls: Sequence[str], partial: Partial, sums: Mapping[str, checksums.Sum], patience: Patience
) -> None:
    """Try the URLs, round after round, until one has given all of the right file."""
    refused: dict[str, _Refused] = {}
    pauses = list(patience.pauses)
    furthest = partial.size
    while True:
        broken = None
        for url in (url for url in urls if url not in refused):
            try:
                _transfer(url, partial, bool(sums), patience)
                _check(url, partial, sums)
            except _Refused as error:
                refused[url] = error
            except _Broken as error:
                broken = error if broken is None or error.wait > broken.wait else broken
            else:
                return
        if broken is None:
            _give_up(refused)
        if partial.size >= furthest + CHUNK:
            furthest, pauses = partial.size, list(patience.pauses)
        if not pauses:
            raise TransferError(f"{broken}; run ekiden download again to resume")
        pause = max(pauses.pop(0), min(broken.wait, patience.longest))
        log.warning(f"{broken}; retrying in {pause:.3g} s")
        time.sleep(pause)


def _check(url: str, partial: Partial, sums: Mapping[str, checksums.Sum]) -> None:
    if mismatch := magic.mismatch(partial.file, partial.name):
        raise _Refused(f"{url}: {mismatch}; kept as {partial.quarantine()}")
    if mismatch := checksums.mismatch(partial.file, sums):
        raise _Refused(
            f"{url}: {mismatch}; kept as {partial.quarantine()}: correct the checksum if this is the "
            "right file, otherwise give a mirror"
        )


def _give_up(refused: Mapping[str, _Refused]) -> NoReturn:
    kind = NotFound if all(error.not_found for error in refused.values()) else InputError
    raise kind("; ".join(map(str, refused.values())))


def _transfer(url: str, partial: Partial, checked: bool, patience: Patience) -> None:
    """Append the missing bytes to `partial`. Raises _Refused, _Broken, and InputError for the disk."""
    have = partial.size
    recorded = partial.facts
    request = urllib.request.Request(  # noqa: S310  http(s) only
        url, headers={"User-Agent": _AGENT} | _range(url, recorded, have)
    )
    try:
        with urllib.request.urlopen(request, timeout=patience.silence) as answer:  # noqa: S310
            _receive(url, answer, partial, checked)
    except urllib.error.HTTPError as error:
        content_range = error.headers.get("Content-Range") if error.code == 416 else None
        if content_range == f"bytes */{have}" and recorded.size in (None, have):
            return  # the partial file is complete
        _refuse(url, error, partial)
    except http.client.InvalidURL as error:
        raise _Refused(
            f"{url}: not a valid URL ({error}); percent-encode it (a space: %20)"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"{url}: the transfer was interrupted ({error})") from None
    except UnicodeError:
        raise _Refused(
            f"{url}: has characters outside ASCII; percent-encode them, as %E3%83%86"
        ) from None


def _range(url: str, recorded: FileFacts, have: int) -> dict[str, str]:
    """The headers that request the missing bytes; all bytes if the file may have changed."""
    if not have:
        return {}
    if recorded.url is None or recorded.url == url:
        condition = {"If-Range": recorded.validator} if recorded.validator else {}
        return {"Range": f"bytes={have}-"} | condition
    # A mirror has validators of its own: the recipe, and the file's size, say that it is the same file.
    return {} if recorded.size is None else {"Range": f"bytes={have}-"}


def _refuse(url: str, error: urllib.error.HTTPError, partial: Partial) -> NoReturn:
    if error.code == 416:
        partial.forget()
        raise _Broken(f"{url}: the file has changed since its transfer began")
    message = f"{url}: the server answers {error.code} {error.reason}"
    if error.code >= 500 or error.code in _TRANSIENT:
        raise _Broken(message, _seconds(error.headers.get("Retry-After")))
    raise _Refused(message, not_found=error.code in (404, 410))


def _receive(url: str, answer: http.client.HTTPResponse, partial: Partial, checked: bool) -> None:
    sent = _facts(url, answer)
    start, whole = _extent(url, answer, partial, sent)
    if whole is None and not checked and not answer.chunked:
        raise _Refused(
            f"{url}: the server sends no Content-Length, so a truncated file would go unnoticed; give "
            "its sha256 in the recipe"
        )
    partial.begin(dataclasses.replace(sent, size=whole), start)
    if whole is not None:
        partial.refuse_small_disk(whole - start)
    _copy(url, answer, partial, start, whole)
    if whole is not None and partial.size != whole:
        message = f"{url}: the transfer ended early, after {partial.size} bytes of {whole}"
        if partial.size > whole:
            partial.forget()
            message = f"{url}: the server sends more than the {whole} bytes it announced"
        raise _Broken(message)


def _facts(url: str, answer: http.client.HTTPResponse) -> FileFacts:
    etag = answer.headers.get("ETag")
    strong = etag if etag and not etag.startswith("W/") else None
    return FileFacts(url, strong, answer.headers.get("Last-Modified"), _size(answer))


def _size(answer: http.client.HTTPResponse) -> int | None:
    """The size of the whole file, if the headers give it."""
    text = answer.headers.get("Content-Length")
    if answer.status == 206:
        text = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
    return int(text) if text and text.isdecimal() else None


def _extent(
    url: str, answer: http.client.HTTPResponse, partial: Partial, sent: FileFacts
) -> tuple[int, int | None]:
    """The offset of the body in the file, and the size of the file.

    Raises _Broken for a range other than the requested one, and if the file has changed.
    """
    if answer.status != 206:
        return 0, sent.size
    recorded, have = partial.facts, partial.size
    text = answer.headers.get("Content-Range") or ""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", text)
    if (
        not match
        or int(match[1]) != have
        or answer.length not in (None, int(match[2]) + 1 - have)
        or (sent.size is not None and int(match[2]) >= sent.size)
    ):
        partial.forget()
        raise _Broken(f"{url}: the server sends another range than the requested one ({text})")
    size = sent.size or recorded.size or int(match[2]) + 1
    pairs: list[tuple[object, object]] = [(size, recorded.size)]
    if recorded.url == url:
        pairs += [(sent.etag, recorded.etag), (sent.last_modified, recorded.last_modified)]
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        partial.forget()
        raise _Broken(f"{url}: the file has changed since its transfer began")
    return have, size


def _copy(
    url: str,
    answer: http.client.HTTPResponse,
    partial: Partial,
    start: int,
    whole: int | None,
) -> None:
    """Copy the body into `partial`, and one byte beyond its length if there is one."""
    done = start
    end = None if answer.length is None else start + answer.length
    # http.client stops at the announced length. The server closes the connection after the body, so the
    # raw stream shows whether that length was right.
    source = answer if end is None else answer.fp
    with progress_bar(Path(urlsplit(url).path).name, whole, begin=start) as advance:
        while end is None or done < end:
            chunk = source.read1(CHUNK if end is None else min(CHUNK, end - done))
            if not chunk:
                break
            partial.append(chunk)
            done += len(chunk)
            advance(done)
    if end is not None and done == end:
        partial.append(_beyond(answer))
    partial.sync()


def _beyond(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.fp.read(1)
    except OSError:  # a server that keeps the connection open
        return b""


def _seconds(retry_after: str | None) -> float:
    """The seconds of a Retry-After, which is a number of seconds or a date."""
    if retry_after is None:
        return 0
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
    except ValueError:
        return 0


class _Refused(Exception):  # noqa: N818
    """This URL will not give the file, however often it is tried."""

    def __init__(self, message: str, *, not_found: bool = False) -> None:
        super().__init__(message)
        self.not_found = not_found


class _Broken(Exception):  # noqa: N818
    """This URL may give the file on a retry, `wait` seconds from now at the earliest."""

    def __init__(self, message: str, wait: float = 0) -> None:
        super().__init__(message)
        self.wait = wait
