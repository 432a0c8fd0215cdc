"""`bar_changes`: which final bars were written when, for live readers.

A final bar may be revised days after its window, so nobody could find it by looking at windows.
Whoever writes final bars therefore logs them first, in `bar_changes`, by the time of writing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from tapeline.model.bar import Bar, Interval
from tapeline.model.times import as_utc
from tapeline.storage.bars import BarTables

CHANGES_KEPT: Final = timedelta(days=3)
"""How long the log of changes lives, as `keyspace.cql` says."""

_HOUR: Final = timedelta(hours=1)
_SKEW: Final = timedelta(minutes=1)
"""How far the clocks of writers may be ahead of a reader's."""


@dataclass(frozen=True, slots=True)
class BarChange:
    """A final bar that was written at `logged_at`, or is about to be."""

    logged_at: datetime
    interval: Interval
    symbol: str
    window_start: datetime
    updated_at: datetime | None


class ChangeTable(BarTables):
    """Writes final bars and the log of them, and reads the log."""

    def write_final_bars(self, interval: Interval, bars: Sequence[tuple[Bar, int]]) -> None:
        """Log which bars change, then write them, each with its write time in µs.

        A crash between the two leaves a logged change that was not made: its reader waits a while
        for it, and the bar is logged again when it is made. None is written without being logged.
        """
        now = datetime.now(timezone.utc)
        self.write(
            "INSERT INTO {keyspace}.bar_changes "
            "(bucket, logged_at, bar_interval, symbol, window_start, updated_at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                (_bucket(now), now, interval.value, bar.symbol, bar.window_start, bar.updated_at)
                for bar, _ in bars
            ),
        )
        self.write_bars(interval, bars)

    def changes(self, since: datetime, now: datetime) -> Iterator[BarChange]:
        """Yield what was logged at `since` or later, oldest first."""
        query = "SELECT * FROM {keyspace}.bar_changes WHERE bucket = ? AND logged_at >= ?"
        bucket = _bucket(since)
        while bucket <= now + _SKEW:
            for row in self.rows(query, (bucket, since)):
                yield BarChange(
                    as_utc(row.logged_at),
                    Interval(row.bar_interval),
                    row.symbol,
                    as_utc(row.window_start),
                    row.updated_at and as_utc(row.updated_at),
                )
            bucket += _HOUR


def _bucket(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)
