"""One file over HTTP: whole, the right one, and not loaded twice.

A transfer that breaks off goes on where it stopped, in this run or a later one, as long as the server
still has the same file. The URLs of a file are tried in turn, again and again, with growing pauses;
a run that gets further starts over with the short ones.
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
from kit.corpus.raw import checksums
from kit.corpus.raw.partial import Known, Partial, put_away
from kit.errors import InputError, TransferError
from kit.output import log
from kit.output.progress import shown
from kit.store.files import CHUNK, text_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAUSES = (2.0, 10.0, 30.0, 60.0, 120.0)  # seconds between one round over the URLs and the next
_AGENT = f"ekiden/{__version__} (jobs.download)"  # Wikimedia turns away programs without a name
_PASSES = (408, 425, 429)  # client errors that pass; so do those of the server, 500 and above


class NotThere(InputError):  # noqa: N818  the server's word
    """No server has the file (404, 410)."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long is waited for a server."""

    pauses: tuple[float, ...] = PAUSES
    longest: float = 600  # seconds that a server's Retry-After may ask for
    silence: float = 60  # seconds without a byte


def place(url: str, folder: Path) -> Path:
    """Where in a folder the file of a URL belongs. Raises InputError for a URL that names none."""
    name = Path(urlsplit(url).path).name
    if not name:
        raise InputError(f"{url}: names no file; give the address of a dump or text")
    return folder / f"fetched-{text_hash(url):016x}" / name


def fetch(
    urls: Sequence[str],
    path: Path,
    sums: Mapping[str, checksums.Sum] | None = None,
    patience: Patience = Patience(),
) -> Path:
    """Bring a file to `path` from the first of its URLs that has it; one that is there stays.

    `sums` are its checksums, by algorithm (sha1, sha256); a file with others is put away as NAME.wrong.
    Raises InputError where every server refuses or has a wrong file, or the disk is too small;
    TransferError where the transfer broke off once too often, or another process is at it.
    """
    sums = sums or {}
    if _is_there(path, sums):
        return path
    with Partial(path) as partial:
        if not path.is_file():  # another process may have brought it just now
            _bring(urls, partial, sums, patience)
            partial.finish()
    return path


def _is_there(path: Path, sums: Mapping[str, checksums.Sum]) -> bool:
    if not path.is_file():
        return False
    wrong = checksums.mismatch(path, sums)
    if wrong is not None:
        log.warning(f"{path}: {wrong}; put away as {put_away(path, path).name}, and fetched again")
    return wrong is None


def _bring(
    urls: Sequence[str], partial: Partial, sums: Mapping[str, checksums.Sum], patience: Patience
) -> None:
    """Rounds over the URLs until one gave the whole of the right file."""
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
            raise TransferError(f"{broken}; run jobs.download again to go on with it")
        pause = max(pauses.pop(0), min(broken.wait, patience.longest))
        log.warning(f"{broken}; trying again in {pause:.3g} s")
        time.sleep(pause)


def _check(url: str, partial: Partial, sums: Mapping[str, checksums.Sum]) -> None:
    wrong = checksums.mismatch(partial.file, sums)
    if wrong is not None:
        raise _Refused(
            f"{url}: {wrong}; it was put away as {partial.put_away()}: see whether it is the file "
            "that is meant, and correct the checksum or give a mirror"
        )


def _give_up(refused: Mapping[str, _Refused]) -> NoReturn:
    kind = NotThere if all(error.not_there for error in refused.values()) else InputError
    raise kind("; ".join(map(str, refused.values())))


def _transfer(url: str, partial: Partial, checked: bool, patience: Patience) -> None:
    """Add to `partial` what is missing. Raises _Refused, _Broken, and InputError for the disk."""
    have = partial.size
    known = partial.known
    request = urllib.request.Request(  # noqa: S310  http(s) only
        url, headers={"User-Agent": _AGENT} | _range(url, known, have)
    )
    try:
        with urllib.request.urlopen(request, timeout=patience.silence) as answer:  # noqa: S310
            _receive(url, answer, partial, checked)
    except urllib.error.HTTPError as error:
        told = error.headers.get("Content-Range") if error.code == 416 else None
        if told == f"bytes */{have}" and known.size in (None, have):
            return  # all of it was here
        _refuse(url, error, partial)
    except http.client.InvalidURL as error:
        raise _Refused(f"{url}: is no address ({error}); write it as %20 and the like") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"{url}: the transfer broke off ({error})") from None
    except UnicodeError:
        raise _Refused(
            f"{url}: has characters outside ASCII; write them as %E3 and the like"
        ) from None


