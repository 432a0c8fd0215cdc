"""Sessions by hand-worked cases; the days are those that the exchange has published."""

from __future__ import annotations

import warnings
from datetime import date, datetime, timedelta, timezone

import pytest
from exchange_calendars import get_calendar
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.consumer.eligibility import asset_class, session_at
from tapeline.model.sessions import asset_class_of, half_days, holidays, regular_hours
from tapeline.model.sessions import session_at as session_of

CASES = [
    # An ordinary Friday in winter: New York is five hours behind UTC.
    ("AAPL", "2026-11-20T08:59:59", "closed"),
    ("AAPL", "2026-11-20T09:00:00", "pre"),
    ("AAPL", "2026-11-20T14:29:59", "pre"),
    ("AAPL", "2026-11-20T14:30:00", "regular"),
    ("AAPL", "2026-11-20T20:59:59", "regular"),
    ("AAPL", "2026-11-20T21:00:00", "post"),
    ("AAPL", "2026-11-21T00:59:59", "post"),
    ("AAPL", "2026-11-21T01:00:00", "closed"),
    # Clocks went forward on Sunday 2026-03-08: on Friday 14:30 UTC opens, on Monday 13:30.
    ("AAPL", "2026-03-06T14:00:00", "pre"),
    ("AAPL", "2026-03-09T13:30:00", "regular"),
    ("AAPL", "2026-03-09T20:00:00", "post"),
    # They went back on Sunday 2026-11-01.
    ("AAPL", "2026-10-30T13:30:00", "regular"),
    ("AAPL", "2026-11-02T13:30:00", "pre"),
    ("AAPL", "2026-11-02T14:30:00", "regular"),
    # Thanksgiving 2026 is 26 November; the day after closes at 13:00 in New York, 18:00 UTC.
    ("AAPL", "2026-11-26T15:00:00", "closed"),
    ("AAPL", "2026-11-27T17:59:59", "regular"),
    ("AAPL", "2026-11-27T18:00:00", "post"),
    ("AAPL", "2026-11-27T10:00:00", "pre"),
    # Good Friday 2026, no federal holiday but one of the exchange.
    ("AAPL", "2026-04-03T15:00:00", "closed"),
    # A Saturday.
    ("AAPL", "2026-11-21T15:00:00", "closed"),
    # No sessions for what trades around the clock.
    ("BINANCE:BTCUSDT", "2026-11-21T15:00:00", "continuous"),
    ("OANDA:EUR_USD", "2026-11-26T15:00:00", "continuous"),
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(("symbol", "text", "session"), CASES)
def test_a_session_by_hand(symbol, text, session):
    assert session_of(symbol, utc(text)).value == session


def test_spark_finds_the_same_sessions(spark: SparkSession):
    rows = [(symbol, utc(text), session) for symbol, text, session in CASES]
    found = (
        spark.createDataFrame(rows, "symbol string, instant timestamp, expected string")
        .withColumn("session", session_at("instant"))
        .where(F.col("session") != F.col("expected"))
        .collect()
    )
    assert found == []


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("AAPL", "equity"),
        ("BRK.B", "equity"),
        ("BINANCE:BTCUSDT", "crypto"),
        ("COINBASE:ETH-USD", "crypto"),
        ("OANDA:EUR_USD", "fx"),
        ("IC MARKETS:1", "fx"),
    ],
)
def test_the_venue_tells_the_asset_class(spark: SparkSession, symbol, name):
    (row,) = spark.createDataFrame([(symbol,)], "symbol string").select(asset_class()).collect()
    assert asset_class_of(symbol).value == row[0] == name


@pytest.mark.parametrize(
    "day",
    [
        date(2001, 9, 11),  # closed after the attacks
        date(2012, 10, 29),  # Hurricane Sandy
        date(2025, 1, 9),  # mourning for President Carter
        date(2022, 6, 20),  # Juneteenth, the first time
        date(2026, 7, 3),  # Independence Day, which is a Saturday
    ],
)
def test_days_on_which_the_exchange_was_closed(day):
    assert day in holidays()


def test_the_days_are_those_of_exchange_calendars():
    first, last = date(2000, 1, 1), date(2049, 12, 31)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of what pandas will change under it
        calendar = get_calendar("XNYS", start=first.isoformat(), end=last.isoformat())
    is_open = {day.date() for day in calendar.sessions}
    weekdays = {
        day
        for day in (first + timedelta(days=n) for n in range((last - first).days + 1))
        if day.weekday() < 5
    }

    update = "run: python scripts/make_exchange_days.py"
    assert holidays() == weekdays - is_open, update
    assert half_days() == {day.date() for day in calendar.early_closes}, update


@pytest.mark.parametrize("day", [date(2013, 7, 3), date(2024, 12, 24), date(2026, 11, 27)])
def test_half_days_end_at_13(day):
    start, end = regular_hours(day)
    assert day in half_days()
    assert end - start == timedelta(hours=3, minutes=30)


def test_an_ordinary_day_in_summer_is_open_from_1330_to_2000_utc():
    assert regular_hours(date(2026, 7, 6)) == (
        utc("2026-07-06T13:30:00"),
        utc("2026-07-06T20:00:00"),
    )
