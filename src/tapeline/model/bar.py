"""The bar: what is stored in gold, and what a reader gets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Final


class Interval(str, Enum):
    """The stored intervals; one minute only when the setting says so."""

    ONE_MINUTE = "1m"
    FIVE_MINUTES = "5m"
    ONE_HOUR = "1h"

    @property
    def duration(self) -> timedelta:
        """The length of one bar."""
        return _DURATIONS[self]

    @property
    def ms(self) -> int:
        """The same in milliseconds."""
        return self.duration // timedelta(milliseconds=1)

    def period_of(self, window_start: datetime) -> date:
        """Return the day that names the Cassandra partition of a bar: its month; its year (1h)."""
        first = window_start.date().replace(day=1)
        return first.replace(month=1) if self is Interval.ONE_HOUR else first


_DURATIONS: Final = {
    Interval.ONE_MINUTE: timedelta(minutes=1),
    Interval.FIVE_MINUTES: timedelta(minutes=5),
    Interval.ONE_HOUR: timedelta(hours=1),
}


WindowKey = tuple[str, datetime]
"""A symbol and the start of a window."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One OHLCV bar over [window_start, window_end), times in UTC.

    Prices are None when no trade of the window could set them. `volume` and `notional`
    (price times volume) are exact; `vwap` is their ratio, None when the volume is 0.
    `first_received_at` is when the first of its trades came in, by the producer's clock.
    `unpriced_count` and `unpriced_volume` are of the trades that could set no price.
    A bar is provisional until `is_final`; `revision` is 0 before, and 1 when first final.
    `is_complete` is false when the feed had a gap in the window, None while provisional;
    `reason` says why the last revision was made.
    """

    symbol: str
    window_start: datetime
    window_end: datetime
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: Decimal
    notional: Decimal
    vwap: float | None
    trade_count: int
    unpriced_count: int = 0
    unpriced_volume: Decimal = Decimal(0)
    first_trade_time: datetime | None = None
    last_trade_time: datetime | None = None
    first_received_at: datetime | None = None
    session: str | None = None
    asset_class: str | None = None
    policy: str | None = None
    is_final: bool = False
    is_complete: bool | None = None
    revision: int = 0
    reason: str | None = None
    updated_at: datetime | None = None

    def same_values(self, other: Bar) -> bool:
        """Return whether two bars of one window agree in everything that trades determine."""
        return all(getattr(self, name) == getattr(other, name) for name in VALUES)


def state_text(revision: int, *, is_final: bool) -> str:
    """Return how sure a bar is: `provisional`, `final`, or `revision 2` if revised once."""
    if not is_final:
        return "provisional"
    return "final" if revision <= 1 else f"revision {revision}"


VALUES: Final = (
    *("open", "high", "low", "close", "volume", "notional", "vwap", "trade_count"),
    *("unpriced_count", "unpriced_volume", "first_trade_time", "last_trade_time"),
    *("session", "asset_class", "policy"),
)
"""The fields of a bar that its trades and the policy determine."""
