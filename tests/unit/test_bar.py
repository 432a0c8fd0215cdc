"""The bar and its intervals."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from tapeline.model.bar import Interval
from tests.sample import START, a_bar

BAR = a_bar()


@pytest.mark.parametrize(("text", "minutes"), [("1m", 1), ("5m", 5), ("1h", 60)])
def test_an_interval_is_named_by_its_length(text, minutes):
    assert Interval(text).duration == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["", "2m", "5M", "1d", "60m"])
def test_there_are_no_other_intervals(text):
    with pytest.raises(ValueError, match="not a valid Interval"):
        Interval(text)


@pytest.mark.parametrize(
    ("start", "month", "year"),
    [
        (START, date(2026, 11, 1), date(2026, 1, 1)),
        (datetime(2024, 2, 29, 23, 55, tzinfo=timezone.utc), date(2024, 2, 1), date(2024, 1, 1)),
        (datetime(2024, 12, 31, 23, 0, tzinfo=timezone.utc), date(2024, 12, 1), date(2024, 1, 1)),
        (datetime(2025, 1, 1, tzinfo=timezone.utc), date(2025, 1, 1), date(2025, 1, 1)),
    ],
)
def test_five_minute_bars_are_kept_by_month_and_hours_by_year(start, month, year):
    assert Interval.FIVE_MINUTES.period_of(start) == month
    assert Interval.ONE_HOUR.period_of(start) == year


def test_a_bar_is_provisional_until_told_otherwise():
    assert (BAR.is_final, BAR.revision) == (False, 0)


def test_a_bar_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        BAR.close = 9.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [
        {"open": 1.1},
        {"high": None},
        {"low": 0.4},
        {"close": 2.1},
        {"volume": Decimal("10.6")},
        {"notional": Decimal("21.1")},
        {"vwap": None},
        {"trade_count": 5},
        {"unpriced_count": 2},
        {"unpriced_volume": Decimal("0.6")},
        {"first_trade_time": START + timedelta(seconds=1)},
        {"last_trade_time": None},
        {"session": "post"},
        {"policy": "sip"},
    ],
)
def test_bars_that_differ_in_a_value_of_the_trades_differ(change):
    assert not BAR.same_values(replace(BAR, **change))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"is_final": True},
        {"revision": 3},
        {"volume": Decimal("10.5000000000")},
        {"notional": Decimal(21)},
    ],
)
def test_state_and_trailing_zeros_make_no_difference(change):
    assert BAR.same_values(replace(BAR, **change))
