"""Bars that open at the close before them, and a share's day of all trades, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from tapeline.live.longer import LongBars
from tapeline.model.gap import Gap, GapKind
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rollup import carried, roll_up_bars
from tapeline.model.rules import PLAIN, PRICES, VOLUME, ReadingRules
from tapeline.model.times import to_micros
from tests.hand_worked_days import BARS, FRIDAY, THURSDAY, prices_of
from tests.sample import a_bar

OPENING, CLOSE = FRIDAY.replace(hour=14, minute=30), FRIDAY.replace(hour=21)
EVENING = FRIDAY.replace(hour=1) + timedelta(days=1)  # 20:00 in New York
DAY = ReadInterval.parse("1d")
FIVE = ReadInterval.parse("5m")
HEAVY = ReadingRules(all_day=VOLUME)
FINAL = {"is_final": True, "is_complete": True, "revision": 1}


def final_bars():
    return [replace(bar, **FINAL) for bar in BARS]


def a_gap(start: datetime, end: datetime) -> Gap:
    span = to_micros(start), to_micros(end)
    return Gap("p", "t", "id", GapKind.SILENT, ("AAPL",), *span, span[0])


@pytest.mark.parametrize(
    ("rules", "values"),
    [
        (PLAIN, [(100.0, 102.0, 99.0, 101.0, 10, 4), (106.0, 109.0, 105.5, 108.5, 30, 12)]),
        (HEAVY, [(100.0, 102.0, 99.0, 101.0, 15, 8), (106.0, 109.0, 105.5, 108.5, 36, 20)]),
        (
            ReadingRules(all_day=PRICES | VOLUME),
            [(100.0, 104.0, 99.0, 104.0, 15, 8), (105.0, 110.0, 105.0, 110.0, 36, 20)],
        ),
        (
            ReadingRules(all_day=PRICES),
            [(100.0, 104.0, 99.0, 104.0, 10, 8), (105.0, 110.0, 105.0, 110.0, 30, 20)],
        ),
    ],
    ids=["regular", "volume", "both", "prices"],
)
def test_which_trades_make_a_day_of_a_share(rules, values):
    days = roll_up_bars(BARS, DAY, None, reading=lambda _: rules)
    assert [(*prices_of(d), d.volume, d.trade_count) for d in days] == values
    assert [d.window_start for d in days] == [OPENING - timedelta(days=1), OPENING]
    assert days[1].window_end == CLOSE

    longer = LongBars(DAY, lambda _: rules)
    for bar in (BARS[3], BARS[6], BARS[2], BARS[5], BARS[4]):
        longer.put(bar)
    live = longer.bar()
    assert live is not None
    assert (*prices_of(live), live.volume, live.trade_count) == values[1]


def test_trades_outside_regular_hours_could_set_no_price_of_the_day():
    _, day = roll_up_bars(BARS, DAY, None, reading=lambda _: HEAVY)
    # Four before the opening, four after the close, one of each other bar.
    assert (day.unpriced_count, day.unpriced_volume) == (4 + 4 + 3, Decimal("7.5"))


def test_a_day_of_all_trades_is_final_when_its_evening_is():
    bars = final_bars()

    def days(until: datetime):
        return roll_up_bars(bars, DAY, until, reading=lambda _: HEAVY)

    assert [d.is_final for d in days(EVENING - timedelta(seconds=1))] == [True, False]
    assert [d.is_final for d in days(EVENING)] == [True, True]


def test_a_gap_of_the_evening_leaves_a_day_of_all_trades_unknown_and_one_of_the_night_does_not():
    def completeness(gap: Gap, rules: ReadingRules) -> bool | None:
        return roll_up_bars(final_bars(), DAY, EVENING, lambda: [gap], lambda _: rules)[
            1
        ].is_complete

    evening = a_gap(CLOSE + timedelta(hours=1), CLOSE + timedelta(hours=2))
    night = a_gap(FRIDAY.replace(hour=6), FRIDAY.replace(hour=7))
    noon = a_gap(OPENING + timedelta(hours=2), OPENING + timedelta(hours=3))
    found = [(completeness(g, HEAVY), completeness(g, PLAIN)) for g in (evening, night, noon)]
    assert found == [(None, True), (True, True), (None, None)]


def test_one_session_of_a_day_is_that_session_alone():
    regular = DAY.of_session("regular")
    bars = list(regular.of_wanted(final_bars()))
    _, day = roll_up_bars(bars, regular, CLOSE, reading=lambda _: HEAVY)
    assert (day.volume, day.is_final, day.is_complete) == (30, True, True)


def test_a_bar_opens_at_the_close_before_it():
    opened = carried(BARS[3:4] + BARS[5:6], FIVE, tuple)
    assert prices_of(opened) == (106.5, 109.0, 106.5, 108.5)
    unpriced = carried(BARS[3:5], FIVE, tuple)
    assert prices_of(unpriced) == (106.5,) * 4
    above = carried([a_bar(close=9.0), a_bar()], FIVE, tuple)
    assert prices_of(above) == (9.0, 9.0, 0.5, 2.0)
    # Nothing else changes.
    assert replace(opened, open=108.0, low=108.0) == BARS[5]


@pytest.mark.parametrize(
    ("before", "between", "bar", "state"),
    [
        ({}, {}, {}, (True, True, 1)),
        ({"revision": 3}, {}, {"revision": 2}, (True, True, 4)),
        ({}, {"revision": 2}, {}, (True, True, 2)),
        ({"is_final": False, "revision": 0, "is_complete": None}, {}, {}, (False, None, 0)),
        ({}, {}, {"is_final": False, "revision": 0, "is_complete": None}, (False, None, 0)),
        ({"is_complete": False}, {}, {}, (True, False, 1)),
        ({}, {"is_complete": None}, {}, (True, None, 1)),
    ],
)
def test_it_is_as_final_and_as_complete_as_those_that_it_hangs_on(before, between, bar, state):
    parts = [
        a_bar(window_start=OPENING + n * timedelta(minutes=5), **{**FINAL, **changes})
        for n, changes in enumerate((before, {"close": None, **between}, bar))
    ]
    opened = carried(parts, FIVE, tuple)
    assert (opened.is_final, opened.is_complete, opened.revision) == state


def test_where_no_bar_was_before_it_a_gap_leaves_it_unknown():
    bars = [replace(bar, **FINAL) for bar in (BARS[1], BARS[2])]
    evening = a_gap(THURSDAY.replace(hour=23), THURSDAY.replace(hour=23, minute=30))
    night = a_gap(FRIDAY.replace(hour=2), FRIDAY.replace(hour=9))
    later = a_gap(FRIDAY.replace(hour=14, minute=6), FRIDAY.replace(hour=14, minute=7))
    for gaps, is_complete in (([], True), ([evening], None), ([night], True), ([later], True)):
        opened = carried(bars, FIVE, lambda g=gaps: g)
        assert opened.is_complete is is_complete
