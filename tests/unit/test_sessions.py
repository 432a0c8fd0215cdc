"""Sessions by hand-worked cases; the days are those that the exchanges have published."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from itertools import chain
from zoneinfo import ZoneInfo

import exchange_calendars
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.consumer.eligibility import is_regular
from tapeline.model.exchange_hours import exchange
from tapeline.model.sessions import (
    Session,
    asset_class_of,
    session_at,
    sessions_between,
    set_overnight,
    trading_day,
    whole_day,
)
from tapeline.model.venues import AMERICAN, venue_of

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
    # Thanksgiving 2026 is 26 November; the day after closes at 13:00 in New York, 18:00 UTC, and
    # its late session at 17:00, 22:00 UTC.
    ("AAPL", "2026-11-26T15:00:00", "closed"),
    ("AAPL", "2026-11-27T17:59:59", "regular"),
    ("AAPL", "2026-11-27T18:00:00", "post"),
    ("AAPL", "2026-11-27T10:00:00", "pre"),
    ("AAPL", "2026-11-27T21:59:59", "post"),
    ("AAPL", "2026-11-27T22:00:00", "closed"),
    ("AAPL", "2026-11-27T23:30:00", "closed"),
    # Good Friday 2026, no federal holiday but one of the exchange.
    ("AAPL", "2026-04-03T15:00:00", "closed"),
    # A Saturday.
    ("AAPL", "2026-11-21T15:00:00", "closed"),
    # London on a Tuesday in winter time, 08:00 to 16:30 UTC; New York is four hours behind.
    ("VOD.L", "2026-03-10T07:59:59", "closed"),
    ("VOD.L", "2026-03-10T12:00:00", "regular"),
    ("VOD.L", "2026-03-10T16:29:59", "regular"),
    ("VOD.L", "2026-03-10T16:30:00", "closed"),
    # In summer time an hour earlier by UTC; Easter Monday; Christmas Eve until 12:30.
    ("VOD.L", "2026-07-07T07:00:00", "regular"),
    ("VOD.L", "2026-04-06T12:00:00", "closed"),
    ("VOD.L", "2026-12-24T12:29:59", "regular"),
    ("VOD.L", "2026-12-24T12:30:00", "closed"),
    # Tokyo is nine hours ahead: 09:00 to 11:30 and 12:30 to 15:30, to 15:00 until 2024-11-04.
    ("7203.T", "2026-03-10T00:00:00", "regular"),
    ("7203.T", "2026-03-10T02:29:59", "regular"),
    ("7203.T", "2026-03-10T02:30:00", "closed"),
    ("7203.T", "2026-03-10T03:30:00", "regular"),
    ("7203.T", "2026-03-10T06:29:59", "regular"),
    ("7203.T", "2026-03-10T06:30:00", "closed"),
    ("7203.T", "2024-11-01T05:59:59", "regular"),
    ("7203.T", "2024-11-01T06:00:00", "closed"),
    ("7203.T", "2024-11-05T06:00:00", "regular"),
    # Shanghai and Shenzhen are eight hours ahead: 09:30 to 11:30 and 13:00 to 15:00.
    ("600519.SS", "2026-03-10T01:29:59", "closed"),
    ("600519.SS", "2026-03-10T01:30:00", "regular"),
    ("600519.SS", "2026-03-10T03:30:00", "closed"),
    ("600519.SS", "2026-03-10T05:00:00", "regular"),
    ("600519.SS", "2026-03-10T07:00:00", "closed"),
    ("000001.SZ", "2026-03-10T05:00:00", "regular"),
    # The spring festival of 2026 begins on 17 February; 2027 has not been decided.
    ("600519.SS", "2026-02-17T02:00:00", "closed"),
    ("600519.SS", "2026-12-31T02:00:00", "regular"),
    ("600519.SS", "2027-01-04T02:00:00", "unknown"),
    # Hong Kong: 09:30 to 12:00 and 13:00 to 16:00.
    ("0700.HK", "2026-03-10T03:59:59", "regular"),
    ("0700.HK", "2026-03-10T04:00:00", "closed"),
    ("0700.HK", "2026-03-10T07:59:59", "regular"),
    # Frankfurt's Xetra and Paris, 09:00 to 17:30, an hour ahead of UTC.
    ("SAP.DE", "2026-03-10T08:00:00", "regular"),
    ("SAP.DE", "2026-03-10T16:30:00", "closed"),
    ("MC.PA", "2026-03-10T16:29:59", "regular"),
    ("MC.PA", "2026-05-01T10:00:00", "closed"),
    # Toronto as New York, but on Canada Day.
    ("RY.TO", "2026-03-10T13:30:00", "regular"),
    ("RY.TO", "2026-07-01T15:00:00", "closed"),
    ("AAPL", "2026-07-01T15:00:00", "regular"),
    # No sessions for what trades around the clock.
    ("BINANCE:BTCUSDT", "2026-11-21T15:00:00", "continuous"),
    # Currencies rest from Friday 17:00 to Sunday 17:00 New York time, 22:00 UTC in winter.
    ("OANDA:EUR_USD", "2026-11-26T15:00:00", "continuous"),
    ("OANDA:EUR_USD", "2026-11-20T21:59:59", "continuous"),
    ("OANDA:EUR_USD", "2026-11-20T22:00:00", "closed"),
    ("FHFX:EUR-USD", "2026-11-22T21:59:59", "closed"),
    ("FXPRO:1", "2026-11-22T22:00:00", "continuous"),
    ("OANDA:EUR_USD", "2026-07-12T21:00:00", "continuous"),
    # Metals pause for an hour each day, and begin the week after it.
    ("OANDA:XAU_USD", "2026-11-24T21:59:59", "continuous"),
    ("OANDA:XAU_USD", "2026-11-24T22:00:00", "closed"),
    ("OANDA:XAU_USD", "2026-11-24T23:00:00", "continuous"),
    ("OANDA:XAU_USD", "2026-11-20T23:00:00", "closed"),
    ("FXCM:XAG/USD", "2026-11-22T22:30:00", "closed"),
    ("FXCM:XAG/USD", "2026-11-22T23:00:00", "continuous"),
    # A venue that is not known has no hours, by day or by night.
    ("SOMEWHERE:1", "2026-11-20T15:00:00", "unknown"),
    ("ABC.QQ", "2026-11-20T15:00:00", "unknown"),
    ("ABC.QQ", "2026-11-21T15:00:00", "unknown"),
    # Nothing is known before 2000 and after 2049.
    ("AAPL", "2050-01-03T15:00:00", "unknown"),
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def new_york(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York"))


@pytest.mark.parametrize(("symbol", "text", "session"), CASES)
def test_a_session_by_hand(symbol, text, session):
    assert session_at(symbol, utc(text)).value == session


@pytest.mark.parametrize(
    ("symbol", "name", "hours"),
    [
        ("AAPL", "equity", "XNYS"),
        ("BRK.B", "equity", "XNYS"),
        ("BF.A", "equity", "XNYS"),
        ("XYZ.U", "equity", "XNYS"),
        ("XYZ.WS", "equity", "XNYS"),
        ("XYZ.WS.A", "equity", "XNYS"),
        ("JPM.PRL", "equity", "XNYS"),
        ("JPM.PR.L", "equity", "XNYS"),
        ("NASDAQ:AAPL", "equity", "XNYS"),
        ("NYSE:BRK.B", "equity", "XNYS"),
        ("AMEX:SPY", "equity", "XNYS"),
        ("ARCA:SPY", "equity", "XNYS"),
        ("VOD.L", "equity", "XLON"),
        ("LSE:VOD", "equity", "XLON"),
        ("BT.A.L", "equity", "XLON"),
        ("RCI.B.TO", "equity", "XTSE"),
        ("7203.T", "equity", "XTKS"),
        ("600519.SS", "equity", "XSHG"),
        ("000001.SZ", "equity", "XSHG"),
        ("0700.HK", "equity", "XHKG"),
        ("SAP.DE", "equity", "XETR"),
        ("MC.PA", "equity", "XPAR"),
        ("BINANCE:BTCUSDT", "crypto", "always"),
        ("Binance:BTCUSDT", "crypto", "always"),
        ("COINBASE:ETH-USD", "crypto", "always"),
        ("KUCOIN:BTC-USDT", "crypto", "always"),
        ("OKX:BTC-USDT", "crypto", "always"),
        ("OANDA:EUR_USD", "fx", "currencies"),
        ("IC MARKETS:1", "fx", "currencies"),
        ("FHFX:EUR-USD", "fx", "currencies"),
        ("FXPRO:1", "fx", "currencies"),
        ("PEPPERSTONE:1", "fx", "currencies"),
        ("OANDA:XAU_USD", "fx", "metals"),
        ("FXCM:XAG/USD", "fx", "metals"),
        ("SOMEWHERE:BTCUSDT", "unknown", "unknown"),
        ("BHP.AX", "unknown", "unknown"),
        ("ABC.", "unknown", "unknown"),
    ],
)
def test_the_name_tells_the_venue(symbol, name, hours):
    assert asset_class_of(symbol).value == name
    assert venue_of(symbol).hours == hours


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
def test_days_on_which_new_york_was_closed(day):
    assert exchange(AMERICAN).hours_on(day) == ()


@pytest.mark.parametrize("day", [date(2013, 7, 3), date(2024, 12, 24), date(2026, 11, 27)])
def test_half_days_end_at_13(day):
    start, end = trading_day("AAPL", datetime.combine(day, time(17), timezone.utc))
    assert end - start == timedelta(hours=3, minutes=30)


def test_an_ordinary_day_in_summer_is_open_from_1330_to_2000_utc():
    found = trading_day("AAPL", utc("2026-07-06T15:00:00"))
    assert found == (utc("2026-07-06T13:30:00"), utc("2026-07-06T20:00:00"))


def test_a_day_in_tokyo_lasts_over_noon():
    found = trading_day("7203.T", utc("2026-03-10T02:45:00"))
    assert found == (utc("2026-03-10T00:00:00"), utc("2026-03-10T06:30:00"))


@pytest.mark.parametrize("symbol", ["BINANCE:BTCUSDT", "OANDA:EUR_USD", "SOMEWHERE:1", "ABC.QQ"])
def test_what_trades_at_no_exchange_that_is_known_has_no_trading_day(symbol):
    assert trading_day(symbol, utc("2026-07-06T15:00:00")) is None


def test_the_sessions_of_a_day_follow_one_another():
    """The half day after Thanksgiving, in UTC: five hours ahead of New York."""
    found = list(sessions_between("AAPL", utc("2026-11-27T00:00:00"), utc("2026-11-28T00:00:00")))
    assert [(f"{start:%H:%M}", session.value) for start, _, session in found] == [
        ("00:00", "closed"),
        ("09:00", "pre"),
        ("14:30", "regular"),
        ("18:00", "post"),
        ("22:00", "closed"),
    ]
    assert [end for _, end, _ in found][:-1] == [start for start, _, _ in found][1:]
    assert found[-1][1] == utc("2026-11-28T00:00:00")


@pytest.fixture
def overnight(request: pytest.FixtureRequest) -> Iterator[None]:
    set_overnight(request.param)
    yield
    set_overnight(None)


@pytest.mark.parametrize("overnight", [time(20)], indirect=True)
@pytest.mark.parametrize(
    ("text", "session"),
    [
        ("2026-11-22T19:59:59", "closed"),  # Sunday
        ("2026-11-22T20:00:00", "overnight"),
        ("2026-11-23T03:59:59", "overnight"),
        ("2026-11-23T04:00:00", "pre"),
        ("2026-11-23T19:59:59", "post"),
        ("2026-11-23T20:00:00", "overnight"),
        # No night before Thanksgiving and none in its morning; the half day's begins on its eve.
        ("2026-11-25T21:00:00", "closed"),
        ("2026-11-26T02:00:00", "closed"),
        ("2026-11-26T21:00:00", "overnight"),
        ("2026-11-27T02:00:00", "overnight"),
        ("2026-11-27T18:30:00", "closed"),
        ("2026-11-27T21:00:00", "closed"),  # Friday
        ("2026-11-28T02:00:00", "closed"),
    ],
)
@pytest.mark.usefixtures("overnight")
def test_a_night_belongs_to_the_next_trading_day(text, session):
    assert session_at("AAPL", new_york(text)).value == session


@pytest.mark.parametrize("overnight", [time(21)], indirect=True)
@pytest.mark.usefixtures("overnight")
def test_a_night_from_21_begins_after_a_pause():
    assert session_at("AAPL", new_york("2026-11-23T20:30:00")) is Session.CLOSED
    assert session_at("AAPL", new_york("2026-11-23T21:00:00")) is Session.OVERNIGHT
    assert session_at("VOD.L", new_york("2026-11-23T21:00:00")) is Session.CLOSED


CALENDARS = sorted(
    {
        venue_of(f"X.{suffix}").hours
        for suffix in (
            *(
                "A",
                "TO",
                "L",
                "PA",
                "AS",
                "BR",
                "LS",
                "MI",
                "MC",
                "DE",
                "SW",
                "VI",
                "ST",
                "HE",
                "CO",
            ),
            *("OL", "T", "HK", "SS", "SZ"),
        )
    }
)


@pytest.mark.parametrize("name", CALENDARS)
def test_every_day_and_every_boundary_is_that_of_exchange_calendars(name):
    last_year = 2026 if name == "XSHG" else 2049
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of what pandas will change under it
        calendar = exchange_calendars.get_calendar(
            name, start="2000-01-01", end=f"{last_year}-12-31"
        )
    expected = {day.date(): () for day in pd.date_range("2000-01-01", f"{last_year}-12-31")}
    for session, row in calendar.schedule.iterrows():
        points = [row["open"], row["break_start"], row["break_end"], row["close"]]
        clocks = [p.tz_convert(calendar.tz).time() for p in points if not pd.isna(p)]
        expected[session.date()] = tuple(zip(clocks[::2], clocks[1::2], strict=True))
    found = exchange(name)

    update = "run: python scripts/make_exchange_days.py"
    assert found.zone == calendar.tz
    assert {day: found.hours_on(day) for day in expected} == expected, update
    assert found.hours_on(date(1999, 12, 31)) is None
    assert found.hours_on(date(last_year + 1, 1, 4)) is None
    # A trading day lies in one UTC day, as pages of bars take for granted.
    assert (calendar.schedule["open"].dt.date == calendar.schedule["close"].dt.date).all()
    changes = set(chain.from_iterable(chain.from_iterable(expected.values())))
    # A bar of five minutes lies in one session.
    assert {change.minute % 5 for change in changes} == {0}


def test_spark_finds_the_same_regular_hours(spark: SparkSession):
    """Around every turn of the hours of each day of four years, and of each day that differs."""
    days = {day.date() for day in pd.date_range("2023-12-25", "2027-12-31")}
    days |= set(exchange(AMERICAN).exceptions)
    days |= {date(1999, 12, 31), date(2050, 1, 3)}
    clocks = ["00:00", "04:00", "09:29:59", "09:30", "12:59:59", "13:00", "15:59:59", "16:00"]
    instants = [new_york(f"{day}T{clock}") for day in sorted(days) for clock in clocks]
    rows = [(at.astimezone(timezone.utc), session_at("", at) is Session.REGULAR) for at in instants]
    found = (
        spark.createDataFrame(rows, "instant timestamp, expected boolean")
        .where(is_regular("instant") != F.col("expected"))
        .collect()
    )
    assert len(rows) > 15_000
    assert sum(expected for _, expected in rows) > 3_000
    assert found == []


@pytest.mark.parametrize(
    ("symbol", "text", "start", "end"),
    [
        # Thursday, 23:59:59 and 20:00 in New York: one is Thursday's, the other Friday's.
        ("AAPL", "2026-11-20T00:59:59", "2026-11-19T01:00:00", "2026-11-20T01:00:00"),
        ("AAPL", "2026-11-20T01:00:00", "2026-11-20T01:00:00", "2026-11-21T01:00:00"),
        # A weekend, at the beginning of which the clocks change.
        ("AAPL", "2026-10-31T12:00:00", "2026-10-31T00:00:00", "2026-11-03T01:00:00"),
        # Thanksgiving, and the half day after it.
        ("AAPL", "2026-11-26T15:00:00", "2026-11-26T01:00:00", "2026-11-28T01:00:00"),
        # Others have their calendar's days: Tokyo's Saturday counts to Monday.
        ("7203.T", "2026-03-14T03:00:00", "2026-03-13T15:00:00", "2026-03-16T15:00:00"),
        ("VOD.L", "2026-06-10T15:35:00", "2026-06-09T23:00:00", "2026-06-10T23:00:00"),
    ],
)
def test_every_trade_counts_to_one_day_of_its_exchange(symbol, text, start, end):
    assert whole_day(symbol, utc(text)) == (utc(start), utc(end))


@pytest.mark.parametrize("symbol", ["AAPL", "VOD.L", "7203.T", "0700.HK"])
def test_days_of_all_trades_follow_each_other_and_hold_their_regular_hours(symbol):
    at, count = utc("2025-01-06T12:00:00"), 0
    while at < utc("2026-01-05T12:00:00"):
        start, end = whole_day(symbol, at)
        assert start <= at < end
        assert whole_day(symbol, end - timedelta.resolution) == (start, end)
        opening, close = trading_day(symbol, end - timedelta.resolution)
        assert start <= opening < close <= end
        at, count = end, count + 1
    calendar = exchange(venue_of(symbol).hours)
    days = (date(2025, 1, 6) + timedelta(days=n) for n in range(365))
    assert abs(count - sum(bool(calendar.hours_on(day)) for day in days)) <= 1


@pytest.mark.parametrize("symbol", ["BINANCE:BTCUSDT", "OANDA:EUR_USD", "600000.XX"])
def test_what_trades_at_no_exchange_has_no_day_of_all_trades(symbol):
    assert whole_day(symbol, utc("2026-07-06T15:00:00")) is None
