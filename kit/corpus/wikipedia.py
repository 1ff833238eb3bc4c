"""Wikipedia: a multistream dump as ranges of bz2 streams, and their pages as documents.

A multistream dump is a row of bz2 streams: a header, then pages (100 a stream), then a closing tag.
A range of streams decompresses on its own. Wikitext becomes text by wikiextractor 3.1, run as a
program of its own (it is AGPL-3 software, and is never imported).
"""

from __future__ import annotations

import bz2
import importlib.util
import json
import mmap
import re
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC = re.compile(rb"BZh[1-9]1AY&SY")  # a bz2 stream with a first block
_CLOSING = b"</mediawiki>"
_SURROGATE = re.compile("[\ud800-\udfff]")  # an entity such as &#xD800; is no character
_TAG = re.compile(r"<[^>]*>")


def stream_ranges(path: Path, unit_bytes: int) -> tuple[int, list[tuple[int, int]]]:
    """Cut a dump into byte ranges of whole streams, each about `unit_bytes` of compressed input.

    Returns the end of the header stream, and the ranges [start, end) behind it. Raises InputError
    for a file that is no multistream dump, or ends too early.
    """
    with path.open("rb") as stream:
        if stream.read(3) != b"BZh":
            raise InputError(
                f"{path}: not a bz2 file; give a pages-articles-multistream.xml.bz2 dump"
            )
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            starts = [match.start() for match in _MAGIC.finditer(data)]
            if not starts or starts[0] != 0 or len(starts) < 2:
                raise InputError(f"{path}: holds no row of bz2 streams; give a multistream dump")
            last = _decompress(path, data[starts[-1] :], starts[-1])
            if not last.rstrip().endswith(_CLOSING):
                raise InputError(
                    f"{path}: the dump is cut: the stream at byte {starts[-1]} does not close it; "
                    "download it again"
                )
            size = len(data)
    ranges = []
    begin = starts[1]
    for end in [*starts[2:], size]:
        if end - begin >= unit_bytes or end == size:
            ranges.append((begin, end))
            begin = end
    return starts[1], ranges


def documents(path: Path, header_end: int, start: int, end: int) -> Iterator[list[str]]:
    """The articles in a byte range of a dump, each as its lines of text.

    Only articles (namespace 0) with text; redirects have none. Raises InputError where a stream is
    damaged, or wikiextractor is missing or fails.
    """
    with path.open("rb") as stream:
        header = _decompress(path, stream.read(header_end), 0)
        stream.seek(start)
        pages = _decompress(path, stream.read(end - start), start).rstrip().removesuffix(_CLOSING)
    with tempfile.NamedTemporaryFile(suffix=".xml") as xml, tempfile.TemporaryFile() as messages:
        xml.write(header + pages + b"\n" + _CLOSING + b"\n")
        xml.flush()
        command = [sys.executable, "-m", "wikiextractor.WikiExtractor", "--quiet", "--json"]
        command += ["--no-templates", "--processes", "1", "--output", "-", xml.name]
        if importlib.util.find_spec("wikiextractor") is None:
            raise InputError(
                f"{path}: wikiextractor is not installed; pip install 'ekiden[wikipedia]'"
            )
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages) as extractor:
            assert extractor.stdout is not None
            for line in extractor.stdout:
                lines = clean(json.loads(line)["text"])
                if lines:
                    yield lines
        if extractor.returncode:
            messages.seek(0)
            reason = messages.read().decode(errors="replace").strip().rsplit("\n", 1)[-1]
            raise InputError(f"{path}, bytes {start} to {end}: wikiextractor failed: {reason}")


def clean(text: str) -> list[str]:
    """Lines of an extracted article without left-over tags and without empty lines."""
    text = _SURROGATE.sub("\ufffd", text)
    lines = (_TAG.sub("", line).strip() for line in text.split("\n"))
    return [line for line in lines if line]


def _decompress(path: Path, data: bytes, offset: int) -> bytes:
    """The text of a row of whole bz2 streams that starts at `offset` of `path`."""
    texts = []
    at = offset
    while data:
        decompressor = bz2.BZ2Decompressor()
        try:
            texts.append(decompressor.decompress(data))
        except OSError as error:
            raise InputError(
                f"{path}: damaged bz2 stream at byte {at} ({error}); download it again"
            ) from None
        if not decompressor.eof:
            raise InputError(f"{path}: the bz2 stream at byte {at} is cut; download the dump again")
        at += len(data) - len(decompressor.unused_data)
        data = decompressor.unused_data
    return b"".join(texts)
