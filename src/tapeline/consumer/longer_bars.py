"""Stored bars of longer intervals: minutes make five minutes, and these make hours.

The client does it, not Spark: a bar has twelve parts at most, and a Spark job costs more than
reading them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Final

from tapeline.consumer.bars_in_memory import BarsInMemory
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.rollup import combined
from tapeline.model.times import floor_to
from tapeline.storage.cassandra_client import CassandraClient

_PARTS: Final = {
    Interval.FIVE_MINUTES: Interval.ONE_MINUTE,
    Interval.ONE_HOUR: Interval.FIVE_MINUTES,
}
"""What the bars of a longer interval are made of."""


def longer_bars(
    client: CassandraClient,
    interval: Interval,
    keys: Iterable[WindowKey],
) -> list[Bar]:
    """Roll up the bars that are stored of the next shorter interval.

    Args:
        client: of the keyspace.
        interval: five minutes (from one) or one hour (from five).
        keys: symbol and start of each bar.

    Returns:
        Provisional bars; none where no part is stored.
    """
    length = interval.duration
    ranges = [(symbol, start, start + length) for symbol, start in keys]
    bars = []
    for (_, start, end), parts in zip(
        ranges, client.bars_of_ranges(_PARTS[interval], ranges), strict=True
    ):
        if parts:
            bars.append(combined(parts, start, end))
    return bars


class LongerBars:
    """The provisional bars of the intervals above the shortest one that is stored.

    Args:
        client: of the keyspace, for parts from before the stream began; None when nothing is
            stored.
        shortest: the interval of the windows.
        windows: the stream's.
    """

    def __init__(
        self, client: CassandraClient | None, shortest: Interval, windows: BarsInMemory
    ) -> None:
        self._client = client
        self._shortest = shortest
        self._windows = windows

    def changed(self, changed: Collection[WindowKey]) -> Iterator[tuple[Interval, list[Bar]]]:
        """Yield the bars of each longer interval that hold changed ones, which are written.

        Args:
            changed: symbol and start of each window.
        """
        for interval in _PARTS:
            if interval.duration > self._shortest.duration:
                length = interval.duration
                keys = {(symbol, floor_to(length, start)) for symbol, start in changed}
                yield interval, self._made(interval, keys)

    def _made(self, interval: Interval, keys: Collection[WindowKey]) -> list[Bar]:
        known = {key for key in keys if self._windows.knows_all_since(key[1])}
        bars = [self._from_memory(interval, *key) for key in known]
        if self._client is not None and len(known) < len(keys):
            bars += longer_bars(self._client, interval, set(keys) - known)
        return bars

    def _from_memory(self, interval: Interval, symbol: str, start: datetime) -> Bar:
        starts = (
            start + n * self._shortest.duration
            for n in range(interval.duration // self._shortest.duration)
        )
        parts = self._windows.bars((symbol, part) for part in starts)
        return combined(parts, start, start + interval.duration)
