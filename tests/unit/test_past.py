"""The simulated market's past, which must lead up to its present."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta, timezone
from itertools import islice

import pytest

from tapeline.model.times import to_millis
from tapeline.simulator.market import INSTRUMENTS, RandomMarket
from tapeline.simulator.past import past_frames

END = datetime(2026, 11, 23, 15, 0, tzinfo=timezone.utc)
START = END - timedelta(hours=3)


@pytest.fixture(scope="module")
def past():
    return list(past_frames(1, START, END))


def test_the_same_seed_has_the_same_past(past):
    assert list(past_frames(1, START, END)) == past
    assert list(past_frames(2, START, END)) != past


def test_trades_lie_between_the_two_times_and_come_in_order(past):
    times = [t["t"] for frame in past for t in frame.trades]
    assert times == sorted(times)
    assert to_millis(START) <= times[0] < to_millis(START) + 60_000
    assert to_millis(END) - 60_000 < times[-1] < to_millis(END)
    assert all(t["t"] < frame.due_ms <= to_millis(END) for frame in past for t in frame.trades)


def test_every_instrument_has_some_tens_of_thousands_together(past):
    symbols = {t["s"] for frame in past for t in frame.trades}
    assert symbols == {i.symbol for i in INSTRUMENTS}
    assert 20_000 < sum(len(frame.trades) for frame in past) < 60_000


def test_the_last_prices_are_those_at_which_the_live_market_begins(past):
    last = {t["s"]: t["p"] for frame in past for t in frame.trades}
    # A print of the past moves the price by 0.093 % (0.012 % times the root of 60) on average.
    for instrument in INSTRUMENTS:
        assert last[instrument.symbol] == pytest.approx(instrument.price, rel=0.006)


def mean_range_and_volume(frames, symbol, windows):
    prices, volumes = defaultdict(list), defaultdict(float)
    for frame in frames:
        for trade in frame.trades:
            if trade["s"] == symbol:
                prices[trade["t"] // 300_000].append(trade["p"])
                volumes[trade["t"] // 300_000] += trade["v"]
    ranges = [max(p) / min(p) - 1 for p in prices.values()]
    return sum(ranges) / windows, sum(volumes.values()) / windows


def test_bars_of_the_past_look_like_those_of_the_present(past):
    live = RandomMarket(1, 0, 100).frames(0)
    present = mean_range_and_volume(islice(live, 18_000), "NVDA", 6)  # half an hour
    before = mean_range_and_volume(past, "NVDA", 36)
    for then, now in zip(before, present, strict=True):
        assert 0.5 < then / now < 2
