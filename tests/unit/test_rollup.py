"""Longer bars from stored ones, against windows worked by hand.

14:30  14:35  14:40 | 14:45 …        a quarter of an hour of five-minute bars
 o=1    o=2    o=3  |
 c=2    c=3    c=1  |
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from tapeline.model.bar import Interval
from tapeline.model.gap import Gap, GapKind
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rollup import roll_up_bars
from tests.sample import a_bar

START = datetime(2026, 11, 20, 14, 30, tzinfo=timezone.utc)
FIVE = timedelta(minutes=5)
LATER = START + timedelta(days=2)
FINAL = {"is_final": True, "is_complete": True, "revision": 1}


def bar(number: int, **changes):
    start = changes.pop("window_start", START + number * FIVE)
    times = {"first_trade_time": start, "last_trade_time": start + timedelta(seconds=7)}
    return a_bar(window_start=start, **{**FINAL, **times, **changes})


PARTS = [
    bar(0, open=1.0, high=4.0, low=1.0, close=2.0, volume=Decimal("0.1"), notional=Decimal("0.2")),
    bar(1, open=2.0, high=3.0, low=0.5, close=3.0, volume=Decimal("0.2"), notional=Decimal("0.4")),
    bar(2, open=3.0, high=3.0, low=1.0, close=1.0, volume=Decimal("0.3"), notional=Decimal("0.9")),
]


def rolled(parts, text="15m", final_until=LATER, gaps=()):
    return roll_up_bars(parts, ReadInterval.parse(text), final_until, lambda: gaps)


def gap(first_minute, last_minute, **changes):
    """A gap of the feed in minutes after the start; it lasts where the last one is None."""
    start_us = 1_795_185_000_000_000  # date -d 2026-11-20T14:30Z +%s
    ended_us = None if last_minute is None else start_us + round(last_minute * 60e6)
    started_us = start_us + round(first_minute * 60e6)
    found = Gap("p", "t", "id", GapKind.SILENT, ("AAPL",), started_us, ended_us, started_us)
    return replace(found, **changes)


def test_three_bars_make_a_quarter_of_an_hour():
    (whole,) = rolled(PARTS)

    assert (whole.window_start, whole.window_end) == (START, START + 3 * FIVE)
    assert (whole.open, whole.high, whole.low, whole.close) == (1.0, 4.0, 0.5, 1.0)
    assert (whole.volume, whole.notional) == (Decimal("0.6"), Decimal("1.5"))
    assert whole.vwap == 2.5
    assert (whole.trade_count, whole.unpriced_count) == (12, 3)
    assert whole.unpriced_volume == Decimal("1.5")
    assert (whole.first_trade_time, whole.last_trade_time) == (
        START,
        START + 2 * FIVE + timedelta(seconds=7),
    )
    assert (whole.is_final, whole.is_complete, whole.revision) == (True, True, 1)
    assert whole.session == "regular"


def test_bars_without_prices_give_none_of_their_own():
    nothing = {"open": None, "high": None, "low": None, "close": None}
    (whole,) = rolled([bar(0, **nothing), PARTS[1], bar(2, **nothing)])
    (empty,) = rolled([bar(0, **nothing, volume=Decimal(0), notional=Decimal(0))])

    assert (whole.open, whole.high, whole.low, whole.close) == (2.0, 3.0, 0.5, 3.0)
    assert (empty.open, empty.high, empty.low, empty.close, empty.vwap) == (None,) * 5


def test_a_window_without_a_bar_makes_none():
    found = rolled([PARTS[0], bar(9)])
    assert [b.window_start for b in found] == [START, START + 9 * FIVE]


def test_it_is_final_when_all_parts_are_and_all_of_it_is_finalized():
    end = START + 3 * FIVE
    assert rolled(PARTS, final_until=end)[0].is_final
    # The last part may still appear while its window is not finalized.
    early = rolled(PARTS[:2], final_until=end - timedelta(seconds=1))[0]
    assert (early.is_final, early.is_complete, early.revision) == (False, None, 0)
    assert not rolled([*PARTS[:2], replace(PARTS[2], is_final=False)])[0].is_final
    assert not rolled(PARTS, final_until=None)[0].is_final


@pytest.mark.parametrize(
    ("held", "gap_of_feed", "is_complete"),
    [
        ((0, 1, 2), gap(3, 12), True),  # the parts know of it: it was another producer's
        ((0, 2), gap(3, 5.1), None),
        ((0, 2), gap(3, 5), True),
        ((0, 2), gap(10, None), True),
        ((0, 1), gap(14, None), None),
        ((1,), gap(14, None), None),
        ((1, 2), gap(-3, 1), None),
        ((0, 2), gap(3, 12, symbols=("MSFT",)), True),
        ((0, 2), gap(3, 12, kind=GapKind.SYMBOL_SILENT), True),
    ],
)
def test_a_gap_where_no_part_is_leaves_open_whether_it_is_complete(held, gap_of_feed, is_complete):
    (whole,) = rolled([PARTS[i] for i in held], gaps=[gap_of_feed])
    assert whole.is_complete is is_complete


def test_a_revision_of_a_part_is_one_of_the_whole():
    parts = [PARTS[0], replace(PARTS[1], revision=3, reason="late_trade"), PARTS[2]]
    (whole,) = rolled(parts)
    assert (whole.revision, whole.reason) == (3, "late_trade")
    twice = [replace(parts[0], revision=2, reason="policy"), parts[1], PARTS[2]]
    assert (rolled(twice)[0].revision, rolled(twice)[0].reason) == (4, "late_trade")


def test_parts_of_two_policies_are_not_passed_off_as_one():
    def policy_of(*policies):
        parts = [replace(part, policy=policy) for part, policy in zip(PARTS, policies, strict=True)]
        return rolled(parts)[0].policy

    assert policy_of("sip", "sip", "sip") == "sip"
    assert policy_of("x@1a", "x@1a", "x@2b") == policy_of("sip", None, "all") == "mixed"
    # A bar of an earlier version does not know its policy.
    assert policy_of(None, "sip", "sip") == "sip"
    assert policy_of(None, None, None) is None


def test_parts_of_an_earlier_version_say_nothing_of_the_session():
    old = [replace(part, session=None) for part in PARTS]
    assert rolled([*old[:2], PARTS[2]])[0].session == "regular"
    assert rolled(old)[0].session == "mixed"


@pytest.mark.parametrize(
    ("known", "whole"), [((True, False, None), False), ((True, None, True), None)]
)
def test_it_is_as_complete_as_its_worst_part(known, whole):
    parts = [replace(p, is_complete=k) for p, k in zip(PARTS, known, strict=True)]
    assert rolled(parts)[0].is_complete is whole


def test_hours_across_sessions_are_mixed():
    parts = [bar(-1, session="pre"), bar(0)]
    (whole,) = rolled(parts, "4h")
    assert whole.session == "mixed"
    assert whole.window_start == datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def test_a_day_of_an_equity_is_its_regular_session_in_new_york():
    """Regular hours on 20 November are 14:30 to 21:00 UTC."""
    read = [replace(part, session=str(b"regular", "ascii")) for part in PARTS]
    parts = [bar(-1, session="pre", open=9.0), *read, bar(78, session="post", close=9.0)]

    (day,) = rolled(parts, "1d")

    assert (day.window_start, day.window_end) == (START, START + timedelta(hours=6, minutes=30))
    assert (day.open, day.close, day.session) == (1.0, 1.0, "regular")


@pytest.mark.parametrize(
    ("symbol", "start", "length", "missing"),
    [
        # London's day is 08:00 to 16:30, UTC in March.
        ("VOD.L", "08:00", timedelta(hours=8, minutes=30), "07:59"),
        # Tokyo's is 09:00 to 15:30 with a rest at noon, nine hours ahead.
        ("7203.T", "00:00", timedelta(hours=6, minutes=30), "02:30"),
    ],
)
def test_a_day_of_an_exchange_is_its_own(symbol, start, length, missing):
    """A bar of the first minutes and one an hour later, and what traded in no regular hours."""
    opening = datetime.fromisoformat(f"2026-03-10T{start}+00:00")
    other = datetime.fromisoformat(f"2026-03-10T{missing}+00:00")
    first = bar(0, symbol=symbol, window_start=opening, open=3.0)
    later = bar(0, symbol=symbol, window_start=opening + timedelta(hours=1), close=4.0)
    parts = [first, later, bar(0, symbol=symbol, window_start=other, session="closed", high=99.0)]

    (day,) = rolled(parts, "1d")

    assert (day.window_start, day.window_end) == (opening, opening + length)
    assert (day.open, day.close, day.high, day.session) == (3.0, 4.0, 3.0, "regular")


def test_a_day_whose_hours_are_not_known_is_the_utc_day():
    """Shanghai's calendar of 2027 is not known."""
    start = datetime(2027, 3, 10, 2, tzinfo=timezone.utc)
    (day,) = rolled([bar(0, symbol="600519.SS", window_start=start, session="unknown")], "1d")

    assert day.window_start == datetime(2027, 3, 10, tzinfo=timezone.utc)
    assert (day.session, day.asset_class) == ("unknown", "equity")


