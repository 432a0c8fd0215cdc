"""Where the trades of a bar came from, as silver has them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from tapeline.model.bar import Bar
from tapeline.model.threshold import Length, Threshold
from tapeline.storage.cassandra_client import CassandraClient


def require_sources(length: Length) -> None:
    """Check that a bar of a length has all the trades between its start and its end.

    Raises:
        ValueError: it may have some of them only.
    """
    if isinstance(length, Threshold) or length.session is not None or length.is_day:
        message = "The sources of a bar are told of lengths below a day, of all sessions: 5m, 1h …"
        raise ValueError(message)


def sources_of(client: CassandraClient, bar: Bar, now: datetime) -> str | None:
    """Return where a bar's trades came from, and how many: `coinbase=70 coinbase:backfill=2`.

    None where silver has begun to lose the trades. One that came twice counts once, as fetched if
    it was. All trades of the window are read, so many bars take a while.

    Args:
        client: of the keyspace.
        bar: of a length that `require_sources` takes.
        now: the clock.
    """
    lifetime = client.lifetimes()["trades_silver"]
    received_at = bar.first_received_at
    if lifetime and (received_at is None or received_at + lifetime <= now):
        return None
    pages = client.trades_between(bar.symbol, bar.window_start, bar.window_end)
    count = Counter(row[-1] for rows in pages for row in rows)
    return " ".join(f"{source}={number}" for source, number in sorted(count.items()))
