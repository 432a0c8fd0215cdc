"""`tapeline bars`: bars as a table, CSV, JSON or Parquet."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, BinaryIO

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import typer
from rich.console import Console

from tapeline.cli.options import (
    Detail,
    Interval,
    Keyspace,
    OutputFile,
    SplitFile,
    format_option,
    from_option,
    to_option,
    using,
    write_json,
)
from tapeline.cli.render.table import no_bar_of, print_bars
from tapeline.cli.render.watch import watch_bars
from tapeline.model.errors import UsageError
from tapeline.model.read_interval import ReadInterval
from tapeline.model.sessions import asset_class_of
from tapeline.model.symbols import parse_symbols
from tapeline.model.threshold import Length, Threshold, parse_length
from tapeline.model.times import floor_to, iso, time_span, within_reach
from tapeline.model.venues import AssetClass
from tapeline.program.settings import Settings, load_settings
from tapeline.read.bars import known_symbols, read_bars
from tapeline.read.sources import require_sources


class BarFormat(str, Enum):
    """How bars are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def bars(
    symbols: Annotated[list[str], typer.Argument(help="In the feed's names.")],
    interval: Interval = "5m",
    start: Annotated[datetime | None, from_option("First bar, UTC; today by default.")] = None,
    end: Annotated[datetime | None, to_option("Bars start before this, UTC; now.")] = None,
    keyspace: Keyspace = None,
    output_format: Annotated[BarFormat, format_option("How to write them.")] = BarFormat.TABLE,
    detail: Detail = False,
    session: Annotated[
        str | None,
        typer.Option(help="Only trades of one session: regular, pre, post …", show_default=False),
    ] = None,
    splits: SplitFile = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Where the trades of each bar came from.")
    ] = False,
    output: OutputFile = None,
    watch: Annotated[bool, typer.Option("--watch", help="Draw live candles until Ctrl-C.")] = False,
) -> None:
    """Print or save bars, or watch them live; times are UTC.

    Example: tapeline bars AAPL MSFT --interval 1h --from 2026-11-20 --format csv -o bars.csv

    Example: tapeline bars AAPL --interval 1h --session regular

    Example: tapeline bars AAPL --interval 50000volume --splits splits.csv

    Example: tapeline bars COINBASE:BTC-USD --sources

    Example: tapeline bars AAPL --watch
    """
    symbols = list(parse_symbols(",".join(symbols)))
    length = _length_of(interval, session, splits, watch=watch, sources=sources)
    _check_output(output, output_format, watch=watch)
    settings = load_settings().with_target(keyspace=keyspace)
    if watch and isinstance(length, ReadInterval):
        watch_bars(symbols, length, *time_span(start, end), settings)
        return
    first, last = _span(start, end)
    using(settings)
    table = read_bars(
        symbols,
        interval,
        first,
        last,
        detail=detail,
        session=session,
        splits=splits,
        sources=sources,
        settings=settings,
    )
    lacking = set(symbols).difference(table["symbol"].unique().to_pylist())
    if lacking:
        _require_known(symbols, lacking, settings)
    if table.num_rows == 0:
        none = f"No bar starts from {iso(first)} to {iso(last)}: see --from and --to."
        typer.echo(f"{none}{_likely_reason(symbols, length)}", err=True)
    if output_format is BarFormat.TABLE and output is None:
        print_bars(table, Console(markup=False), detail=detail)
    elif output is None:
        _write(table, output_format, sys.stdout.buffer, detail=detail)
    else:
        with output.open("wb") as file:
            _write(table, output_format, file, detail=detail)


def _length_of(
    interval: str, session: str | None, splits: Path | None, *, watch: bool, sources: bool
) -> Length:
    """Return what bars are asked for, and refuse what cannot be shown."""
    length = parse_length(interval)
    if watch and session is not None:
        message = "--watch shows every session: leave out --session."
        raise UsageError(message)
    if watch and splits is not None:
        message = "--watch shows bars as they are traded: leave out --splits."
        raise UsageError(message)
    if watch and isinstance(length, Threshold):
        message = f"--watch draws bars of a length of time: give one such as 5m, not {interval}."
        raise UsageError(message)
    if watch and sources:
        message = "--watch shows no sources: leave out --sources."
        raise UsageError(message)
    try:
        length = length if session is None else length.of_session(session)
        if sources:
            require_sources(length)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return length


def _check_output(output: Path | None, output_format: BarFormat, *, watch: bool) -> None:
    """Refuse what would write something else than its name says, or nothing."""
    if watch and (output is not None or output_format is not BarFormat.TABLE):
        message = "--watch draws on the terminal: leave out --format and --output."
        raise UsageError(message)
    if output_format is BarFormat.PARQUET and output is None and sys.stdout.isatty():
        message = "Parquet is binary: add -o FILE."
        raise UsageError(message)
    named = output.suffix.removeprefix(".").lower() if output else ""
    others = {form.value for form in BarFormat} - {output_format.value}
    if named in others:
        message = f"{output} would hold a {output_format.value}: add --format {named}."
        raise UsageError(message)


def _span(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    now = datetime.now(timezone.utc)
    first = within_reach(start) if start else floor_to(timedelta(days=1), now)
    last = within_reach(end) if end else now
    if last <= first:
        hint = "give --from" if start is None else "see --from and --to"
        message = f"The bars would end ({iso(last)}) before any could start ({iso(first)}): {hint}."
        raise UsageError(message)
    return first, last


def _likely_reason(symbols: Iterable[str], length: Length) -> str:
    """Say which trades such bars leave out, if any."""
    is_day = isinstance(length, ReadInterval) and length.is_day
    if is_day and any(asset_class_of(symbol) is AssetClass.EQUITY for symbol in symbols):
        return (
            f" A {length.name} bar of a share starts when its exchange opens and holds regular "
            "hours only; shorter bars hold the other hours too."
        )
    if length.session is not None:
        name = length.session.value
        return f" With --session {name} only trades of that session count: leave it out for all."
    return ""


def _require_known(symbols: list[str], lacking: set[str], settings: Settings) -> None:
    """Tell wrong names from a time without bars: refuse nothing but them, else name them."""
    known = known_symbols(settings=settings)
    unknown = [symbol for symbol in symbols if symbol in lacking - known]
    if not unknown:
        return
    text = no_bar_of(unknown, known, settings.cassandra.keyspace)
    if len(unknown) == len(symbols):
        raise UsageError(text)
    typer.echo(text, err=True)


def _write(table: pa.Table, output_format: BarFormat, file: BinaryIO, *, detail: bool) -> None:
    if output_format is BarFormat.PARQUET:
        pq.write_table(table, file)
        return
    text = _with_iso_times(table)
    if output_format is BarFormat.CSV:
        options = pacsv.WriteOptions(quoting_header="none", quoting_style="needed")
        pacsv.write_csv(text, file, options)
    elif output_format is BarFormat.JSON:
        write_json(text.to_pylist(), file)
    else:
        lines = io.TextIOWrapper(file, encoding="utf-8")
        print_bars(table, Console(file=lines, markup=False), detail=detail)
        lines.detach()


def _with_iso_times(table: pa.Table) -> pa.Table:
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            texts = [None if t is None else iso(t) for t in table[field.name].to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table
