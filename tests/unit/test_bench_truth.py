"""The bench's truth and the plain consumer's bars on a hand-worked case; its percentiles."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bench.load import UNIT, LoadTrade, units
from bench.plain.fold import Bars
from bench.stats import Summary, percentile
from bench.truth import Truth

NINE_THIRTY_MS = 1_749_043_800_000  # Wednesday, 4 June 2025 in New York


def trade(after_ms, price, size, conditions=("1",), rank=0, number=None):
    number = number if number is not None else after_ms * 10 + rank
    start_ms = NINE_THIRTY_MS + after_ms
    return LoadTrade("AAPL", units(price), units(size), start_ms, conditions, rank, number)


TRADES = [
    trade(5, "10.00", "100"),
    trade(1, "10.50", "200"),  # earlier than the one before: the open
    trade(9, "9.75", "50"),
    trade(9, "9.80", "50", rank=1),  # the same millisecond, later: the close
    trade(10, "99.00", "10", ("1", "30")),  # out of sequence: high, not close
    trade(11, "500.00", "1", ("3",)),  # average price: volume only
    trade(12, "700.00", "2", ("1", "24")),  # Form T in regular hours: volume only
    trade(13, "800.00", "1000", ("16",)),  # the official close: nothing but the count
    trade(14, "9.90", "0.5", ("1", "12"), number=77),  # an odd lot: sets prices
    trade(14, "9.90", "0.5", ("1", "12"), number=77),  # the same again
    trade(300_000, "11.00", "1"),  # the next bar
]
# 2000 * .. : 100*10 + 200*10.5 + 50*9.75 + 50*9.8 + 10*99 + 500 + 1400 + 0.5*9.9
NOTIONAL = Decimal(1000) + 2100 + Decimal("487.5") + 490 + 990 + 500 + 1400 + Decimal("4.95")


def test_the_truth_of_a_hand_worked_case():
    truth = Truth.of(TRADES)
    assert (truth.messages, truth.trades) == (11, 10)
    bar = truth.bars["AAPL", NINE_THIRTY_MS]
    assert [p / UNIT for p in (bar.open, bar.high, bar.low, bar.close)] == [10.5, 99, 9.75, 9.9]
    assert Decimal(bar.volume) / UNIT == Decimal("413.5")
    assert Decimal(bar.notional) / UNIT == NOTIONAL
    assert (bar.trade_count, bar.unpriced_count) == (9, 3)
    assert (bar.lowest / UNIT, bar.highest / UNIT) == (9.75, 800)


def test_the_truth_of_an_hour_is_made_of_its_bars():
    # 09:30 in New York is half past an hour of UTC.
    (hour,) = Truth.of(TRADES).hours().items()
    assert hour[0] == ("AAPL", NINE_THIRTY_MS - 1_800_000)
    bar = hour[1]
    assert [p / UNIT for p in (bar.open, bar.high, bar.low, bar.close)] == [10.5, 99, 9.75, 11]
    assert bar.trade_count == 10


def test_form_t_sets_prices_before_the_opening():
    early = trade(-60_000, "700.00", "2", ("1", "24"))
    (bar,) = Truth.of([early]).bars.values()
    assert bar.open == bar.high == units("700.00")


def test_the_plain_consumer_folds_the_same_bar():
    bars = Bars()
    for t in TRADES:
        wire = {
            "symbol": t.symbol,
            "price": t.price,
            "volume": t.volume,
            "conditions": t.conditions,
            "sequence": t.sequence,
            "trade_id": t.trade_id,
        }
        bars.take(wire, t.event_time_ms, t.event_time_ms * 1000)
    minutes, hours = bars.drain(is_end=True)
    first = min(minutes, key=lambda row: row[2])
    assert first[4:8] == [10.5, 99, 9.75, 9.9]
    assert [Decimal(amount) for amount in first[8:10]] == [Decimal("413.5"), NOTIONAL]
    assert first[11:13] == [9, 3]
    assert first[17] is True
    (hour,) = hours
    assert hour[4:8] == [10.5, 99, 9.75, 11]


def test_percentiles_are_values_that_were_measured():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 50) == 3.0
    assert percentile(values, 99) == 5.0
    assert percentile(list(range(1, 201)), 99) == 198
    with pytest.raises(ValueError, match="no value"):
        percentile([], 50)


def test_rounds_are_summed_up_by_their_median_and_spread():
    summary = Summary.of([3.0, 1.0, 10.0])
    assert (summary.median, summary.low, summary.high, summary.rounds) == (3.0, 1.0, 10.0, 3)
