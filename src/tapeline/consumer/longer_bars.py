"""Stored bars of longer intervals: minutes make five minutes, and these make hours.

The client does it, not Spark: a bar has twelve parts at most, and a Spark job costs more than
reading them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Final

from tapeline.bar import Bar, Interval, WindowKey
from tapeline.conditions import ConditionPolicy
from tapeline.rollup import combined
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.times import floor_to, to_micros

_PARTS: Final = {
    Interval.FIVE_MINUTES: Interval.ONE_MINUTE,
    Interval.ONE_HOUR: Interval.FIVE_MINUTES,
}
"""What the bars of a longer interval are made of."""


def longer_bars(
    client: CassandraClient,
    interval: Interval,
    keys: Iterable[WindowKey],
    policy: ConditionPolicy,
) -> list[Bar]:
    """Roll up the bars that are stored of the next shorter interval.

    Args:
        client: of the keyspace.
        interval: five minutes (from one) or one hour (from five).
        keys: symbol and start of each bar.
        policy: which the parts were made with.

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
            bars.append(replace(combined(parts, start, end), policy=policy.value))
    return bars


def preview_longer_bars(
    client: CassandraClient,
    first: Interval,
    changed: Collection[WindowKey],
    policy: ConditionPolicy,
) -> None:
    """Write the provisional bars of the longer intervals that hold some changed bars.

    The write time is that of every preview (`layers.preview_rows`).

    Args:
        client: of the keyspace.
        first: the interval of the bars that have changed and are stored.
        changed: symbol and start of each of them.
        policy: which they were made with.
    """
    now = datetime.now(timezone.utc)
    for interval, shorter in _PARTS.items():
        if shorter.duration < first.duration:
            continue
        windows = {(symbol, floor_to(interval.duration, start)) for symbol, start in changed}
        client.write_bars(
            interval,
            [
                (replace(bar, updated_at=now), to_micros(bar.window_start) + bar.trade_count)
                for bar in longer_bars(client, interval, windows, policy)
            ],
        )
