"""Bars of open windows in memory: exact as long as nothing can have come twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tapeline.consumer.bars_in_memory import BarsInMemory
from tapeline.model.bar import Bar
from tests.sample import START, a_bar

KEY = ("AAPL", START)
# Millisecond in the window, price, size; a trade is known by all three.
Print = tuple[int, int, int]


def bar_of(trades: Sequence[Print], symbol: str = "AAPL", start: datetime = START) -> Bar:
    """Work out a bar the long way, from trades of distinct milliseconds or of one price each."""
    ordered = sorted(trades)
    times = [start + timedelta(milliseconds=ms) for ms, _, _ in ordered]
    volume = Decimal(sum(size for _, _, size in ordered))
    notional = Decimal(sum(price * size for _, price, size in ordered))
    return a_bar(
        symbol=symbol,
        window_start=start,
        open=float(ordered[0][1]),
        high=float(max(price for _, price, _ in ordered)),
        low=float(min(price for _, price, _ in ordered)),
        close=float(ordered[-1][1]),
        volume=volume,
        notional=notional,
        vwap=float(notional) / float(volume),
        trade_count=len(ordered),
        unpriced_count=0,
        unpriced_volume=Decimal(0),
        first_trade_time=times[0],
        last_trade_time=times[-1],
    )


def test_later_trades_are_added_to_what_is_there() -> None:
    windows = BarsInMemory(None)

    assert windows.add([bar_of([(1, 10, 2), (5, 12, 1)])]) == set()
    assert windows.add([bar_of([(6, 9, 1), (7, 11, 3)])]) == set()

    bar = windows.seen([KEY])[KEY]
    assert (bar.open, bar.high, bar.low, bar.close) == (10.0, 12.0, 9.0, 11.0)
    assert (bar.volume, bar.notional, bar.trade_count) == (Decimal(7), Decimal(74), 4)


def test_a_trade_of_the_same_millisecond_makes_the_window_doubtful_until_it_is_made_again() -> None:
    windows = BarsInMemory(None)
    windows.add([bar_of([(1, 10, 2), (5, 12, 1)])])

    assert windows.add([bar_of([(5, 12, 1), (6, 9, 1)])]) == {KEY}
    assert windows.bars([KEY])[0].trade_count == 2
    windows.put([bar_of([(1, 10, 2), (5, 12, 1), (6, 9, 1)])], is_exact=True)
    assert windows.add([bar_of([(8, 8, 1)])]) == set()

    assert windows.bars([KEY])[0].trade_count == 4
    # Silver may be repaired later, and what was taken from it here would not be.
    assert windows.seen([KEY]) == {}


def test_one_made_from_a_silver_of_others_stays_doubtful() -> None:
    windows = BarsInMemory(None)
    windows.add([bar_of([(5, 12, 1)])])
    windows.add([bar_of([(5, 13, 1)])])

    windows.put([bar_of([(5, 12, 1), (5, 13, 1)])], is_exact=False)

    assert windows.bars([KEY])[0].trade_count == 2
    assert windows.add([bar_of([(6, 9, 1)])]) == {KEY}


def test_a_window_that_may_have_trades_from_before_is_doubtful() -> None:
    windows = BarsInMemory(START + timedelta(seconds=3))
    after = START + timedelta(minutes=5)

    doubtful = windows.add([bar_of([(4000, 10, 1)]), bar_of([(1, 10, 1)], start=after)])

    assert doubtful == {KEY}
    assert not windows.knows_all_since(START)
    assert windows.seen([KEY, ("AAPL", after)]).keys() == {("AAPL", after)}


def test_the_oldest_windows_are_forgotten_and_doubtful_when_they_come_again() -> None:
    windows = BarsInMemory(None, most=4)
    starts = [START + n * timedelta(minutes=5) for n in range(6)]
    windows.add([bar_of([(1, 10, 1)], start=start) for start in starts])

    windows.forget()

    kept = windows.seen([("AAPL", start) for start in starts])
    assert [start for _, start in kept] == starts[3:]
    assert windows.add([bar_of([(2, 10, 1)], start=starts[2])]) == {("AAPL", starts[2])}
    assert windows.add([bar_of([(2, 10, 1)], start=starts[5])]) == set()


prints = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 50), st.integers(1, 9)), min_size=1, max_size=8
)


@given(batches=st.lists(prints, min_size=1, max_size=6))
def test_what_is_called_exact_is_the_bar_of_every_distinct_trade(
    batches: list[list[Print]],
) -> None:
    windows, silver = BarsInMemory(None), set[Print]()
    # One price a millisecond: which of several comes first is not what is looked at here.
    for batch in batches:
        distinct = {(ms, ms % 7 + 1, size) for ms, _, size in batch}
        silver |= distinct
        if windows.add([bar_of(sorted(distinct))]):
            windows.put([bar_of(sorted(silver))], is_exact=True)

        (bar,) = windows.bars([KEY])
        assert bar.same_values(bar_of(sorted(silver)))
