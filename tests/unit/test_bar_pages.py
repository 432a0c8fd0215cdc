"""How much one page reads, and bars where no trade was made."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from tapeline.api.bar_pages import filled, most_bars, row_of
from tapeline.rollup import ReadInterval
from tests.sample import START, a_bar

FIVE = ReadInterval.parse("5m")
BARS = [a_bar(), a_bar(window_start=START + timedelta(minutes=20), is_final=True, revision=1)]


@pytest.mark.parametrize(
    ("interval", "most"), [("5m", 10_000), ("1h", 10_000), ("15m", 6666), ("4h", 5000), ("1d", 69)]
)
def test_a_page_is_made_of_so_many_stored_bars_at_most(interval, most):
    """A day is made of 288 bars of five minutes, four hours of 4 of one hour."""
    assert most_bars(ReadInterval.parse(interval), 10_000) == most
    assert most_bars(ReadInterval.parse(interval), 7) == 7


def test_a_filled_bar_is_flat_at_the_close_before_it_and_as_final_as_that():
    first, *between, last = filled([row_of(bar) for bar in BARS], FIVE, 100)

    assert (first, last) == tuple(row_of(bar) for bar in BARS)
    assert [row["window_start"] - START for row in between] == [
        timedelta(minutes=n) for n in (5, 10, 15)
    ]
    for row in between:
        assert {row[name] for name in ("open", "high", "low", "close")} == {2.0}
        assert (row["volume"], row["trade_count"], row["is_filled"]) == (Decimal(0), 0, True)
        assert row["is_final"] is False


def test_a_page_ends_with_a_real_bar_when_the_next_one_does_not_fit():
    rows = [row_of(bar) for bar in BARS]
    assert filled(rows, FIVE, 4) == rows[:1]
    assert len(filled(rows, FIVE, 5)) == 5


def test_days_are_not_filled():
    rows = [row_of(bar) for bar in BARS]
    assert filled(rows, ReadInterval.parse("1d"), 100) == rows
