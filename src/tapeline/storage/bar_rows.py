"""Rows of gold, and how they become bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

from tapeline.model.bar import Bar, Interval

GOLD_TABLES: Final = {
    Interval.ONE_MINUTE: "trades_gold_1m",
    Interval.FIVE_MINUTES: "trades_gold_5m",
    Interval.ONE_HOUR: "trades_gold_1h",
}
"""The table of each interval."""

BAR_FIELDS: Final = tuple(f.name for f in fields(Bar))
"""The columns of gold that make a bar, in the order of its fields."""


_TIMES: Final = tuple(
    BAR_FIELDS.index(name)
    for name in (
        *("window_start", "window_end", "first_trade_time", "last_trade_time"),
        *("first_received_at", "updated_at"),
    )
)
_ABSENT: Final = tuple(
    (BAR_FIELDS.index(name), absent)
    for name, absent in (
        ("is_final", False),
        ("revision", 0),
        ("unpriced_count", 0),
        ("unpriced_volume", Decimal(0)),
    )
)
"""What a null of an earlier version or of a preview means."""


@dataclass(frozen=True, slots=True)
class StoredBar:
    """A bar with the write time (µs) of its row."""

    bar: Bar
    write_time_us: int


@dataclass(frozen=True, slots=True)
class StoredStart:
    """A stored bar, without its values."""

    symbol: str
    window_start: datetime
    is_final: bool
    policy: str | None


def bar_of(row: Sequence[Any]) -> Bar:
    """Return the bar in a row of gold that begins with `BAR_FIELDS`; the driver's times are UTC."""
    values = list(row[: len(BAR_FIELDS)])
    for place in _TIMES:
        if values[place] is not None:
            values[place] = values[place].replace(tzinfo=timezone.utc)
    for place, absent in _ABSENT:
        if values[place] is None:
            values[place] = absent
    return Bar(*values)


def periods(interval: Interval, start: datetime, end: datetime) -> Iterator[date]:
    """Yield the partitions of gold that hold bars with start <= window_start < end."""
    last = interval.period_of(end - timedelta(microseconds=1))
    period = interval.period_of(start)
    while period <= last:
        yield period
        # 32 or 366 days later is always in the next month or year.
        step = timedelta(days=366 if interval is Interval.ONE_HOUR else 32)
        midnight = datetime(period.year, period.month, 1, tzinfo=timezone.utc)
        period = interval.period_of(midnight + step)
