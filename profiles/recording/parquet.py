"""Columns of a dataset's Parquet files as numpy. pyarrow is imported only when a file is read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.files import open_regular

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS_AT_ONCE = 64
"""A row has an image: reading few at a time limits memory, whatever the size of a row group."""

HINT = "was the copy complete? record or convert it again"


def read_numbers(
    path: Path, widths: Mapping[str, int], max_rows: int, may_be_null: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Columns of numbers, or of lists of `widths[name]` numbers per row, as arrays [rows, width].

    A column in `may_be_null` (width 1) may have nulls, which become NaN. Other columns of the file are not read.

    Raises:
        InputError: damaged, more than `max_rows` rows, a column that is missing or of another type or width.
        MissingError: pyarrow is not installed.
    """
    with _opened(path) as file:
        rows = file.metadata.num_rows
        if rows > max_rows:
            raise InputError(f"{path} has {rows} rows, expected at most {max_rows}", HINT)
        for name, width in widths.items():
            if name not in file.schema_arrow.names:
                raise InputError(f"{path} has no column '{name}'", HINT)
            if _stored_values(file, name) > rows * width:
                raise InputError(f"{path}: '{name}' is not {width} number(s) per row", HINT)
        table = file.read(list(widths))
        return {name: _numbers(path, table, name, width, name in may_be_null) for name, width in widths.items()}


def read_pictures(path: Path, column: str, rows: np.ndarray) -> Iterator[tuple[int, bytes | None]]:
    """Row number and encoded image of `rows` int64 [K], ascending; None where the cell is null.

    A cell is the image itself, or a struct with it in `bytes`. Row groups without any of the rows are not read.

    Raises:
        InputError: damaged, or the column is missing or has no encoded images.
        MissingError: pyarrow is not installed.
    """
    if not len(rows):
        return
    with _opened(path) as file:
        if column not in file.schema_arrow.names:
            raise InputError(f"{path} has no column '{column}'", HINT)
        start = 0
        for group in range(file.metadata.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            first, last = np.searchsorted(rows, (start, end))
            if first < last:
                batches = file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column])
                yield from _pictures(path, batches, column, rows[first:last] - start, start)
            start = end


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """An open Parquet file; errors of pyarrow become an InputError with one line."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyarrow.fs import LocalFileSystem
    except ModuleNotFoundError:
        raise MissingError(
            "reading a dataset needs the Python package 'pyarrow'", "pip install 'sefa-edge[dataset]'"
        ) from None
    try:
        open_regular(path).close()  # pyarrow would wait for a pipe's writer
        with pq.ParquetFile(path, filesystem=LocalFileSystem()) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise InputError(f"{path} cannot be read: {reason}", HINT) from None


def _stored_values(file: pq.ParquetFile, name: str) -> int:
    """The number of values that a column declares, before any of them is unpacked."""
    groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
    columns = (group.column(index) for group in groups for index in range(group.num_columns))
    return sum(
        c.num_values for c in columns if c.path_in_schema == name or c.path_in_schema.startswith(name + ".list.")
    )


def _numbers(path: Path, table: pa.Table, name: str, width: int, may_be_null: bool) -> np.ndarray:
    column = table.column(name).combine_chunks()
    if may_be_null and column.null_count:
        column = column.cast("float64").fill_null(float("nan"))
    values, fits = column, True
    if hasattr(column, "value_lengths"):
        values = column.flatten()
        fits = set(column.value_lengths().unique().to_pylist()) <= {width}
    if column.null_count or values.null_count or not fits or len(values) != len(column) * width:
        raise InputError(f"{path}: '{name}' is not {width} number(s) per row", HINT)
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "fiu":
        raise InputError(f"{path}: '{name}' is {column.type}, expected numbers", HINT)
    return numbers.reshape(-1, width)


def _pictures(
    path: Path, batches: Iterator[pa.RecordBatch], column: str, rows: np.ndarray, group_start: int
) -> Iterator[tuple[int, bytes | None]]:
    """The given rows of one row group, counted from its start."""
    start = 0
    for batch in batches:
        cells = batch.column(batch.schema.get_field_index(column))
        first, last = np.searchsorted(rows, (start, start + batch.num_rows))
        for row in rows[first:last].tolist():
            yield group_start + row, _picture(f"{path} row {group_start + row}: '{column}'", cells[row - start].as_py())
        start += batch.num_rows


def _picture(where: str, cell: object) -> bytes | None:
    """The encoded image in a cell: `{"bytes", "path"}` as LeRobot writes it, or the bytes themselves."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(cell, dict) and content is None and cell.get("path"):
        raise InputError(f"{where} is only the path of a file, not an image", "write the dataset again with LeRobot")
    if content is not None and not isinstance(content, bytes):
        raise InputError(f"{where} is {type(cell).__name__}, not an image", "store PNG or JPEG, or videos")
    return content
