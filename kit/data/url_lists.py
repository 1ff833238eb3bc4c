"""Lists of domains and URLs whose documents are left out: files such as `domains` and `urls` of UT1.

A line is a domain, which stands for its subdomains too, or a URL, with or without its scheme, which stands
for everything below its path too. Blank lines and those that begin with # are ignored.

    banned = url_lists.read("adult", "ut1/adult/domains")
    banned.holds("https://www.example.org/page?n=1")
"""

from __future__ import annotations

import contextlib
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import InputError
from kit.store.files import file_hash, text_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.config.filters import Filters

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:?//")
_HOST = re.compile(r"[^/?#]*")
_CUT = re.compile("[/?#]")


class UrlList:
    """A list as sorted hashes, 8 bytes an entry: the list of a whole category has millions."""

    def __init__(self, entries: Iterator[str]) -> None:
        import numpy as np

        self._hashes = np.unique(np.fromiter(map(text_hash, entries), np.uint64))

    def __len__(self) -> int:
        return len(self._hashes)

    def holds(self, url: str) -> bool:
        """Whether the URL, one above it, or its domain with or without subdomains is in the list."""
        import numpy as np

        hashes = np.array([text_hash(name) for name in _names(*_split(url))], np.uint64)
        places: np.ndarray[Any, Any] = np.searchsorted(self._hashes, hashes)
        return bool((self._hashes[np.minimum(places, len(self._hashes) - 1)] == hashes).any())


def read(name: str, file: str) -> UrlList:
    """The list `name`, read once by a process.

    Raises InputError for a file that is missing, empty or not UTF-8, and for a line of another form.
    """
    key = f"corpus.filters.urls.{name}.file={file}"
    found = _read(key, file, _hash(key, file))
    if not len(found):
        raise InputError(
            f"{key}: nothing in it; write a domain or URL a line, or leave the list out"
        )
    return found


def fingerprints(filters: Filters) -> dict[str, str]:
    """A hash of each file by the name of its list. Raises InputError for a file that cannot be read."""
    return {
        name: _hash(f"corpus.filters.urls.{name}.file={rule.file}", rule.file)
        for name, rule in sorted(filters.urls.items())
    }


def _hash(key: str, file: str) -> str:
    try:
        return file_hash(Path(file))
    except OSError as error:
        raise InputError(f"{key}: {error.strerror}; name a file of domains or URLs") from None


@functools.lru_cache
def _read(key: str, file: str, content: str) -> UrlList:  # noqa: ARG001  the cache's key
    try:
        return UrlList(_entries(key, file))
    except UnicodeDecodeError:
        raise InputError(f"{key}: not UTF-8; convert it with iconv") from None


def _entries(key: str, file: str) -> Iterator[str]:
    with Path(file).open(encoding="utf-8-sig") as lines:
        for number, raw in enumerate(lines, 1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            host, path = _split(line)
            if not host or len(line.split()) > 1:
                raise InputError(
                    f"{key}, line {number}: {line[:100]!r} is neither a domain nor a URL; correct it"
                )
            yield host + path


def _split(url: str) -> tuple[str, str]:
    """The host in lower case and ASCII, without user, port and final dot; and the rest without a last /."""
    scheme = _SCHEME.match(url)
    start = scheme.end() if scheme else 0
    match = _HOST.match(url, start)
    assert match is not None
    host = match[0].rpartition("@")[2].partition(":")[0].lower().strip(".")
    if not host.isascii():
        with contextlib.suppress(UnicodeError):  # what is no name of a host is compared as it is
            host = host.encode("idna").decode()
    return host, url[match.end() :].rstrip("/")


def _names(host: str, path: str) -> Iterator[str]:
    """The entries that stand for a URL."""
    ends = [0, *(match.start() for match in _CUT.finditer(path)), len(path)]
    heads = {path[:end].rstrip("/") for end in ends}
    while host:
        yield from (host + head for head in heads)
        host = host.partition(".")[2]
