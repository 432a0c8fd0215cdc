"""Which longer window a bar belongs to, what it brings to it, and when that may lack trades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from tapeline.model.bar import Bar
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rules import PLAIN, PRICES, VOLUME, ReadingRules
from tapeline.model.sessions import Session, asset_class_of, trading_day, whole_day
from tapeline.model.times import floor_to
from tapeline.model.venues import AssetClass

_NOTHING: Final = Decimal(0)
Span = tuple[datetime, datetime]
Counting = Callable[[Session], bool]
"""Returns whether trades of a session count."""


def window_of(bar: Bar, interval: ReadInterval, reading: ReadingRules = PLAIN) -> Span | None:
    """Return the longer window that a bar belongs to, None if it belongs to none."""
    if not _is_of_exchange_day(bar, interval):
        start = floor_to(interval.duration, bar.window_start)
        return start, start + interval.duration
    if reading.all_day and (whole := whole_of(bar, interval)) is not None:
        return trading_day(bar.symbol, whole[1] - timedelta.resolution)
    day = trading_day(bar.symbol, bar.window_start)
    is_regular = bar.session == Session.REGULAR.value
    # Rows of an earlier version may know other hours.
    is_in = day is not None and day[0] <= bar.window_start < day[1]
    return day if is_regular and is_in else None


def part_of(
    bar: Bar, interval: ReadInterval, reading: ReadingRules = PLAIN
) -> tuple[Span, Bar] | None:
    """Return the longer window that a bar belongs to, if any, and what the bar brings to it."""
    window = window_of(bar, interval, reading)
    if window is None:
        return None
    is_regular = bar.session == Session.REGULAR.value
    if is_regular or not _is_of_exchange_day(bar, interval):
        return window, bar
    if not reading.all_day & PRICES:
        bar = replace(
            bar,
            open=None,
            high=None,
            low=None,
            close=None,
            unpriced_count=bar.trade_count,
            unpriced_volume=bar.volume,
        )
    if not reading.all_day & VOLUME:
        bar = replace(bar, volume=_NOTHING, notional=_NOTHING, unpriced_volume=_NOTHING)
    return window, bar


def _is_of_exchange_day(bar: Bar, interval: ReadInterval) -> bool:
    """Return whether a bar is part of an exchange's day, and not of a UTC day or of less."""
    is_share = asset_class_of(bar.symbol) is AssetClass.EQUITY
    # Where the hours of an exchange are not known, its day is the UTC day like anybody's.
    return interval.is_day and is_share and bar.session != Session.UNKNOWN.value


def whole_of(bar: Bar, interval: ReadInterval) -> Span | None:
    """Return all of the exchange's day that a bar counts to, unless one session alone is wanted."""
    if interval.session is not None or not _is_of_exchange_day(bar, interval):
        return None
    return whole_day(bar.symbol, bar.window_start)


def trades_until(bar: Bar, interval: ReadInterval, reading: ReadingRules) -> datetime:
    """Return up to when trades can count to a longer bar."""
    whole = whole_of(bar, interval) if reading.all_day else None
    return bar.window_end if whole is None else whole[1]


def counting(bar: Bar, interval: ReadInterval, *, is_whole: bool) -> Counting | None:
    """Return whether trades of a session can be lacking in a bar; None is of any.

    Those of one session, if only that one is wanted or the bar is an exchange's day. The weekend
    and the pauses of currencies do not count, nor the nights of an exchange's day of all trades;
    else shares trade around regular hours too.
    """
    is_day = _is_of_exchange_day(bar, interval)
    wanted = interval.session
    if wanted is None and is_day and not is_whole:
        wanted = Session.REGULAR
    if wanted is not None:
        return lambda session: session is wanted
    if is_day or asset_class_of(bar.symbol) is AssetClass.FX:
        return lambda session: session is not Session.CLOSED
    return None
