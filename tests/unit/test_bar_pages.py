"""How much one page reads, and bars where no trade was made."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from tapeline.api.bar_pages import Page, cache_of, most_bars, row_of
from tapeline.api.flat_bars import Known, filled
from tapeline.api.formats import IS_FINAL, MAY_CHANGE
from tapeline.api.parameters import TimeSpan
from tapeline.model.gap import Gap, GapKind
from tapeline.model.read_interval import ReadInterval
from tapeline.model.times import to_micros
from tests.sample import START, a_bar

FIVE = ReadInterval.parse("5m")
DAY, HOURS = timedelta(days=1), timedelta(hours=4)
BARS = [a_bar(), a_bar(window_start=START + timedelta(minutes=20), is_final=True, revision=1)]


@pytest.mark.parametrize(
    ("interval", "most"), [("5m", 10_000), ("1h", 10_000), ("15m", 6666), ("4h", 5000), ("1d", 69)]
)
def test_a_page_is_made_of_so_many_stored_bars_at_most(interval, most):
    """A day is made of 288 bars of five minutes, four hours of 4 of one hour."""
    assert most_bars(ReadInterval.parse(interval), 10_000) == most
    assert most_bars(ReadInterval.parse(interval), 7) == 7


def gap(start, end, *, kind=GapKind.DISCONNECTED, symbols=("AAPL",)):
    """Return a gap between two times, in minutes after the start; it lasts without an end."""
    start_us, end_us = (
        m if m is None else to_micros(START + timedelta(minutes=m)) for m in (start, end)
    )
    return Gap("host", "trades_raw", "id", kind, symbols, start_us, end_us, start_us)


def fill(finalized=None, gaps=()):
    """Return the flat bars at 5, 10 and 15 minutes, finalized until so many minutes."""
    until = None if finalized is None else START + timedelta(minutes=finalized)
    rows = filled([row_of(bar) for bar in BARS], FIVE, 100, Known("AAPL", until, lambda: gaps))
    return rows[1:-1]


def test_a_filled_bar_is_flat_at_the_close_before_it():
    rows = [row_of(bar) for bar in BARS]
    first, *between, last = filled(rows, FIVE, 100, Known("AAPL", None))

    assert [first, last] == rows
    assert [row["window_start"] - START for row in between] == [
        timedelta(minutes=n) for n in (5, 10, 15)
    ]
    for row in between:
        assert {row[name] for name in ("open", "high", "low", "close")} == {2.0}
        assert (row["volume"], row["trade_count"], row["is_filled"]) == (Decimal(0), 0, True)


@pytest.mark.parametrize(
    ("finalized", "final"),
    [
        (None, [False, False, False]),
        (9, [False, False, False]),
        (10, [True, False, False]),
        (19, [True, True, False]),
        (20, [True, True, True]),
    ],
)
@pytest.mark.parametrize("first", [{}, {"is_final": True, "revision": 3, "is_complete": True}])
def test_a_filled_bar_is_final_when_its_own_window_is_past_whatever_stands_before_it(
    finalized, final, first
):
    """A late trade may still make a bar of it; none is stored, so its revision is 0."""
    rows = [row_of(bar) for bar in (a_bar(**first), BARS[1])]
    until = None if finalized is None else START + timedelta(minutes=finalized)
    between = filled(rows, FIVE, 100, Known("AAPL", until))[1:-1]

    assert [row["is_final"] for row in between] == final
    assert {row["revision"] for row in between} == {0}
    assert {row["is_complete"] for row in between} == {None}


@pytest.mark.parametrize(
    ("gaps", "complete"),
    [
        ([gap(6, 7)], [False, None, None]),
        ([gap(9.99, 10)], [False, None, None]),
        ([gap(10, 10.1)], [None, False, None]),
        ([gap(0, 5), gap(20, 30)], [None, None, None]),
        ([gap(12, None)], [None, False, False]),
        ([gap(6, 18), gap(7, 8)], [False, False, False]),
        ([gap(16, 17), gap(6, 7)], [False, None, False]),
        ([gap(6, 18, symbols=("MSFT",))], [None, None, None]),
        ([gap(6, 18, kind=GapKind.SYMBOL_SILENT)], [None, None, None]),
    ],
)
def test_a_filled_bar_in_a_gap_of_the_feed_is_not_complete(gaps, complete):
    assert [row["is_complete"] for row in fill(20, gaps)] == complete
    assert [row["is_complete"] for row in fill(None, gaps)] == [None] * 3  # not final yet


def test_gaps_are_read_only_for_bars_that_are_final():
    def no_gaps():
        raise AssertionError

    rows = [row_of(bar) for bar in BARS]
    assert len(filled(rows, FIVE, 100, Known("AAPL", None, no_gaps))) == 5
    assert len(filled(rows[:1], FIVE, 100, Known("AAPL", START + timedelta(1), no_gaps))) == 1


@pytest.mark.parametrize(
    ("finalized", "cache"), [(None, MAY_CHANGE), (20, MAY_CHANGE), (25, IS_FINAL)]
)
def test_an_answer_may_be_kept_only_when_the_filled_bars_in_it_are_final(finalized, cache):
    until = None if finalized is None else START + timedelta(minutes=finalized)
    bars = [a_bar(is_final=True, revision=1), BARS[1]]
    span = TimeSpan(START, START + timedelta(minutes=25), is_closed=True)
    rows = filled([row_of(bar) for bar in bars], FIVE, 100, Known("AAPL", until))

    assert cache_of(Page(bars, None, until), FIVE, span) == cache
    assert cache == MAY_CHANGE or all(row["is_final"] for row in rows)


def test_a_page_ends_with_a_real_bar_when_the_next_one_does_not_fit():
    rows = [row_of(bar) for bar in BARS]
    assert filled(rows, FIVE, 4, Known("AAPL", None)) == rows[:1]
    assert len(filled(rows, FIVE, 5, Known("AAPL", None))) == 5


def test_where_one_session_is_wanted_others_are_not_filled():
    """From the last bar of Friday, 15:55 in New York, to the first of Monday: no bar between."""
    last = START.replace(hour=20, minute=55)
    bars = [a_bar(window_start=last), a_bar(window_start=START.replace(day=23))]
    rows = [row_of(bar) for bar in bars]

    found = filled(rows, FIVE.of_session("regular"), 100, Known("AAPL", None))

    # Regular hours begin at 14:30; the bar of Monday is that of 14:35.
    between = [row["window_start"] for row in found[1:-1]]
    assert between == [START.replace(day=23, minute=30)]


def test_a_window_with_two_parts_of_a_session_is_filled_once():
    """Four hours from 00:00 UTC hold Tokyo's morning and the first half hour of its afternoon."""
    monday = START.replace(month=3, day=9, hour=4, minute=0)
    bars = [a_bar(symbol="7203.T", window_start=start) for start in (monday, monday + 2 * DAY)]
    four_hours = ReadInterval.parse("4h").of_session("regular")
    rows = [{**row_of(bar), "window_end": bar.window_start + HOURS} for bar in bars]

    found = filled(rows, four_hours, 100, Known("7203.T", None))

    # Of Tuesday and Wednesday the windows of 00:00 and 04:00; the last is there.
    assert [row["window_start"] - monday for row in found[1:-1]] == [
        5 * HOURS,
        6 * HOURS,
        11 * HOURS,
    ]


def test_days_are_not_filled():
    rows = [row_of(bar) for bar in BARS]
    assert filled(rows, ReadInterval.parse("1d"), 100, Known("AAPL", None)) == rows
