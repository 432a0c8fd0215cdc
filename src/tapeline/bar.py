"""The bar: what is stored in gold, and what a reader gets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum


class Interval(str, Enum):
    """The stored intervals."""

    FIVE_MINUTES = "5m"
    ONE_HOUR = "1h"

    @property
    def duration(self) -> timedelta:
        """The length of one bar."""
        return timedelta(hours=1) if self is Interval.ONE_HOUR else timedelta(minutes=5)

    def period_of(self, window_start: datetime) -> date:
        """Return the day that names the Cassandra partition of a bar: month (5m) or year (1h)."""
        first = window_start.date().replace(day=1)
        return first.replace(month=1) if self is Interval.ONE_HOUR else first


@dataclass(frozen=True, slots=True)
class Bar:
    """One OHLCV bar over [window_start, window_end), times in UTC.

    Prices are None when no trade of the window could set them. `volume` and `notional`
    (price times volume) are exact; `vwap` is their ratio, None when the volume is 0.
    A bar is provisional until `is_final`; `revision` is 0 before, and 1 when first final.
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
    is_final: bool = False
    revision: int = 0

    def same_values(self, other: Bar) -> bool:
        """Tell whether two bars of one window agree in everything that trades determine."""
        return self._values() == other._values()

    def _values(self) -> tuple[object, ...]:
        return (
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.notional,
            self.vwap,
            self.trade_count,
        )