def test_rows_with_the_hours_of_an_earlier_version_are_no_part_of_the_day():
    """London's share was `regular` by New York until 21:00 UTC; its own day ends at 16:30."""
    times = [datetime(2026, 3, 10, hour, tzinfo=timezone.utc) for hour in (14, 18)]
    parts = [bar(0, symbol="VOD.L", window_start=at, trade_count=7) for at in times]

    (day,) = rolled(parts, "1d")

    assert day.trade_count == 7


def minutes_after_start(at):
    return (at - START).total_seconds() / 60


@pytest.mark.parametrize(
    ("first", "last", "complete"),
    [
        ("22:00", "23:30", True),  # Friday 17:00 New York and later
        ("21:59", "23:30", None),
        ("12:00", "12:10", None),
    ],
)
def test_a_gap_at_the_weekend_takes_nothing_from_currencies(first, last, complete):
    parts = [bar(n, symbol="OANDA:EUR_USD", session="continuous") for n in range(3)]
    bounds = [
        minutes_after_start(datetime.fromisoformat(f"2026-11-20T{clock}+00:00"))
        for clock in (first, last)
    ]

    (day,) = rolled(parts, "1d", gaps=[gap(*bounds, symbols=("OANDA:EUR_USD",))])

    assert day.is_complete is complete


