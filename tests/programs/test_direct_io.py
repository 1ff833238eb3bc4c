"""Files past the page cache have the bytes of others, wherever these come from and go to."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.training import direct_io
from kit.training.direct_io import PAGE, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 3 << 20  # bytes of a piece: more than a buffer has


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk, and one of a file system in memory."""
    if request.param == "disk":
        yield tmp_path
        return
    own = Path("/dev/shm") / tmp_path.parent.name
    own.mkdir()
    yield own
    for path in own.iterdir():
        path.unlink()
    own.rmdir()


def test_a_file_has_the_bytes_of_its_pieces(folder: Path) -> None:
    chance = random.Random(3)
    memory = memoryview(direct_io.pages(MOST + PAGE))
    memory[:] = chance.randbytes(len(memory))
    for sizes in (
        [0],
        [1],
        [PAGE],
        [2 * MOST // 3, 100, MOST],  # whole pages of memory, at a place in the file that is none
        [300, PAGE - 300, MOST // PAGE * PAGE, 7],  # as torch's headers, padding and tensors are
        [chance.randrange(MOST) for _ in range(6)] + [chance.randrange(200) for _ in range(50)],
    ):
        for offset in (0, 64):
            written = bytearray()
            writer = Writer(folder / "a")
            for size in sizes:
                writer.write(memory[offset : offset + size])
                written += memory[offset : offset + size]
            writer.sync()
            writer.close()
            assert (folder / "a").read_bytes() == written


def test_pages_of_memory_are_written_from_where_they_are(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a")
    if not writer.direct:
        pytest.skip("a file system without O_DIRECT")
    memory = memoryview(direct_io.pages(MOST))
    writer.write(memory)
    assert writer._held == 0
    assert (tmp_path / "a").stat().st_size == MOST
    writer.write(memory[64:])  # no whole pages
    assert writer._held == (MOST - 64) % (1 << 20)
    writer.close()


def test_what_is_refused_past_the_cache_goes_through_it(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a")
    writer._put(memoryview(b"no whole page"))  # EINVAL from the kernel
    assert not writer.direct
    writer.write(memoryview(b"; and more"))
    writer.sync()
    writer.close()
    assert (tmp_path / "a").read_bytes() == b"no whole page; and more"
    descriptor = direct_io.open_file(tmp_path / "a", os.O_RDONLY)
    place = memoryview(bytearray(100))[1:]
    assert direct_io.read_at(descriptor, place, 3, 50) == 20
    assert place[:20] == b"whole page; and more"
    os.close(descriptor)


def test_another_error_is_raised(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Writer(tmp_path)
    writer = Writer(tmp_path / "a")
    writer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer._put(memoryview(b"x"))
