"""Which first final bars lie where longer bars were final without them.

A longer bar is not stored: its revision is one and what its parts have more than one
(`rollup.py`). So a part that comes into one that was final is a second revision at once, or the
longer bar would change and keep its revision.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.times import floor_to
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.topics import TopicStanding

_DAY: Final = timedelta(days=1)
"""The longest bar; every shorter one lies within such a day too."""


def counted_empty(
    client: CassandraClient, topic: TopicStanding | None, interval: Interval, bars: Sequence[Bar]
) -> set[WindowKey]:
    """Return which of a topic's first final bars are a second revision.

    Their windows counted as ones without trades: either the topic itself had passed them, or all
    others had before it began to move, and the symbol had a final bar on that day by then.
    """
    if topic is None:
        return set()
    own = topic.final_until
    passed = {_key(bar) for bar in bars if own is not None and bar.window_end <= own}
    left = [bar for bar in bars if _key(bar) not in passed]
    if topic.final_before is None or topic.moves_since is None:
        return passed
    return passed | joined_late(client, interval, left, topic.final_before, topic.moves_since)


def joined_late(
    client: CassandraClient, interval: Interval, bars: Sequence[Bar], until: datetime, at: datetime
) -> set[WindowKey]:
    """Return which first final bars join a day of which there was a final bar at a time.

    Args:
        client: of the keyspace.
        interval: of the bars.
        bars: all first final ones of a chunk.
        until: up to when longer bars were final at that time.
        at: the time.
    """
    days = {
        _key(b): (b.symbol, floor_to(_DAY, b.window_start)) for b in bars if b.window_end <= until
    }
    ranges = [(symbol, day, day + _DAY) for symbol, day in sorted(set(days.values()))]
    had_final = {
        (symbol, day)
        for (symbol, day, _), stored in zip(
            ranges, client.bars_of_ranges(interval, ranges), strict=True
        )
        # When a revised bar was first final is not known; one revision too many does no harm.
        if any(b.is_final and (b.revision > 1 or _is_older(b, at)) for b in stored)
    }
    return {key for key, day in days.items() if day in had_final}


def _is_older(bar: Bar, at: datetime) -> bool:
    return bar.updated_at is not None and bar.updated_at < at


def _key(bar: Bar) -> WindowKey:
    return bar.symbol, bar.window_start