def test_a_gap_at_noon_takes_nothing_from_a_day_in_tokyo():
    """The exchange rests from 02:30 to 03:30 UTC."""
    opening = datetime(2026, 3, 10, tzinfo=timezone.utc)
    parts = [bar(0, symbol="7203.T", window_start=opening)]
    first, last = (minutes_after_start(opening + timedelta(minutes=m)) for m in (150, 210))

    for late, complete in ((0, True), (1, None)):
        found = gap(first, last + late, symbols=("7203.T",))
        assert rolled(parts, "1d", gaps=[found])[0].is_complete is complete


@pytest.mark.parametrize(("text", "stored"), [("5m", "5m"), ("1h", "5m"), ("1d", "5m")])
def test_bars_of_one_session_are_made_of_bars_that_lie_in_one(text, stored):
    length = ReadInterval.parse(text).of_session("regular")
    assert length.stored is Interval(stored)


def test_an_hour_of_one_session_holds_its_trades_alone_and_misses_none_of_others():
    """14:00 to 15:00 UTC: half an hour before the opening and half an hour after it."""
    length = ReadInterval.parse("1h").of_session("regular")
    before = bar(-1, session="pre", open=9.0, high=9.0)
    parts = list(length.of_wanted([before, *(bar(n) for n in range(6))]))

    (hour,) = roll_up_bars(parts, length, LATER, lambda: [gap(-30, -5)])

    assert (hour.open, hour.high, hour.session, hour.trade_count) == (1.0, 3.0, "regular", 24)
    assert hour.window_start == START - timedelta(minutes=30)
    assert hour.is_complete is True
    lacking = parts[1:]
    (hour,) = roll_up_bars(lacking, length, LATER, lambda: [gap(-5, 1)])
    assert hour.is_complete is None


@pytest.mark.parametrize(
    ("text", "session"), [("5m", "mixed"), ("1h", "lunch"), ("1d", "pre"), ("1d", "closed")]
)
def test_a_session_that_no_bar_of_the_length_can_hold_is_refused(text, session):
    with pytest.raises(ValueError, match=f"'{session}' is no session of {text} bars: give .*reg"):
        ReadInterval.parse(text).of_session(session)


@pytest.mark.parametrize(
    ("symbol", "asset_class"), [("BINANCE:BTCUSDT", "crypto"), ("OANDA:EUR_USD", "fx")]
)
def test_a_day_of_anything_else_is_the_utc_day(symbol, asset_class):
    parts = [
        replace(p, symbol=symbol, session="continuous", asset_class=asset_class)
        for p in [*PARTS, bar(200)]
    ]

    first, second = rolled(parts, "1d")

    assert first.window_start == datetime(2026, 11, 20, tzinfo=timezone.utc)
    assert first.window_end == second.window_start == datetime(2026, 11, 21, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("1m", "1m"),
        ("2m", "1m"),
        ("5m", "5m"),
        ("15m", "5m"),
        ("60m", "1h"),
        ("1h", "1h"),
        ("4h", "1h"),
        ("1d", "5m"),
    ],
)
def test_the_longest_stored_bars_that_fit_are_read(text, stored):
    assert ReadInterval.parse(text).stored is Interval(stored)


@pytest.mark.parametrize(
    ("text", "is_stored"),
    [("1m", True), ("5m", True), ("60m", True), ("1h", True)]
    + [(text, False) for text in ("2m", "15m", "90m", "4h", "1d")],
)
def test_bars_of_three_lengths_are_stored(text, is_stored):
    assert ReadInterval.parse(text).is_stored is is_stored


@pytest.mark.parametrize("text", ["7m", "5h", "2d", "0m", "", "1w", "-5m", "5", "m"])
def test_other_lengths_are_refused_with_examples(text):
    with pytest.raises(ValueError, match="such as 5m, 15m, 30m, 1h, 4h or 1d"):
        ReadInterval.parse(text)


def test_sums_keep_every_digit_that_the_columns_hold():
    large = Decimal("999999999999999999999999.1234567891")
    parts = [bar(0, notional=large), bar(1, notional=Decimal("0.0000000001"))]

    (whole,) = rolled(parts)

    assert whole.notional == Decimal("999999999999999999999999.1234567892")
