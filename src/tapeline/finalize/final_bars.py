"""What is written over a stored bar: the rules of final bars and their revisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from tapeline.model.bar import Bar
from tapeline.model.times import to_micros
from tapeline.storage.bar_rows import StoredBar

LATE_TRADE: Final = "late_trade"
"""A trade came after the bar was final."""
FEED_GAP: Final = "feed_gap"
"""A gap of the feed in the bar's window became known, or was found to be none."""
POLICY: Final = "policy"
"""The bar was made again under another policy."""
TOPIC_GONE: Final = "topic_gone"
"""The bar became final since its topic no longer exists; what was not read of it is lost."""
CORRECTION: Final = "correction"
"""Silver holds other values of the same trades."""


def reconcile(
    stored: StoredBar | None,
    computed: Bar,
    now: datetime,
    *,
    allow_shrink: bool = False,
    first_revision: int = 1,
) -> tuple[Bar, int] | None:
    """Return the final bar to write with its write time in µs, or None when nothing changes.

    The write time is above that of the row it replaces, whatever clock wrote it, and above
    every preview's. A final bar keeps its trades unless it is allowed to shrink.
    A first final bar may have a reason; where it comes late, its window counted as one without
    trades, so that it is the second revision.
    """
    before = stored.bar if stored is not None and stored.bar.is_final else None
    if before is not None:
        if before.same_values(computed) and before.is_complete == computed.is_complete:
            return None
        if shrinks(stored, computed) and not allow_shrink:
            return None
    final = replace(
        computed,
        first_received_at=first_receipt(before, computed),
        is_final=True,
        revision=first_revision if before is None else before.revision + 1,
        reason=_first_reason(computed, first_revision)
        if before is None
        else _reason(before, computed),
        updated_at=now,
    )
    write_time_us = max(
        to_micros(now), to_micros(computed.window_end), stored.write_time_us + 1 if stored else 0
    )
    return final, write_time_us


def shrinks(stored: StoredBar | None, computed: Bar) -> bool:
    """Return whether a final bar would lose trades.

    Silver only grows, until it expires or rows are lost: what is left is a fragment.
    """
    if stored is None or not stored.bar.is_final:
        return False
    return computed.trade_count < stored.bar.trade_count


def has_expired(stored: StoredBar | None, silver_ttl: timedelta, now: datetime) -> bool:
    """Return whether the trades of a bar have begun to expire from silver."""
    return stored is not None and is_past_lifetime(stored.bar.first_received_at, silver_ttl, now)


def is_past_lifetime(
    first_received_at: datetime | None, silver_ttl: timedelta, now: datetime
) -> bool:
    """Return whether what was received then is no longer in silver.

    Judged by when it was received and not by event time: a tape of long ago that was
    replayed today is whole. A TTL of 0 keeps it forever.
    """
    if first_received_at is None or not silver_ttl:
        return False
    return first_received_at + silver_ttl <= now


def first_receipt(before: Bar | None, computed: Bar) -> datetime | None:
    """Return when the first trade of a bar came in, as far as either of the two knows."""
    times = [computed.first_received_at, before.first_received_at if before else None]
    return min((t for t in times if t is not None), default=None)


def _first_reason(computed: Bar, revision: int) -> str | None:
    return LATE_TRADE if computed.reason is None and revision > 1 else computed.reason


def _reason(before: Bar, computed: Bar) -> str:
    """Say why a final bar is revised."""
    if computed.trade_count > before.trade_count:
        return LATE_TRADE
    if computed.policy != before.policy:
        return POLICY
    return CORRECTION if not before.same_values(computed) else FEED_GAP
