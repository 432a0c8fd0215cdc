"""Write the days that are asked for: which there are, and which need to be written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from rich.progress import Progress

from tapeline.export.content import (
    Content,
    ExportOptions,
    Kind,
    content_of,
    midnight,
    trades_of_day,
)
from tapeline.export.files import PART_SUFFIX, path_in_export, read_file, write_file
from tapeline.export.kept_bars import with_kept
from tapeline.export.record import Record
from tapeline.model.bar import Interval
from tapeline.model.errors import ExpiredError
from tapeline.storage.cassandra_client import CassandraClient

_DAY: Final = timedelta(days=1)
_EPOCH_DAY: Final = date(1970, 1, 1)
_DAY_MS: Final = 86_400_000
_WINDOW_MS: Final = Interval.FIVE_MINUTES.ms
_TIME: Final = "event_time"


@dataclass(slots=True)
class ExportResult:
    """How many files and rows were written, and how many files left as they were.

    `open_days` counts written files whose day is not finalized; `fragments` are files of trades, or
    of bars that are made of them, that silver has begun to lose, and files of bars that gold has.
    For a Delta table, a file is a day of all its symbols, `fragments` are days of a symbol that
    gold has begun to lose, and `version` is its newest.
    """

    files: int = 0
    rows: int = 0
    kept: int = 0
    open_days: int = 0
    fragments: list[str] = field(default_factory=list)
    version: int | None = None

    def wrote(self, rows: int, *, is_open: bool) -> None:
        """Note a file with so many rows; `is_open` says that its day is not finalized."""
        self.files += 1
        self.rows += rows
        self.open_days += is_open


def run_export(
    client: CassandraClient, folder: Path, options: ExportOptions, progress: Progress
) -> ExportResult:
    """Write every file that is missing, or of a day that is not finalized or was revised.

    Raises:
        UsageError: the folder holds something else.
    """
    record = Record(folder, options.lasting(client.keyspace), options.splits)
    for part in folder.glob(f"date=*/.*{PART_SUFFIX}"):
        part.unlink()
    now = datetime.now(timezone.utc)
    days = sorted(stored_days(client, options, now.date()))
    task = progress.add_task(options.kind.value, total=len(days))
    outcome = ExportResult()
    for day, symbol in days:
        progress.update(task, description=f"{day} {symbol}")
        path = path_in_export(day, symbol, options.file_format)
        try:
            content = content_of(client, options, symbol, day, now)
        except ExpiredError:
            # What was written while silver had the trades stays as it is.
            written = _trades_written(folder, path, options, record)
            outcome.kept += written > 0
            if written < trades_of_day(client, symbol, day):
                outcome.fragments.append(path)
            progress.advance(task)
            continue
        if not options.overwrite and record.holds(path, content.state):
            outcome.kept += 1
        else:
            write = _write_trades if options.kind is Kind.TRADES else _write_bars
            write(folder, path, content, options, record, outcome)
        progress.advance(task)
    return outcome


def _trades_written(folder: Path, path: str, options: ExportOptions, record: Record) -> int:
    """Return of how many trades the bars are that a file has; 0 when there is none."""
    if not record.rows_of(path):
        return 0
    schema = pa.schema([("trade_count", pa.int64())])
    counts = read_file(folder / path, schema, options.file_format)["trade_count"]
    return int(pc.sum(counts).as_py())


def _write_bars(
    folder: Path,
    path: str,
    content: Content,
    options: ExportOptions,
    record: Record,
    outcome: ExportResult,
) -> None:
    """Write the bars of a day, and those of an earlier run that gold has begun to lose."""
    before = content.schema.empty_table()
    if record.rows_of(path):
        before = read_file(folder / path, content.schema, options.file_format)
    now = pa.Table.from_batches(content.batches, content.schema)
    bars, is_fragment = with_kept(before, now, content, options.interval)
    if is_fragment:
        outcome.fragments.append(path)
    if not bars.num_rows:
        return
    if bars.equals(before) and not options.overwrite:
        outcome.kept += 1
        return
    rows = write_file(folder / path, content.schema, bars.to_batches(), options.file_format)
    record.add(path, rows, content.state)
    outcome.wrote(rows, is_open=content.is_open)


def _write_trades(
    folder: Path,
    path: str,
    content: Content,
    options: ExportOptions,
    record: Record,
    outcome: ExportResult,
) -> None:
    """Write the trades of a day; what has expired since must not take a whole file's place."""
    before, found = Counter[int](), Counter[int]()
    if content.is_over and record.rows_of(path):
        column = pa.schema([content.schema.field(_TIME)])
        before = _trades_of_windows(read_file(folder / path, column, options.file_format)[_TIME])

    def counted() -> Iterator[pa.RecordBatch]:
        for batch in content.batches:
            found.update(_trades_of_windows(batch[_TIME]))
            yield batch

    rows = write_file(
        folder / path,
        content.schema,
        counted(),
        options.file_format,
        is_enough=lambda: before <= found,
    )
    if not before | Counter(content.expected) <= found:
        outcome.fragments.append(path)
    if not before <= found:
        outcome.kept += 1
    elif rows:
        record.add(path, rows, content.state)
        outcome.wrote(rows, is_open=content.is_open)


def _trades_of_windows(times: pa.ChunkedArray | pa.Array) -> Counter[int]:
    """Return how many event times lie in each window of five minutes, by its start in ms."""
    windows = pc.divide(times.cast(pa.int64()), _WINDOW_MS)
    counts = pc.value_counts(windows).to_pylist()
    return Counter({found["values"] * _WINDOW_MS: found["counts"] for found in counts})


def stored_days(
    client: CassandraClient, options: ExportOptions, today: date
) -> set[tuple[date, str]]:
    """Return the (day, symbol) that may have something to write, by the keys of the tables."""
    found: Iterator[tuple[str, date]]
    if options.kind is Kind.TRADES:
        found = ((symbol, day_of(start_ms)) for symbol, start_ms in client.silver_windows())
    else:
        found = _days_of_periods(client, options.interval.stored, today)
    return {(day, symbol) for symbol, day in found if options.wants(symbol, day)}


def day_of(window_start_ms: int) -> date:
    """Return the UTC day of a window."""
    return _EPOCH_DAY + timedelta(days=window_start_ms // _DAY_MS)


def _days_of_periods(
    client: CassandraClient, stored: Interval, today: date
) -> Iterator[tuple[str, date]]:
    """Yield each day of the months or years of which gold has something, up to today's."""
    for symbol, period in client.gold_periods(stored):
        day = period
        while day <= today and stored.period_of(midnight(day)) == period:
            yield symbol, day
            day += _DAY
