"""The random market: repeatable, alive, and made of trades that the producer takes."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import orjson
import pytest

from tapeline.producer.validation import TradeFrame, parse_frame
from tapeline.simulator.market import RandomMarket

START_MS = 1_763_649_000_000
FRAME_MS = 100


def market(seed=1):
    return RandomMarket(seed, START_MS, FRAME_MS)


@pytest.fixture(scope="module")
def minute():
    """About a minute of market, frame by frame."""
    return list(islice(market().frames(START_MS), 600))


@pytest.fixture(scope="module")
def trades(minute):
    return [t for frame in minute for t in frame.trades]


def test_the_same_seed_gives_the_same_frames():
    assert list(islice(market(7).frames(START_MS), 50)) == list(
        islice(market(7).frames(START_MS), 50)
    )


def test_another_seed_gives_other_frames():
    assert list(islice(market(7).frames(START_MS), 50)) != list(
        islice(market(8).frames(START_MS), 50)
    )


def test_the_same_seed_walks_the_same_prices_at_another_time():
    one = islice(market(7).frames(START_MS), 50)
    two = islice(market(7).frames(START_MS + 86_400_000), 50)
    assert [[(t["s"], t["p"], t["v"]) for t in f.trades] for f in one] == [
        [(t["s"], t["p"], t["v"]) for t in f.trades] for f in two
    ]


def test_frames_start_now_and_are_due_one_after_the_other(minute):
    due = [f.due_ms for f in minute]
    assert due[0] > START_MS
    assert due == sorted(set(due))
    assert all((d - START_MS) % FRAME_MS == 0 for d in due)


def test_a_frame_holds_the_trades_of_its_own_hundred_milliseconds_sorted_by_time(minute):
    for frame in minute:
        times = [t["t"] for t in frame.trades]
        assert times == sorted(times)
        assert frame.due_ms - FRAME_MS <= times[0]
        assert times[-1] <= frame.due_ms


def test_no_frame_is_empty(minute):
    assert min(len(f.trades) for f in minute) > 0


def test_there_are_equities_crypto_and_fx(trades):
    symbols = {t["s"] for t in trades}
    assert {"AAPL", "KO", "BINANCE:BTCUSDT", "OANDA:EUR_USD"} <= symbols
    assert symbols <= set(market().symbols)


def test_many_trades_are_twins_of_another(trades):
    counts = Counter(orjson.dumps(t, option=orjson.OPT_SORT_KEYS) for t in trades)
    twins = sum(n - 1 for n in counts.values())
    # finnhub.md: 15 to 28 % on real tapes.
    assert 0.10 < twins / len(trades) < 0.30


def test_odd_lots_are_small_and_marked_12(trades):
    equities = [t for t in trades if ":" not in t["s"]]
    odd_lots = [t for t in equities if "12" in t["c"]]
    assert 0.3 < len(odd_lots) / len(equities) < 0.6
    assert all(1 <= t["v"] <= 99 for t in odd_lots)
    assert all(t["v"] >= 100 for t in equities if "12" not in t["c"])


def test_crypto_and_fx_carry_no_conditions_and_some_zero_sizes(trades):
    elsewhere = [t for t in trades if ":" in t["s"]]
    assert all(t["c"] is None for t in elsewhere)
    assert {t["v"] for t in elsewhere if t["s"] == "OANDA:EUR_USD"} == {0.0}
    bitcoin = [t["v"] for t in elsewhere if t["s"] == "BINANCE:BTCUSDT"]
    assert 0.0 in bitcoin
    assert max(bitcoin) > 0.0


def test_some_seconds_are_far_busier_than_others(minute):
    per_second = Counter((f.due_ms - START_MS) // 1000 for f in minute for _ in f.trades)
    assert max(per_second.values()) > 1.5 * min(per_second.values())


def test_prices_stay_near_where_they_started(trades):
    assert all(250 < t["p"] < 300 for t in trades if t["s"] == "AAPL")
    assert all(1.0 < t["p"] < 1.3 for t in trades if t["s"] == "OANDA:EUR_USD")


def test_prices_lie_on_the_tick(trades):
    assert all(round(t["p"], 2) == t["p"] for t in trades if ":" not in t["s"])
    assert all(round(t["p"], 5) == t["p"] for t in trades if t["s"] == "OANDA:EUR_USD")


def test_the_producer_takes_every_trade(minute):
    for frame in minute:
        text = orjson.dumps({"data": frame.trades, "type": "trade"})
        parsed = parse_frame(text, frame.due_ms)
        assert isinstance(parsed, TradeFrame)
        assert parsed.rejects == ()
        assert len(parsed.trades) == len(frame.trades)


def test_who_connects_later_hears_only_what_comes_then():
    late = START_MS + 3_600_000
    frame = next(market().frames(late))
    assert all(late <= t["t"] for t in frame.trades)
