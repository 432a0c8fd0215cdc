"""The files of an export: their names, and how one is written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from enum import Enum
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

_ISO: Final = "%Y-%m-%dT%H:%M:%SZ"
_HIDDEN: Final = {".": "%2E", "_": "%5F"}
"""Readers of such folders pass over names that begin so."""
_LONGEST_NAME: Final = 200
_KEPT: Final = 100
PART_SUFFIX: Final = ".part"
"""Ends the name of a file that is not written to its end."""


class ExportFormat(str, Enum):
    """How an export is written: as files, whose names end so, or as one Delta table."""

    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"
    DELTA = "delta"


def path_in_export(day: date, symbol: str, file_format: ExportFormat) -> str:
    """Return where the file of a symbol's day is, below the folder of the export.

    What is not a capital letter, a digit or one of `-._~` is written as in a URL, e.g.
    `BINANCE%3ABTCUSDT`, so any symbol is a file of its own, also where capitals and small
    letters are the same. A name that is too long for a file is cut, and ends with its hash.
    """
    name = "".join(f"%{ord(c):X}" if c in ascii_lowercase else quote(c, safe="") for c in symbol)
    name = _HIDDEN.get(name[:1], name[:1]) + name[1:]
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_KEPT]}~{hashlib.sha256(symbol.encode()).hexdigest()}"
    return f"date={day:%Y-%m-%d}/{name}.{file_format.value}"


def write_file(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    file_format: ExportFormat,
    is_enough: Callable[[], bool] = lambda: True,
) -> int:
    """Write a file from batches, one after the other, and return the number of rows.

    It appears under its name when it is whole and on the disk, in place of an earlier one.
    Nothing appears without a row, or where `is_enough`, which is asked at the end, says no. A kill
    leaves at most a hidden file of suffix `.part`.
    """
    rows = 0
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}{PART_SUFFIX}")
    try:
        with part.open("wb") as file:
            with _writer(file, schema, file_format) as write:
                for batch in _joined(first, batches):
                    write(pa.Table.from_batches([batch], schema))
                    rows += batch.num_rows
            file.flush()
            os.fsync(file.fileno())
        if is_enough():
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return rows


def read_file(path: Path, schema: pa.Schema, file_format: ExportFormat) -> pa.Table:
    """Return these columns of a file that `write_file` wrote; lists only of what is no CSV."""
    if file_format is ExportFormat.PARQUET:
        return pq.ParquetFile(path).read(schema.names).cast(schema)
    if file_format is ExportFormat.ARROW:
        with pa.OSFile(str(path)) as file:
            return pa.ipc.open_file(file).read_all().select(schema.names).cast(schema)
    options = pacsv.ConvertOptions(
        column_types={field.name: field.type for field in schema},
        include_columns=schema.names,
        null_values=[""],  # and not NA, which is a symbol
        strings_can_be_null=True,
    )
    return pacsv.read_csv(path, convert_options=options).cast(schema)


def _joined(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


@contextmanager
def _writer(file: Any, schema: pa.Schema, file_format: ExportFormat) -> Iterator[Any]:
    """Yield what appends a table to an open file."""
    if file_format is ExportFormat.PARQUET:
        with pq.ParquetWriter(file, schema, compression="zstd") as parquet:
            yield parquet.write_table
    elif file_format is ExportFormat.ARROW:
        with pa.ipc.new_file(file, schema) as arrow:
            yield arrow.write_table
    else:
        options = pacsv.WriteOptions(quoting_header="none", quoting_style="needed")
        header = _as_text(schema.empty_table())
        with pacsv.CSVWriter(file, header.schema, write_options=options) as text:
            yield lambda table: text.write_table(_as_text(table))


def _as_text(table: pa.Table) -> pa.Table:
    """Return times as ISO 8601 with milliseconds, and lists joined by `|`, as tapes have them."""
    for index, field in enumerate(table.schema):
        column = table[field.name]
        if pa.types.is_timestamp(field.type):
            table = table.set_column(index, field.name, pc.strftime(column, _ISO))
        elif pa.types.is_list(field.type):
            table = table.set_column(index, field.name, pc.binary_join(column, "|"))
    return table
