"""What the client reads and writes, and how rows become bars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

from tapeline.bar import Bar, Interval

BUCKET_OFFSETS: Final = 100_000
"""Kafka offsets in one partition of bronze and quarantine."""

WINDOW_BUCKET_OFFSETS: Final = 20_000
"""Kafka offsets whose windows share one partition of window_state."""

GOLD_TABLES: Final = {
    Interval.ONE_MINUTE: "trades_gold_1m",
    Interval.FIVE_MINUTES: "trades_gold_5m",
    Interval.ONE_HOUR: "trades_gold_1h",
}
"""The table of each interval."""

BAR_FIELDS: Final = tuple(f.name for f in fields(Bar))
"""The columns of gold that make a bar, in the order of its fields."""


@dataclass(frozen=True, slots=True)
class WindowState:
    """A window of one symbol that got trades from a bucket of one Kafka partition."""

    topic_id: str
    kafka_partition: int
    bucket: int
    window_start: datetime
    symbol: str
    dirty_offset: int
    settled_offset: int = -1
    hour_settled_offset: int = -1
    first_received_at: datetime | None = None
    """When the first trade of a settled window came in."""

    @property
    def is_open(self) -> bool:
        """Whether its bar or its hour lacks trades."""
        return self.dirty_offset > min(self.settled_offset, self.hour_settled_offset)


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """How far one Kafka partition is committed to silver."""

    kafka_partition: int
    committed_offset: int
    newest_event_time: datetime | None
    newest_received_at: datetime | None
    settled_bucket: int = 0


@dataclass(frozen=True, slots=True)
class StoredBar:
    """A bar with the write time (µs) of its row."""

    bar: Bar
    write_time_us: int


def bar_of(row: Any) -> Bar:
    """Return the bar in a row of gold; the driver's naive times are UTC."""
    values = {name: getattr(row, name) for name in BAR_FIELDS}
    for name, value in values.items():
        if isinstance(value, datetime):
            values[name] = value.replace(tzinfo=timezone.utc)
    values["is_final"] = bool(values["is_final"])
    for name in ("revision", "unpriced_count"):
        values[name] = values[name] or 0
    values["unpriced_volume"] = values["unpriced_volume"] or Decimal(0)
    return Bar(**values)


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
