"""One open bar, trade by trade, worked by hand.

14:30:00.000 is 52,200,000 ms after midnight, and a Friday's opening in New York.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from tapeline.live.fold import OpenBar
from tapeline.model.bar import Bar
from tapeline.model.conditions import ALL, SIP
from tapeline.model.rules import Rules
from tapeline.model.times import to_millis
from tapeline.model.trade import Trade, order_key

START = datetime(2026, 11, 20, 14, 30, tzinfo=timezone.utc)
START_MS = to_millis(START)
FIVE = timedelta(minutes=5)
RECEIVED = START + timedelta(seconds=1)


def trade(trade_id: int = 1, after_ms: int = 0, rank: int = 0, **changes: object) -> Trade:
    fields = {
        "symbol": "AAPL",
        "price": 10.0,
        "volume": 1.0,
        "event_time_ms": START_MS + after_ms,
        "conditions": None,
        "trade_id": trade_id,
        "received_at_us": START_MS * 1000 + 1_000_000,
        "sequence": rank,
        "source": "test",
    }
    return Trade(**{**fields, **changes})


def bar_of(*trades: Trade, policy: Rules = SIP) -> Bar:
    bar = OpenBar("AAPL", START_MS, 300_000, policy)
    for one in trades:
        bar.fold(one)
    assert len(bar) == bar.bar().trade_count
    return bar.bar()


@pytest.mark.parametrize(
    ("after_ms", "rank", "trade_id", "parts"),
    [
        (0, 0, 0, (52_200_000, 0, 0)),
        (123, 2, 5, (52_200_123, 2, 5)),
        (123, 65_535, 5, (52_200_123, 65_535, 5)),
        (123, 65_536, 5, (52_200_123, 65_535, 5)),  # saturates
        (0, 1, 2**20 + 7, (52_200_000, 1, 7)),  # the low 20 bits
        (0, 1, -1, (52_200_000, 1, 2**20 - 1)),
        (86_400_000 - 52_200_000, 1, 2, (0, 1, 2)),  # midnight
    ],
)
def test_trades_are_ordered_by_millisecond_then_rank_then_the_low_bits_of_the_id(
    after_ms, rank, trade_id, parts
):
    millis, places, bits = parts
    assert order_key(trade(trade_id, after_ms, rank)) == (millis * 65_536 + places) * 2**20 + bits


def test_two_trades_make_a_bar():
    assert bar_of(
        trade(1, 1000, price=10.0, volume=2.0),
        trade(2, 299_999, price=11.5, volume=0.5, received_at_us=START_MS * 1000 + 2_000_000),
    ) == Bar(
        symbol="AAPL",
        window_start=START,
        window_end=START + FIVE,
        open=10.0,
        high=11.5,
        low=10.0,
        close=11.5,
        volume=Decimal("2.5"),
        notional=Decimal("25.75"),
        vwap=10.3,
        trade_count=2,
        unpriced_count=0,
        unpriced_volume=Decimal(0),
        first_trade_time=START + timedelta(seconds=1),
        last_trade_time=START + timedelta(seconds=299.999),
        first_received_at=RECEIVED,
        session="regular",
        asset_class="equity",
        policy="sip",
    )


def test_only_the_size_of_a_trade_that_sets_no_price_is_taken():
    official = trade(2, 1, price=99.0, volume=50.0, conditions=("16",))
    odd_lot = trade(3, 2, price=98.0, volume=0.25, conditions=("12",))
    late = trade(4, 3, price=12.0, volume=4.0, conditions=("9",))
    bar = bar_of(official, odd_lot, trade(1, 5, price=10.0), late)
    assert (bar.open, bar.high, bar.low, bar.close) == (10.0, 12.0, 10.0, 10.0)
    assert (bar.volume, bar.notional) == (Decimal("5.25"), Decimal("82.5"))  # 24.5 + 10 + 48
    assert (bar.trade_count, bar.unpriced_count) == (4, 2)
    assert bar.unpriced_volume == Decimal("0.25")

    empty = bar_of(official)
    assert (empty.open, empty.high, empty.low, empty.close, empty.vwap) == (None,) * 5
    assert (empty.volume, empty.trade_count, empty.unpriced_count) == (Decimal(0), 1, 1)


def test_a_form_t_trade_of_regular_hours_sets_no_price():
    form_t = trade(1, price=9.0, conditions=("24",))
    assert bar_of(form_t).unpriced_count == 1
    before = OpenBar("AAPL", START_MS - 300_000, 300_000, SIP)
    before.fold(form_t._replace(event_time_ms=START_MS - 1))
    bar = before.bar()
    assert (bar.open, bar.high, bar.close, bar.unpriced_count) == (9.0, 9.0, 9.0, 0)
    assert bar.session == "pre"


def test_open_and_close_go_by_event_time_whatever_came_first():
    times = {7: 20.0, 5: 40.0, 3: 10.0, 9: 30.0}
    bar = bar_of(*(trade(n, ms, price=price) for n, (ms, price) in enumerate(times.items())))
    assert (bar.open, bar.high, bar.low, bar.close) == (10.0, 40.0, 10.0, 30.0)
    assert bar.first_trade_time == START + timedelta(milliseconds=3)
    assert bar.last_trade_time == START + timedelta(milliseconds=9)


def test_of_one_millisecond_the_lowest_rank_opens_and_the_highest_closes():
    middle = trade(1, rank=2, price=2.0)
    others = (middle._replace(trade_id=n, sequence=n, price=float(n)) for n in (9, 0))
    bar = bar_of(middle, *others)
    assert (bar.open, bar.close) == (0.0, 9.0)


def test_of_copies_the_lowest_rank_counts_whichever_comes_first():
    last, copy = trade(1, rank=5, price=10.0), trade(2, rank=3, price=20.0)
    for ranks, (opens, closes) in {
        (3,): (20.0, 10.0),
        (3, 9): (20.0, 10.0),
        (9, 3): (20.0, 10.0),
        (9,): (10.0, 20.0),
        (9, 9): (10.0, 20.0),
    }.items():
        bar = bar_of(last, *(copy._replace(sequence=rank) for rank in ranks))
        assert (bar.open, bar.close, bar.trade_count) == (opens, closes, 2)


def test_a_copy_is_not_counted_and_tells_only_its_receipt():
    def received(second: int, **changes: object) -> Trade:
        at_us = START_MS * 1000 + second * 1_000_000
        return trade(**{"rank": 5, "received_at_us": at_us, **changes})

    bar = OpenBar("AAPL", START_MS, 300_000, SIP)
    came = [received(9), received(8), received(7, rank=6), received(6, rank=4), received(7)]
    assert [bar.fold(one) for one in came] == [True, False, False, False, False]
    assert (bar.bar().volume, bar.bar().trade_count) == (Decimal(1), 1)
    assert bar.bar().first_received_at == START + timedelta(seconds=6)
    # Another trade that was received later, and one that was received first.
    assert [bar.fold(received(8, trade_id=2)), bar.fold(received(5, trade_id=3))] == [True, True]
    assert bar.bar().first_received_at == START + timedelta(seconds=5)


@pytest.mark.parametrize(
    ("volume", "units"),
    [
        (0.0, "0"),
        (0.3, "0.3"),
        (123_456.789, "123456.789"),
        (7e14, "700000000000000"),
        (0.00000000005, "0.0000000001"),  # halves up
        (0.00000000015, "0.0000000002"),
        (0.00000000014, "0.0000000001"),
        (4.9e-11, "0"),
        (1_234_567.00000000025, "1234567.0000000002"),  # the nearest double has these places
    ],
)
def test_a_size_has_ten_places(volume, units):
    assert bar_of(trade(volume=volume)).volume == Decimal(units)


@pytest.mark.parametrize(
    ("price", "notional"),
    [(0.49, "0"), (0.5, "1E-10"), (1.49, "1E-10"), (1.5, "2E-10"), (7.0, "7E-10")],
)
def test_each_product_is_rounded_to_ten_places_halves_up(price, notional):
    smallest = [trade(n, price=price, volume=1e-10) for n in range(3)]
    assert bar_of(*smallest).notional == 3 * Decimal(notional)


def test_a_large_product_keeps_every_digit():
    bar = bar_of(trade(price=12_345.6789, volume=98_765_432.1))
    # 123456789 · 987654321 = 121932631112635269, five of them after the point.
    assert bar.notional == Decimal("1219326311126.35269")
    assert bar.volume == Decimal("98765432.1")


def test_a_symbol_with_a_venue_has_neither_session_nor_a_night():
    bar = OpenBar("BINANCE:BTCUSDT", START_MS, 60_000, ALL)
    bar.fold(trade(symbol="BINANCE:BTCUSDT"))
    whole = bar.bar()
    assert (whole.session, whole.asset_class, whole.policy) == ("continuous", "crypto", "all")
    assert whole.window_end == START + timedelta(minutes=1)
