"""`tapeline bars`: bars as a table, CSV, JSON or Parquet."""

from __future__ import annotations

import io
import sys
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from tapeline.bars import known_symbols, read_bars
from tapeline.errors import UsageError
from tapeline.local.discovery import find_endpoints
from tapeline.rollup import ReadInterval
from tapeline.settings import Settings, load_settings
from tapeline.times import TIME_FORMATS, as_utc

_TABLE_WIDTH: Final = 400
_SYMBOLS_NAMED: Final = 10


class Format(str, Enum):
    """How bars are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def check_interval(text: str) -> str:
    """Return a length of bars as it was given.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        ReadInterval.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


def bars(
    symbols: Annotated[list[str], typer.Argument(help="In the feed's names.")],
    interval: Annotated[
        str,
        typer.Option(callback=check_interval, help="Length of a bar: 5m, 15m, 1h, 4h, 1d …"),
    ] = "5m",
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=TIME_FORMATS, help="First bar, UTC; today by default."),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=TIME_FORMATS, help="Bars start before this, UTC; now."),
    ] = None,
    keyspace: Annotated[str | None, typer.Option(help="market_data by default.")] = None,
    output_format: Annotated[
        Format, typer.Option("--format", help="How to write them.")
    ] = Format.TABLE,
    detail: Annotated[bool, typer.Option("--detail", help="All columns of a bar.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write.")] = None,
) -> None:
    """Print or save bars; times are UTC.

    Example: tapeline bars AAPL MSFT --interval 1h --from 2026-11-20 --format csv -o bars.csv
    """
    now = datetime.now(timezone.utc)
    first = as_utc(start) if start else now.replace(hour=0, minute=0, second=0, microsecond=0)
    last = as_utc(end) if end else now
    settings = load_settings()
    typer.echo(f"Using {find_endpoints(settings)}", err=True)
    table = read_bars(
        symbols, interval, first, last, keyspace=keyspace, detail=detail, settings=settings
    )
    if table.num_rows == 0:
        _require_known(symbols, keyspace, settings)
    if output_format is Format.PARQUET and output is None and sys.stdout.isatty():
        message = "Parquet is binary: add -o FILE."
        raise UsageError(message)
    if output_format is Format.TABLE and output is None:
        _print_table(table, Console())
    elif output is None:
        _write(table, output_format, sys.stdout.buffer)
    else:
        with output.open("wb") as file:
            _write(table, output_format, file)


def _require_known(symbols: list[str], keyspace: str | None, settings: Settings) -> None:
    """Tell a wrong name from a time without bars."""
    known = known_symbols(keyspace, settings=settings)
    if known.isdisjoint(symbols):
        some = ", ".join(sorted(known)[:_SYMBOLS_NAMED]) or "none yet"
        message = (
            f"There is no bar of {', '.join(symbols)} in keyspace "
            f"{keyspace or settings.cassandra.keyspace}; it has {some}."
        )
        raise UsageError(message)


def _write(table: pa.Table, output_format: Format, file: BinaryIO) -> None:
    if output_format is Format.PARQUET:
        pq.write_table(table, file)
        return
    text = _with_iso_times(table)
    if output_format is Format.CSV:
        options = pacsv.WriteOptions(quoting_header="none", quoting_style="needed")
        pacsv.write_csv(text, file, options)
    elif output_format is Format.JSON:
        file.write(orjson.dumps(text.to_pylist(), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        lines = io.TextIOWrapper(file, encoding="utf-8")
        _print_table(table, Console(file=lines))
        lines.detach()


def _print_table(table: pa.Table, console: Console) -> None:
    """Print the table whole: a narrow terminal wraps its lines, and no column is cut."""
    console.width = _TABLE_WIDTH
    console.print(_rich_table(table))


def _with_iso_times(table: pa.Table) -> pa.Table:
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            texts = [None if t is None else _iso(t) for t in table[field.name].to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table


def _iso(time: datetime) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{seconds}.{time.microsecond // 1000:03d}Z" if time.microsecond else f"{seconds}Z"


def _rich_table(table: pa.Table) -> Table:
    rich_table = Table()
    for name in table.schema.names:
        is_number = pa.types.is_floating(table.schema.field(name).type) or pa.types.is_integer(
            table.schema.field(name).type
        )
        rich_table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for row in _with_iso_times(table).to_pylist():
        rich_table.add_row(*("" if value is None else f"{value}" for value in row.values()))
    return rich_table
