"""Parquet files: the column of the text, row group by row group. Only this module imports pyarrow."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

from kit.errors import DamagedFile, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_ROWS = 256  # of a batch, to bound a task's memory: a row may be a book
_BUFFER = 1 << 20  # bytes of a column that are read ahead


def ranges(path: Path, unit_bytes: int, key: str) -> list[tuple[int, int]]:
    """Cut a file into byte ranges of whole row groups, each with about `unit_bytes` of text.

    Sizes are those of the column `key` before compression. A row group is never cut, so a file of large
    ones has large pieces. Raises InputError if the file is damaged or has no such column of texts.
    """
    with _opened(path) as file:
        _check_column(path, file.schema_arrow, key)
        starts: list[int] = []
        size = 0
        for group in range(file.metadata.num_row_groups):
            if not starts or size >= unit_bytes:
                starts.append(_start(file, group))
                size = 0
            size += _text_bytes(file, group, key)
    bounds = [0, *starts[1:], path.stat().st_size]
    return list(itertools.pairwise(bounds))


def rows(
    path: Path, start: int, end: int, key: str, more: Sequence[str] = ()
) -> Iterator[tuple[int, bytes | None, Mapping[str, Any]]]:
    """Yield row (from 1), text and values of `more` columns from row groups that begin in [start, end).

    None is a null. Raises DamagedFile if a page cannot be read, InputError if a column is missing.
    """
    with _opened(path) as file:
        for name in more:
            _refuse_missing(path, file.schema_arrow, name, "url_key or id_key")
        row = 1
        for group in range(file.metadata.num_row_groups):
            if start <= _start(file, group) < end:
                for number, (text, values) in enumerate(_texts(file, group, key, more), row):
                    yield number, text, values
            row += file.metadata.row_group(group).num_rows


def _texts(
    file: Any, group: int, key: str, more: Sequence[str]
) -> Iterator[tuple[bytes | None, Mapping[str, Any]]]:
    import pyarrow

    batches = file.iter_batches(
        batch_size=_ROWS, row_groups=[group], columns=[key, *more], use_threads=False
    )
    for batch in batches:
        texts = batch.column(key).cast(pyarrow.large_binary()).to_pylist()
        values = batch.select(more).to_pylist() if more else itertools.repeat({})
        yield from zip(texts, values)  # noqa: B905  the latter may be endless


def _start(file: Any, group: int) -> int:
    """The first byte of a row group."""
    columns = file.metadata.row_group(group)
    pages = (columns.column(number) for number in range(columns.num_columns))
    offsets = ((page.data_page_offset, page.dictionary_page_offset) for page in pages)
    return min(int(offset) for pair in offsets for offset in pair if offset is not None)


def _text_bytes(file: Any, group: int, key: str) -> int:
    columns = file.metadata.row_group(group)
    all_columns = (columns.column(number) for number in range(columns.num_columns))
    return sum(
        column.total_uncompressed_size for column in all_columns if column.path_in_schema == key
    )


def _check_column(path: Path, schema: Any, key: str) -> None:
    import pyarrow

    _refuse_missing(path, schema, key, "text_key")
    kind = schema.field(key).type
    try:
        pyarrow.array([], kind).cast(pyarrow.large_binary())
    except pyarrow.ArrowNotImplementedError:
        raise InputError(
            f"{path}: column {key!r} holds {kind}, not text; set text_key to that of the text"
        ) from None


def _refuse_missing(path: Path, schema: Any, name: str, key: str) -> None:
    """Raise InputError if there is no column of a name that `key` of the recipe gives."""
    if name not in schema.names:
        names = ", ".join(map(repr, schema.names[:5]))
        raise InputError(
            f"{path}: no column {name!r} (columns: {names or 'none':.200}); set {key} to one of them"
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file; an error of pyarrow becomes a DamagedFile."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"{path}: reading parquet needs pyarrow; pip install 'ekiden[parquet]'"
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DamagedFile(
            f"{path}: damaged, truncated, or no parquet file ({reason:.200}); get a fresh copy"
        ) from None
