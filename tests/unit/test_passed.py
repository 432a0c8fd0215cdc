"""Which states of bars are given, and which are remembered for how long."""

from __future__ import annotations

import tracemalloc
from datetime import datetime, timedelta, timezone

import pytest

from tapeline.client.passed import Passed

NOON = datetime(2026, 11, 3, 12, tzinfo=timezone.utc)
FIVE = timedelta(minutes=5)


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def taken(passed, revision, start=NOON, content=1, symbol="AAPL"):
    return passed.take(symbol, start, is_final=True, number=revision, content=content)


def taken_open(passed, trades, content=1):
    return passed.take("AAPL", NOON, is_final=False, number=trades, content=content)


def test_a_state_is_news_once_and_an_earlier_one_never_again():
    passed = Passed(FIVE)
    assert taken_open(passed, 3)
    assert not taken_open(passed, 3)
    assert taken_open(passed, 3, content=2)
    assert not taken_open(passed, 2, content=3)
    assert taken_open(passed, 900)
    assert taken(passed, 1)
    assert not taken(passed, 1)
    assert not taken_open(passed, 901)
    assert taken(passed, 3)
    assert not taken(passed, 2)
    assert taken(passed, 3, content=2)


def test_each_symbol_and_window_of_a_day_is_remembered_by_itself():
    passed = Passed(FIVE)
    starts = [NOON.replace(hour=0) + n * FIVE for n in range(2 * 288)]
    for symbol in ("AAPL", "MSFT"):
        assert all(taken(passed, 1, start, symbol=symbol) for start in starts)
    assert not any(taken(passed, 1, start) for start in starts)
    assert taken(passed, 2, starts[288])
    assert not taken(passed, 1, starts[0])


@pytest.mark.parametrize(
    ("minutes", "starts"), [(1, (0, 1, 1439)), (60, (0, 1380)), (1440, (870,))]
)
def test_bars_of_any_length_have_their_place(minutes, starts):
    """A day of a share begins with its session."""
    passed = Passed(timedelta(minutes=minutes))
    for minute in starts:
        start = NOON.replace(hour=0) + timedelta(minutes=minute)
        assert taken(passed, 1, start)
        assert not taken(passed, 1, start)


def test_a_topic_that_begins_again_makes_provisional_bars_of_fewer_trades_news():
    passed = Passed(FIVE)
    taken_open(passed, 900)
    taken(passed, 1, NOON + FIVE)
    passed.forget_open()
    assert taken_open(passed, 1)
    assert not taken(passed, 1, NOON + FIVE)


def test_a_day_is_forgotten_when_it_is_old_and_nothing_of_it_was_given_for_half_an_hour():
    clock = Clock()
    passed = Passed(FIVE, clock)
    days = [NOON + timedelta(days=n) for n in range(3)]
    for day in days:
        taken(passed, 1, day)
        taken(passed, 1, day, symbol="MSFT")
    before = {"AAPL": days[2]}
    passed.forget(before)
    assert not any(taken(passed, 1, day) for day in days)

    clock.now_s = 1_801.0
    taken(passed, 2, days[1])
    passed.forget(before)
    assert [taken(passed, 1, day) for day in days] == [True, False, False]
    assert not any(taken(passed, 1, day, symbol="MSFT") for day in days)


def test_a_year_of_bars_takes_no_more_than_eleven_bytes_a_bar():
    tracemalloc.start()
    passed = Passed(FIVE)
    for n in range(365 * 288):
        taken(passed, 1, NOON + n * FIVE)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / (365 * 288) < 11