def _range(url: str, known: Known, have: int) -> dict[str, str]:
    """The headers that ask for what is missing; the whole where the rest may be of another file."""
    if not have:
        return {}
    if known.url is None or known.url == url:
        condition = {"If-Range": known.validator} if known.validator else {}
        return {"Range": f"bytes={have}-"} | condition
    # A mirror has validators of its own; that it has the same file is the recipe's word, and its size.
    return {} if known.size is None else {"Range": f"bytes={have}-"}


def _refuse(url: str, error: urllib.error.HTTPError, partial: Partial) -> NoReturn:
    if error.code == 416:
        partial.forget()
        raise _Broken(f"{url}: is another file than the one begun")
    message = f"{url}: the server answers {error.code} {error.reason}"
    if error.code >= 500 or error.code in _PASSES:
        raise _Broken(message, _seconds(error.headers.get("Retry-After")))
    raise _Refused(message, not_there=error.code in (404, 410))


def _receive(url: str, answer: http.client.HTTPResponse, partial: Partial, checked: bool) -> None:
    told = _told(url, answer)
    start, whole = _extent(url, answer, partial, told)
    if whole is None and not checked and not answer.chunked:
        raise _Refused(
            f"{url}: the server tells no length, so that a file cut short would not be noticed; give "
            "its sha256 in the recipe"
        )
    partial.begin(dataclasses.replace(told, size=whole), start)
    if whole is not None:
        partial.refuse_small_disk(whole - start)
    _copy(url, answer, partial, start, whole)
    if whole is not None and partial.size != whole:
        short = f"{url}: the transfer ended early, after {partial.size} bytes of {whole}"
        if partial.size > whole:
            partial.forget()
            short = f"{url}: the server sends more than the {whole} bytes that it tells"
        raise _Broken(short)


def _told(url: str, answer: http.client.HTTPResponse) -> Known:
    etag = answer.headers.get("ETag")
    strong = etag if etag and not etag.startswith("W/") else None
    return Known(url, strong, answer.headers.get("Last-Modified"), _size(answer))


def _size(answer: http.client.HTTPResponse) -> int | None:
    """The size of the whole file, as far as the headers tell it."""
    text = answer.headers.get("Content-Length")
    if answer.status == 206:
        text = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
    return int(text) if text and text.isdecimal() else None


def _extent(
    url: str, answer: http.client.HTTPResponse, partial: Partial, told: Known
) -> tuple[int, int | None]:
    """Where in the file the body begins, and the size of the file.

    Raises _Broken for a range that is not the one asked for, or is of another file than the one begun.
    """
    if answer.status != 206:
        return 0, told.size
    known, have = partial.known, partial.size
    text = answer.headers.get("Content-Range") or ""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", text)
    if (
        not match
        or int(match[1]) != have
        or answer.length not in (None, int(match[2]) + 1 - have)
        or (told.size is not None and int(match[2]) >= told.size)
    ):
        partial.forget()
        raise _Broken(f"{url}: the server sends another range ({text}) than it was asked for")
    size = told.size or known.size or int(match[2]) + 1
    pairs: list[tuple[object, object]] = [(size, known.size)]
    if known.url == url:
        pairs += [(told.etag, known.etag), (told.last_modified, known.last_modified)]
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        partial.forget()
        raise _Broken(f"{url}: is another file than the one begun")
    return have, size


def _copy(
    url: str,
    answer: http.client.HTTPResponse,
    partial: Partial,
    start: int,
    whole: int | None,
) -> None:
    """The body into `partial`; what comes beyond its length, if anything does, by one byte."""
    done = start
    end = None if answer.length is None else start + answer.length
    # http.client stops at the length that was told. The connection, which is to be closed behind the
    # body, tells whether it was the true one.
    source = answer if end is None else answer.fp
    with shown(Path(urlsplit(url).path).name, whole, begin=start) as at:
        while end is None or done < end:
            chunk = source.read1(CHUNK if end is None else min(CHUNK, end - done))
            if not chunk:
                break
            partial.append(chunk)
            done += len(chunk)
            at(done)
    if end is not None and done == end:
        partial.append(_beyond(answer))
    partial.sync()


def _beyond(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.fp.read(1)
    except OSError:  # a server that keeps the connection open
        return b""


def _seconds(retry_after: str | None) -> float:
    """A Retry-After, which is a number of seconds or a date."""
    if retry_after is None:
        return 0
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
    except ValueError:
        return 0


class _Refused(Exception):  # noqa: N818
    """This URL will not give the file, however often it is asked."""

    def __init__(self, message: str, *, not_there: bool = False) -> None:
        super().__init__(message)
        self.not_there = not_there


class _Broken(Exception):  # noqa: N818
    """This URL may give the file when it is asked again, `wait` seconds from now at the soonest."""

    def __init__(self, message: str, wait: float = 0) -> None:
        super().__init__(message)
        self.wait = wait
