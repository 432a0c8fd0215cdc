"""Two days of a share in a few five-minute bars, as their trades alone give them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Final

from tapeline.model.bar import Bar

from .sample import a_bar

THURSDAY: Final = datetime(2026, 11, 19, tzinfo=timezone.utc)
FRIDAY: Final = THURSDAY + timedelta(days=1)


def _bar(
    start: datetime,
    session: str,
    volume: int,
    prices: tuple[float | None, float | None, float | None, float | None],
) -> Bar:
    names = ("open", "high", "low", "close")
    return a_bar(
        window_start=start,
        session=session,
        volume=Decimal(volume),
        notional=Decimal(volume * 100),
        vwap=100.0,
        **dict(zip(names, prices, strict=True)),
    )


# 14:30 UTC is 09:30 in New York. Four trades each, of which one, of 0.5, could set no price.
BARS: Final = [
    _bar(THURSDAY.replace(hour=20, minute=55), "regular", 10, (100.0, 102.0, 99.0, 101.0)),
    _bar(THURSDAY.replace(hour=22), "post", 5, (103.0, 104.0, 103.0, 104.0)),
    _bar(FRIDAY.replace(hour=14), "pre", 2, (105.0, 105.0, 105.0, 105.0)),
    _bar(FRIDAY.replace(hour=14, minute=30), "regular", 20, (106.0, 107.0, 105.5, 106.5)),
    _bar(FRIDAY.replace(hour=14, minute=35), "regular", 3, (None, None, None, None)),
    _bar(FRIDAY.replace(hour=14, minute=40), "regular", 7, (108.0, 109.0, 108.0, 108.5)),
    # Saturday by UTC, 19:30 on Friday in New York.
    _bar(FRIDAY + timedelta(hours=24, minutes=30), "post", 4, (110.0, 110.0, 110.0, 110.0)),
]


def prices_of(bar: Bar) -> tuple[float | None, ...]:
    """Return open, high, low and close."""
    return bar.open, bar.high, bar.low, bar.close
