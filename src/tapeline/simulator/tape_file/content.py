"""From bytes to columns: a file is what it holds, whatever it is called.

CSV with commas, semicolons or tabs, plain or packed by gzip or zstd, with a line of names or
without; or Parquet.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tapeline.model.errors import TapeError

_PARQUET: Final = b"PAR1"
_PACKED: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_UNREADABLE: Final = {
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"DBN": "DBN: write it as CSV",
}
_DELIMITERS: Final = (",", ";", "\t")
_NUMBER: Final = re.compile(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*")
_PART_BYTES: Final = 1 << 20
_LONGEST_LINE: Final = 1 << 20


class Content(Protocol):
    """A file that has been recognised: its columns, and its rows when they are asked for."""

    kind: str
    """What it is, for people."""
    names: tuple[str, ...]
    """Its columns in their order, without blanks around them; numbers from 1 if it names none."""
    first_values: tuple[str, ...] | None
    """Its first row, where that stands in place of the names."""
    first_row: int
    """The number of the first row of values, for people."""

    def read(self, types: Mapping[int, pa.DataType]) -> list[pa.ChunkedArray]:
        """Return the columns of some positions, in the types where the file itself has none.

        Raises:
            pyarrow.ArrowException, OSError, csv.Error: it cannot be read.
            TapeError: a value goes on over the end of its line.
        """
        ...


def open_content(path: Path, known: Sequence[frozenset[str]] = ()) -> Content:
    """Recognise a file by its first bytes.

    Args:
        path: where it is.
        known: sets of names, of which one tells the separator and that the first line is names.

    Raises:
        TapeError: it is of a known kind that is not read, or its separator is not clear.
        pyarrow.ArrowException, OSError, csv.Error: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(4)
    for magic, what in _UNREADABLE.items():
        if start.startswith(magic):
            message = f"{path} is no tape: it is {what}."
            raise TapeError(message)
    if start == _PARQUET:
        return _Parquet(path)
    packed = next((codec for magic, codec in _PACKED.items() if start.startswith(magic)), None)
    return _Csv(path, packed, known)


class _Parquet:
    kind = "Parquet"
    first_values: tuple[str, ...] | None = None
    first_row = 1

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self._raw: list[str] = self._file.schema_arrow.names
        self.names = tuple(name.strip() for name in self._raw)

    def read(self, types: Mapping[int, pa.DataType]) -> list[pa.ChunkedArray]:
        """Return columns in the file's own types."""
        raw = [self._raw[i] for i in types]
        table = self._file.read(columns=raw).select(raw)
        table.validate(full=True)  # text that is no UTF-8
        return list(table.columns)


class _Csv:
    def __init__(self, path: Path, packed: str | None, known: Sequence[frozenset[str]]) -> None:
        self._path = path
        self._packed = packed
        line = self._first_line()
        self._parsing = pacsv.ParseOptions(delimiter=_delimiter_of(line, known, path))
        self._raw = _cells(line, self._parsing.delimiter)
        self.kind = "CSV" + (f", {packed}" if packed else "")
        if self._parsing.delimiter != ",":
            self.kind += ", tabs" if self._parsing.delimiter == "\t" else ", semicolons"
        has_names = _are_names([cell.strip() for cell in self._raw], known)
        self.first_row = 2 if has_names else 1  # blank lines are no rows
        self.first_values = None if has_names else tuple(cell.strip() for cell in self._raw)
        if not has_names:
            self._raw = [str(number) for number in range(1, len(self._raw) + 1)]
        self.names = tuple(name.strip() for name in self._raw)

    def read(self, types: Mapping[int, pa.DataType]) -> list[pa.ChunkedArray]:
        """Return columns in these types; an empty value is null."""
        raw = {self._raw[i]: kind for i, kind in types.items()}
        converting = pacsv.ConvertOptions(
            column_types=raw,
            include_columns=list(raw),
            null_values=[""],  # NA is a symbol
            strings_can_be_null=True,
        )
        try:
            table = self._read(converting, use_threads=True)
        except pa.ArrowInvalid:
            table = self._read(converting, use_threads=False)  # which tells the row
        self._require_a_line_each(table.num_rows)
        return list(table.columns)

    def _read(self, converting: pacsv.ConvertOptions, *, use_threads: bool) -> pa.Table:
        reading = pacsv.ReadOptions(use_threads=use_threads)
        if self.first_values is not None:
            reading.column_names = self._raw
        with self._open() as file:
            return pacsv.read_csv(file, reading, self._parsing, converting)

    def _open(self) -> pa.NativeFile:
        return pa.input_stream(self._path, compression=self._packed)

    def _first_line(self) -> str:
        with self._open() as file, _text(file) as text:
            while line := text.readline(_LONGEST_LINE):
                if line.strip("\r\n"):
                    return line.removeprefix("\ufeff")
        return ""

    def _require_a_line_each(self, rows: int) -> None:
        """Refuse a quote without an end, which makes the rows after it part of a value."""
        with self._open() as file:
            if not any(b'"' in part for part in iter(lambda: file.read(_PART_BYTES), b"")):
                return
        if self._lines() == rows + self.first_row - 1:
            return
        last = 0
        with self._open() as file, _text(file) as text:
            lines = csv.reader(text, delimiter=self._parsing.delimiter)
            for _ in lines:
                if lines.line_num != last + 1:
                    where = f"{self._path}: a quoted value of line {last + 1}"
                    message = f"{where} goes on over the next one."
                    raise TapeError(message)
                last = lines.line_num

    def _lines(self) -> int | None:
        """Return how many lines there are that are not blank; None if that is not easily told."""
        whole = pacsv.ParseOptions(delimiter="\x01", quote_char=False)
        reading = pacsv.ReadOptions(column_names=["line"])
        converting = pacsv.ConvertOptions(check_utf8=False, column_types={"line": pa.binary()})
        try:
            with self._open() as file, pacsv.open_csv(file, reading, whole, converting) as lines:
                return sum(int(batch.num_rows) for batch in lines)
        except pa.ArrowInvalid:
            return None


def _text(file: pa.NativeFile) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _are_names(cells: Sequence[str], known: Sequence[frozenset[str]]) -> bool:
    """Return whether a first line names columns: it has no number, or names that are known."""
    if not any(_NUMBER.fullmatch(cell) for cell in cells):
        return True
    return any(names <= set(cells) for names in known if not any(map(_NUMBER.fullmatch, names)))


def _delimiter_of(line: str, known: Sequence[frozenset[str]], path: Path) -> str:
    """Return what separates the values of the first line, the comma if nothing does.

    Raises:
        TapeError: several may, and no known names tell which.
    """
    rows = {d: [c.strip() for c in _cells(line, d)] for d in _DELIMITERS}
    parting = [d for d, cells in rows.items() if len(cells) > 1]
    if len(parting) <= 1:
        return parting[0] if parting else ","
    named = [d for d in parting if any(names <= set(rows[d]) for names in known)]
    if len(named) == 1:
        return named[0]
    message = (
        f"{path} is no tape: its first line has more than one of comma, semicolon and tab, so what "
        "separates its values is not clear."
    )
    raise TapeError(message)
