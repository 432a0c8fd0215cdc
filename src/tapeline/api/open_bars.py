"""Bars as a reader of the API sees them: those of the tables, and the open ones of the live view.

A final bar is always the tables'. Of two provisional ones the one of more trades is newer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from tapeline.model.bar import Bar, Interval
from tapeline.model.rollup import combined
from tapeline.model.times import floor_to
from tapeline.storage.cassandra_client import CassandraClient

Open = Mapping[tuple[Interval, str], Mapping[datetime, Bar]]
"""Provisional bars by stored length and symbol, and by window start."""


class OpenBars:
    """Reads stored bars and lays the open ones over them.

    Args:
        client: of the keyspace.
        bars: the open ones.
    """

    def __init__(self, client: CassandraClient, bars: Open) -> None:
        self._client = client
        self._bars = bars

    def newest_of(self, symbol: str, interval: Interval) -> datetime | None:
        """Return the start of a symbol's newest open bar of a stored length, None without one."""
        base = Interval.FIVE_MINUTES if interval is Interval.ONE_HOUR else interval
        newest = max(self._bars.get((base, symbol), {}), default=None)
        return None if newest is None else floor_to(interval.duration, newest)

    def read(
        self, symbol: str, interval: Interval, start: datetime, end: datetime
    ) -> Iterator[Bar]:
        """Yield the bars of a symbol with start <= window_start < end, in order of time."""
        found = self._open(symbol, interval, start, end)
        for stored in self._client.bars(symbol, interval, start, end):
            for earlier in sorted(s for s in found if s < stored.window_start):
                yield found.pop(earlier)
            bar = found.pop(stored.window_start, None)
            yield stored if bar is None else newer(stored, bar)
        for later in sorted(found):
            yield found[later]

    def _open(
        self, symbol: str, interval: Interval, start: datetime, end: datetime
    ) -> dict[datetime, Bar]:
        if interval is not Interval.ONE_HOUR:
            bars = self._bars.get((interval, symbol), {})
            return {s: bar for s, bar in bars.items() if start <= s < end}
        length = interval.duration
        parts = self._bars.get((Interval.FIVE_MINUTES, symbol), {})
        return {
            hour: combined(
                list(self.read(symbol, Interval.FIVE_MINUTES, hour, hour + length)),
                hour,
                hour + length,
            )
            for hour in {floor_to(length, s) for s in parts}
            if start <= hour < end
        }


def newer(stored: Bar, bar: Bar) -> Bar:
    """Return the stored bar or the open one of the same window, whichever is newer."""
    is_stored_newer = stored.is_final or stored.trade_count > bar.trade_count
    return stored if is_stored_newer else bar
