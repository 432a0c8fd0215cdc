"""What the client reads and writes, and how rows become bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

from tapeline.model.bar import Bar, Interval, WindowKey

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
class WindowState:
    """A window of one symbol that got trades from a bucket of one Kafka partition."""

    topic_id: str
    kafka_partition: int
    bucket: int
    window_start: datetime
    symbol: str
    affected_offset: int
    finalized_offset: int = -1
    hour_finalized_offset: int = -1
    first_received_at: datetime | None = None
    """When the first trade of a finalized window came in."""

    @property
    def is_open(self) -> bool:
        """Whether its bar or its hour lacks trades."""
        return self.affected_offset > min(self.finalized_offset, self.hour_finalized_offset)


StatesOfWindows = Mapping[WindowKey, Sequence[WindowState]]
"""The states of some windows: one for each bucket of offsets that their trades came from."""


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """How far one Kafka partition is committed to silver.

    `read_offset` is the newest of the last batch: below `committed_offset` while the topic is
    read again, None where nobody has said.
    """

    kafka_partition: int
    committed_offset: int
    newest_event_time: datetime | None
    newest_received_at: datetime | None
    finalized_bucket: int = 0
    read_offset: int | None = None

    @property
    def read_bucket(self) -> int:
        """The bucket of window_state that the last batch ended in."""
        read = self.committed_offset if self.read_offset is None else self.read_offset
        return max(0, min(read, self.committed_offset)) // WINDOW_BUCKET_OFFSETS


@dataclass(frozen=True, slots=True)
class StoredBar:
    """A bar with the write time (µs) of its row."""

    bar: Bar
    write_time_us: int


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
