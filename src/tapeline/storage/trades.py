"""`trades_silver`: the valid trades, each once; times are ms since the Unix epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import tee
from typing import Any, Final

from tapeline.model.bar import Interval, WindowKey
from tapeline.model.times import EPOCH, as_utc, to_millis
from tapeline.storage.connection import SMALL_AHEAD, Connection

Window = tuple[str, int]
"""A symbol and the start of its five minutes."""
Rows = list[tuple[Any, ...]]
"""Trades as (event_time, trade_id, price, volume, conditions, sequence, received_at, source)."""

LOWEST_ID: Final = -(2**63)

_SELECT: Final = (
    "SELECT to_unix_timestamp(event_time), trade_id, price, volume, conditions, sequence, "
    "to_unix_timestamp(received_at), source "
    "FROM {keyspace}.trades_silver WHERE symbol = ? AND bucket = ?"
)
_MS: Final = timedelta(milliseconds=1)
_WINDOW_MS: Final = Interval.FIVE_MINUTES.ms
_WINDOWS_AHEAD: Final = 16
_MOST_ASKED: Final = 10_000
"""Windows of a symbol, about five weeks, up to which each is asked for, stored or not."""


class TradeTable(Connection):
    """Reads silver; Spark writes it."""

    def silver_windows(self) -> Iterator[Window]:
        """Yield each window that has trades, in no order."""
        # A function of a key's column may not stand beside DISTINCT.
        for row in self.rows("SELECT DISTINCT symbol, bucket FROM {keyspace}.trades_silver"):
            yield row.symbol, to_millis(as_utc(row.bucket))

    def silver(self, windows: Iterable[Window]) -> Iterator[tuple[Window, Rows]]:
        """Yield each window with its trades, by time and id."""
        for window, rows in self.silver_in_pages(windows):
            yield window, list(rows)

    def silver_in_pages(
        self, windows: Iterable[Window]
    ) -> Iterator[tuple[Window, Iterable[tuple[Any, ...]]]]:
        """Yield each window with its trades, by time and id, which are read as they are taken."""
        named, asked = tee(windows)
        yield from zip(named, self.tuples(_SELECT, asked, _WINDOWS_AHEAD), strict=True)

    def trades_between(
        self,
        symbol: str,
        start: datetime,
        end: datetime,
        lowest_id: int = LOWEST_ID,
        limit: int | None = None,
    ) -> Iterator[Rows]:
        """Yield the trades of a symbol with start <= event_time < end, window by window.

        Args:
            symbol: in the feed's name.
            start: aware.
            end: aware.
            lowest_id: of the trades of the first millisecond.
            limit: the most trades of one window; then no window is asked for ahead of its turn.
        """
        first_ms, stop_ms = _millis_from(start), _millis_from(end)
        query = f"{_SELECT} AND (event_time, trade_id) >= (?, ?) AND (event_time) < (?)"
        rest: tuple[int, ...] = (first_ms, lowest_id, stop_ms)
        if limit is not None:
            query, rest = f"{query} LIMIT ?", (*rest, limit)
        windows = self._starts(symbol, first_ms, stop_ms)
        asked = ((symbol, window_ms, *rest) for window_ms in windows)
        yield from map(list, self.tuples(query, asked, 0 if limit else _WINDOWS_AHEAD))

    def count_silver(self, windows: Iterable[WindowKey]) -> int:
        """Count the trades of the given (symbol, window_start)."""
        query = "SELECT count(*) FROM {keyspace}.trades_silver WHERE symbol = ? AND bucket = ?"
        return sum(n for rows in self.tuples(query, windows, SMALL_AHEAD) for (n,) in rows)

    def are_in_silver(self, trades: Iterable[tuple[str, int, int]]) -> list[bool]:
        """Return of each (symbol, event_time, trade_id) whether silver has it."""
        query = (
            "SELECT trade_id FROM {keyspace}.trades_silver "
            "WHERE symbol = ? AND bucket = ? AND event_time = ? AND trade_id = ?"
        )
        asked = ((symbol, ms - ms % _WINDOW_MS, ms, trade_id) for symbol, ms, trade_id in trades)
        return [any(rows) for rows in self.tuples(query, asked, SMALL_AHEAD)]

    def _starts(self, symbol: str, first_ms: int, stop_ms: int) -> Sequence[int]:
        """Return the windows to read; for a long time only those that silver has."""
        starts = range(first_ms - first_ms % _WINDOW_MS, stop_ms, _WINDOW_MS)
        if len(starts) <= _MOST_ASKED:
            return starts
        stored = (start for name, start in self.silver_windows() if name == symbol)
        return sorted(start for start in stored if starts[0] <= start < stop_ms)


def _millis_from(time: datetime) -> int:
    """Return the first whole ms since the epoch that is not before a time."""
    return -((EPOCH - time) // _MS)
