"""Token files, and the order in which training reads them."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.data import shards, tokens
from kit.errors import InputError, StageError
from kit.store import manifest, mapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Workdir

SHORT, LONG = np.dtype("<u2"), np.dtype("<u4")


def packed(documents: list[list[int]], dtype: np.dtype) -> list[bytes]:
    return [np.array(ids, dtype).tobytes() for ids in documents]


def row_of(folder: Path, files: list[list[int]], dtype: np.dtype = SHORT) -> tokens.TokenStream:
    """A row over token files of one document each."""
    paths = [folder / f"{number}.tokens" for number in range(len(files))]
    for path, ids in zip(paths, files, strict=True):
        tokens.write(path, packed([ids] if ids else [], dtype), dtype)
    return tokens.open_stream(paths, dtype)


@pytest.mark.parametrize(("vocab_size", "size"), [(3_000, 2), (65_535, 2), (65_537, 4), (10**6, 4)])
def test_a_token_takes_two_bytes_or_four(vocab_size: int, size: int) -> None:
    kind = tokens.dtype_for(vocab_size)
    assert kind.itemsize == size
    assert kind.byteorder in "<="
    assert vocab_size - 1 <= np.iinfo(kind).max


@pytest.mark.parametrize(("dtype", "largest"), [(SHORT, 65_535), (LONG, 65_536)])
def test_tokens_come_back_as_they_were_written(
    tmp_path: Path, dtype: np.dtype, largest: int
) -> None:
    row = row_of(tmp_path, [[0, 1, largest], [7]], dtype)
    assert row.slice(0, 4).tolist() == [0, 1, largest, 7]
    assert row.slice(0, 4).dtype == np.int64
    size = (tmp_path / "0.tokens").stat().st_size
    assert size == 3 * dtype.itemsize


def test_offsets_name_the_first_token_of_each_document(tmp_path: Path) -> None:
    documents = [[5, 6, 2], [2], [7, 2]]
    for dtype in (SHORT, LONG):
        assert tokens.write(tmp_path / "a.tokens", packed(documents, dtype), dtype) == 6
        offsets = np.fromfile(tmp_path / "a.offsets", "<u8")
        assert offsets.tolist() == [0, 3, 4]


def test_a_file_of_which_a_document_fails_is_not_there(tmp_path: Path) -> None:
    def documents() -> Iterator[bytes]:
        yield b"12"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        tokens.write(tmp_path / "a.tokens", documents(), SHORT)
    assert list(tmp_path.iterdir()) == []


def test_these_documents_give_these_bytes(tmp_path: Path) -> None:
    tokens.write(tmp_path / "a.tokens", packed([[258, 3, 2], [65_535, 2]], SHORT), SHORT)
    tokens.write(tmp_path / "b.tokens", packed([[258, 3, 2], [65_536, 2]], LONG), LONG)
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in tmp_path.iterdir()
    }
    assert (tmp_path / "a.tokens").read_bytes() == b"\x02\x01\x03\x00\x02\x00\xff\xff\x02\x00"
    assert found == {
        "a.tokens": "142b28b26a927137",
        "a.offsets": "96fb5e4a2704b410",
        "b.tokens": "9ae73ef20b3c44bd",
        "b.offsets": "96fb5e4a2704b410",
    }, "other bytes from the same documents: raise VERSION in kit/data/tokens.py, then these hashes"


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_a_slice_over_files_is_a_slice_of_them_joined(
    files: list[list[int]], start: int, stop: int
) -> None:
    arrays = tuple(np.array(ids, SHORT) for ids in files if ids)
    row = tokens.TokenStream(arrays, (0, *itertools.accumulate(map(len, arrays))))
    joined = [token for ids in files for token in ids]
    assert len(row) == len(joined)
    assert row.slice(start, stop).tolist() == joined[start:stop]


def test_a_row_passes_over_empty_files(tmp_path: Path) -> None:
    row = row_of(tmp_path, [[], [1, 2], [], [3], []])
    assert row.slice(0, 9).tolist() == [1, 2, 3]
    assert len(row_of(tmp_path, [[], []])) == 0


@given(st.lists(st.lists(st.lists(st.just(7), min_size=1, max_size=4), max_size=4), max_size=5))
def test_every_token_knows_its_file_and_document(files: list[list[list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{number}.tokens" for number in range(len(files))]
        for path, documents in zip(paths, files, strict=True):
            tokens.write(path, packed(documents, SHORT), SHORT)
        row = tokens.open_stream(paths, SHORT)
        expected = [
            (path, number)
            for path, documents in zip(paths, files, strict=True)
            for number, ids in enumerate(documents)
            for _ in ids
        ]
        assert [row.locate(position) for position in range(len(row))] == expected


def test_a_stream_keeps_no_descriptor_and_leaves_no_map(tmp_path: Path) -> None:
    """Of a thousand units a process would have two thousand, and may often have 1,024."""
    before = len([*Path("/proc/self/fd").iterdir()])
    row = row_of(tmp_path, [[number] * 5 for number in range(40)])
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    maps = Path("/proc/self/maps")
    assert maps.read_text().count(f"{tmp_path}/") == 40
    file, row = row.files[7], tokens.TokenStream((), (0,))
    assert maps.read_text().count(f"{tmp_path}/") == 1
    assert file.tolist() == [7] * 5
    with pytest.raises(ValueError, match="read-only"):
        file[0] = 1
    del file
    assert str(tmp_path) not in maps.read_text()
    assert len(row) == 0


def test_a_token_file_that_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"{tmp_path}"):
        mapped.array(tmp_path, SHORT)


def test_offsets_of_another_file_are_refused(tmp_path: Path) -> None:
    row = row_of(tmp_path, [[1, 2, 3]])
    for offsets in ([], [0, 3], [1]):
        (tmp_path / "0.offsets").write_bytes(np.array(offsets, "<u8").tobytes())
        with pytest.raises(InputError, match=r"0\.offsets: damaged; run ekiden tokenize again"):
            row.locate(0)


def test_a_file_of_half_a_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tokens").write_bytes(b"123")
    with pytest.raises(InputError, match=r"a\.tokens: 3 bytes end in half a token"):
        tokens.open_stream([tmp_path / "a.tokens"], SHORT)


def test_a_block_has_the_token_after_it(tmp_path: Path) -> None:
    row = row_of(tmp_path, [list(range(5)), list(range(5, 13))])
    assert row.blocks(4) == 3
    assert [row.block(index, 4).tolist() for index in range(3)] == [
        [0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8, 9, 10, 11, 12],
    ]  # fmt: skip


@pytest.mark.parametrize(("length", "blocks"), [(0, 0), (1, 0), (4, 0), (5, 1), (8, 1), (9, 2)])
def test_a_block_without_a_token_after_it_is_none(tmp_path: Path, length: int, blocks: int) -> None:
    assert row_of(tmp_path, [[1] * length]).blocks(4) == blocks


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5, 16, 17, 100, 255, 256, 257, 1_000])
def test_an_epoch_reads_every_block_once(blocks: int) -> None:
    for epoch in (0, 1, 7):
        order = [
            tokens.sample_block(epoch * blocks + sample, blocks, seed=3) for sample in range(blocks)
        ]
        assert sorted(order) == list(range(blocks))


def test_each_epoch_and_each_seed_has_its_own_order() -> None:
    orders = {
        tuple(tokens.sample_block(epoch * 100 + sample, 100, seed) for sample in range(100))
        for epoch in range(4)
        for seed in range(4)
    }
    assert len(orders) == 16


def test_an_order_is_shuffled() -> None:
    order = [tokens.sample_block(sample, 1_000, 0) for sample in range(1_000)]
    assert sum(a == b for a, b in enumerate(order)) < 10  # one is expected
    neighbours = sum(abs(a - b) == 1 for a, b in itertools.pairwise(order))
    assert neighbours < 20  # two are expected


def test_the_order_is_what_it_has_always_been() -> None:
    first = [tokens.sample_block(sample, 1_000, 0) for sample in range(8)]
    late = [tokens.sample_block(10**15 + sample, 15_000_000, 42) for sample in range(4)]
    edge = [tokens.sample_block(sample, 257, 0) for sample in range(8)]  # of ten bits, by one block
    assert edge == [107, 200, 160, 182, 235, 101, 213, 61]
    assert (first, late) == (
        [405, 497, 160, 988, 428, 788, 319, 790],
        [14553742, 7178483, 4213368, 13644804],
    ), "another order: runs that are under way would read some blocks twice and others never"


def test_a_vocabulary_is_that_of_the_workspaces_tokenizer(workdir: Workdir) -> None:
    recipe, folder = workdir.recipe(), workdir.workspace.tokenizer
    with pytest.raises(StageError, match=r"tokenizer: missing; run ekiden tokenizer first"):
        tokens.tokenizer_info(recipe)
    folder.mkdir(parents=True)
    manifest.commit(folder, {})
    with pytest.raises(StageError, match=r"an older version; run ekiden tokenizer again"):
        tokens.tokenizer_info(recipe)
    manifest.commit(folder, {}, vocabulary={"size": 70_000, "begin": 2, "end": 1})
    assert tokens.tokenizer_info(recipe) == tokens.TokenizerInfo(70_000, begin=2, end=1)


@pytest.mark.parametrize(("size", "dtype"), [(65_535, SHORT), (65_536, LONG)])
def test_token_files_are_read_as_the_tokenizer_says_and_not_the_recipe(
    workdir: Workdir, size: int, dtype: np.dtype
) -> None:
    workdir.workspace.tokenizer.mkdir(parents=True)
    facts = {"size": size, "begin": 1, "end": 2}
    manifest.commit(workdir.workspace.tokenizer, {}, vocabulary=facts)
    recipe, folder = workdir.recipe("tokenizer.vocab_size=1200"), workdir.workspace.tokens("a")
    shard = shards.Shard("a", folder, {}, {})
    tokens.write(tokens.token_file(folder, "train"), packed([[5, 65_535]], dtype), dtype)
    row = tokens.open_part([tokens.TokenUnit(shard, folder, {})], "train", recipe)
    assert row.slice(0, 9).tolist() == [5, 65_535]
