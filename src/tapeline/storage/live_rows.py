"""What live readers ask of Cassandra: the newest bars of many symbols, and which bars changed.

A final bar may be revised days after its window, so nobody could find it by looking at windows.
Whoever writes final bars therefore logs them first, in `bar_changes`, by the time of writing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Final

from tapeline.model.bar import Bar, Interval
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.rows import BAR_FIELDS, GOLD_TABLES, bar_of, periods

CHANGES_KEPT: Final = timedelta(days=3)
"""How long the log of changes lives, as `keyspace.cql` says."""

_HOUR: Final = timedelta(hours=1)
_SKEW: Final = timedelta(minutes=1)
"""How far the clocks of writers may be ahead of a reader's."""
_PARTITIONS_A_QUERY: Final = 25


@dataclass(frozen=True, slots=True)
class BarChange:
    """A final bar that was written at `logged_at`, or is about to be."""

    logged_at: datetime
    interval: Interval
    symbol: str
    window_start: datetime
    updated_at: datetime | None


def write_final_bars(
    client: CassandraClient, interval: Interval, bars: Sequence[tuple[Bar, int]]
) -> None:
    """Log which bars change, then write them, each with its write time in µs.

    A crash between the two leaves a logged change that was not made: its reader waits a while
    for it, and the bar is logged again when it is made. None is written without being logged.
    """
    now = datetime.now(timezone.utc)
    client.write(
        "INSERT INTO {keyspace}.bar_changes "
        "(bucket, logged_at, bar_interval, symbol, window_start, updated_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            (_bucket(now), now, interval.value, bar.symbol, bar.window_start, bar.updated_at)
            for bar, _ in bars
        ),
    )
    client.write_bars(interval, bars)


def read_changes(client: CassandraClient, since: datetime, now: datetime) -> Iterator[BarChange]:
    """Yield what was logged at `since` or later, oldest first."""
    query = "SELECT * FROM {keyspace}.bar_changes WHERE bucket = ? AND logged_at >= ?"
    bucket = _bucket(since)
    while bucket <= now + _SKEW:
        for row in client.rows(query, (bucket, since)):
            yield BarChange(
                row.logged_at.replace(tzinfo=timezone.utc),
                Interval(row.bar_interval),
                row.symbol,
                row.window_start.replace(tzinfo=timezone.utc),
                row.updated_at and row.updated_at.replace(tzinfo=timezone.utc),
            )
        bucket += _HOUR


def bars_of_symbols(
    client: CassandraClient,
    symbols: Iterable[str],
    interval: Interval,
    start: datetime,
    end: datetime,
) -> Iterator[Bar]:
    """Yield the bars of many symbols with start <= window_start < end, in few queries."""
    query = (
        f"SELECT {', '.join(BAR_FIELDS)} FROM {{keyspace}}.{GOLD_TABLES[interval]} "
        "WHERE symbol IN ? AND period IN ? AND window_start >= ? AND window_start < ?"
    )
    months = list(periods(interval, start, end))
    names = iter(sorted(symbols))
    while some := list(islice(names, max(1, _PARTITIONS_A_QUERY // len(months)))):
        for row in client.rows(query, (some, months, start, end)):
            yield bar_of(row)


def _bucket(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)
