"""The seeded load of the bench."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.load import START_MS, UNIT, SeededLoad, TapeLoad, units


def test_a_seed_gives_the_same_trades_each_time_and_another_seed_others():
    first = list(SeededLoad(2_000, seed=7).trades())
    assert first == list(SeededLoad(2_000, seed=7).trades())
    assert first != list(SeededLoad(2_000, seed=8).trades())
    assert len(first) == 2_000


def test_symbols_trade_by_zipfs_law():
    counts = Counter(trade.symbol for trade in SeededLoad(60_000, symbols=50).trades())
    assert len(counts) == 50
    # The n-th symbol trades 1/n as often as the first.
    for n in (2, 5, 10):
        name = f"S{n - 1:04d}" if n < 10 else "BINANCE:C0009USDT"
        assert counts[name] == pytest.approx(counts["S0000"] / n, rel=0.1)


def test_a_million_trades_cover_65_minutes_so_a_thousand_cover_39_tenths_of_a_second():
    trades = list(SeededLoad(1_000).trades())
    times = [trade.event_time_ms - START_MS for trade in trades]
    assert min(times) == 0
    assert max(times) == pytest.approx(3_900, abs=300)


def test_some_trades_come_late_and_some_twice():
    trades = list(SeededLoad(50_000).trades())
    ids = Counter(trade.trade_id for trade in trades)
    assert set(ids.values()) == {1, 2}
    assert 20 < sum(n == 2 for n in ids.values()) < 90  # one in a thousand
    times = [trade.event_time_ms for trade in trades]
    assert times != sorted(times)


def test_trades_of_one_symbol_and_millisecond_have_ranks_of_their_own():
    trades = set(SeededLoad(50_000).trades())
    places = Counter((t.symbol, t.event_time_ms, t.sequence) for t in trades)
    assert set(places.values()) == {1}
    assert any(t.sequence for t in trades)


def test_amounts_travel_as_the_numbers_that_they_are():
    assert units("201.17") == 2_011_700_000_000
    assert units("201.17") / UNIT == 201.17
    assert units("0.0000001") / UNIT == 1e-7


def test_a_tape_gives_its_trades_in_its_order(tmp_path):
    tape = tmp_path / "two.trades.csv"
    tape.write_text(
        "event_time_ms,symbol,price,volume,conditions\n"
        "1000,AAPL,201.17,100,1|12\n"
        "1000,AAPL,201.18,5,\n"
    )
    first, second = TapeLoad(tape).trades()
    assert (first.symbol, first.price, first.volume) == ("AAPL", 201.17, 100.0)
    assert (first.conditions, first.sequence) == (("1", "12"), 0)
    assert (second.conditions, second.sequence) == (None, 1)
    assert first.trade_id != second.trade_id
