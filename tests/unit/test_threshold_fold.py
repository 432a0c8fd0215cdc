"""Tick, volume and dollar bars: of the hand-worked tape, and of random trades by another way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import chain, count, islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.model.bar import Bar
from tapeline.model.conditions import ALL, SIP
from tapeline.model.sessions import Session
from tapeline.model.threshold import Threshold, parse_length
from tapeline.model.times import to_millis
from tapeline.program.rule_file import read_policy
from tapeline.read.threshold_fold import ThresholdFold, in_order
from tests.rule_files import ROUND_LOTS

START = to_millis(datetime(2024, 3, 15, 14, 30, tzinfo=timezone.utc))
RECEIVED_MS = START + 5_000
Row = tuple[Any, ...]


def row(at_ms: int, rank: int, price: float, size: float, *conditions: str) -> Row:
    """A row of silver: time, id, price, size, conditions, rank, receipt, source."""
    trade_id = hash((at_ms, rank, price, size)) % 2**62
    return (at_ms, trade_id, price, size, [*conditions] or None, rank, RECEIVED_MS, "replay")


# tests/data/hand.trades.csv, symbol TEST, in the order of its trades.
HAND = [
    row(START + 100, 0, 10.00, 100, "1"),
    row(START + 100, 1, 10.00, 100, "1"),
    row(START + 100, 2, 10.05, 50, "1"),
    row(START + 200, 0, 9.90, 40, "1"),
    row(START + 250, 0, 11.00, 10, "1", "12"),
    row(START + 299_999, 0, 9.95, 200, "1"),
    row(START + 299_999, 1, 10.02, 100, "1"),
    row(START + 300_000, 0, 12.00, 5, "1", "12"),
    row(START + 600_000, 0, 10.10, 0, "1"),
    row(START + 600_500, 0, 10.20, 30, "1"),
    row(START + 600_600, 0, 99.00, 1000, "16"),
    row(START + 600_700, 0, 10.50, 20, "1", "30"),
    row(START + 600_800, 0, 50.00, 7, "1", "24"),
    row(START + 600_900, 0, 77.00, 3, "1", "99"),
    row(START + 7_200_000, 0, 10.30, 100, "1"),
]
# Open, high, low, close, volume, notional, trades; worked out on paper under policy sip.
BY_HAND = {
    "5tick": [
        (10.00, 10.05, 9.90, 9.90, "300", "3008.5", 5),
        (9.95, 10.20, 9.95, 10.20, "335", "3358", 5),
        (10.30, 10.50, 10.30, 10.30, "130", "1821", 5),
    ],
    "200volume": [
        (10.00, 10.00, 10.00, 10.00, "200", "2000", 2),
        (10.05, 10.05, 9.90, 9.95, "300", "2998.5", 4),
        (10.02, 10.50, 10.02, 10.30, "265", "3189", 9),
    ],
    "3000dollar": [
        (10.00, 10.05, 9.90, 9.90, "300", "3008.5", 5),
        (9.95, 10.02, 9.95, 10.02, "305", "3052", 3),
        (10.10, 10.50, 10.10, 10.30, "160", "2127", 7),
    ],
}


def a_fold(length: str, rules=SIP, factor: Fraction = Fraction(1), symbol: str = "TEST"):
    threshold = parse_length(length)
    assert isinstance(threshold, Threshold)
    return ThresholdFold(symbol, threshold, rules, Session.REGULAR, factor)


def bars_of(fold: ThresholdFold, pieces: Iterable[Iterable[Row]]) -> list[Bar]:
    """Fold rows that come in pieces, and what is left."""
    found = [fold.take(trade) for rows in pieces for trade in in_order("TEST", rows)]
    return [bar for bar in (*found, fold.rest()) if bar is not None]


def values(bar: Bar) -> tuple[Any, ...]:
    return (
        *(bar.open, bar.high, bar.low, bar.close),
        *(bar.volume, bar.notional, bar.trade_count),
    )


def by_hand(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*r[:4], Decimal(r[4]), Decimal(r[5]), r[6]) for r in rows]


@pytest.mark.parametrize("length", BY_HAND)
def test_bars_of_the_tape_that_was_worked_by_hand(length):
    assert [values(bar) for bar in bars_of(a_fold(length), [HAND])] == by_hand(BY_HAND[length])


def test_all_other_columns_of_a_bar():
    first = bars_of(a_fold("5tick"), [HAND])[0]
    assert first == replace(
        first,
        symbol="TEST",
        window_start=datetime(2024, 3, 15, 14, 30, 0, 100_000, timezone.utc),
        window_end=datetime(2024, 3, 15, 14, 30, 0, 250_000, timezone.utc),
        vwap=3008.5 / 300,
        unpriced_count=1,
        unpriced_volume=Decimal(10),
        first_trade_time=first.window_start,
        last_trade_time=first.window_end,
        first_received_at=datetime(2024, 3, 15, 14, 30, 5, tzinfo=timezone.utc),
        session="regular",
        asset_class="equity",
        policy="sip",
        is_final=False,
        is_complete=None,
        revision=0,
    )


def test_rank_decides_within_a_millisecond_and_not_the_id():
    """Silver has them by id."""
    shuffled = [HAND[2], HAND[0], HAND[1], *HAND[3:]]
    for length, expected in BY_HAND.items():
        assert [values(b) for b in bars_of(a_fold(length), [shuffled])] == by_hand(expected)


def test_a_trade_larger_than_the_threshold_is_one_bar_and_never_split():
    rows = [row(START + n, 0, 10.0, size) for n, size in enumerate([30, 1000, 30])]
    bars = bars_of(a_fold("100volume", ALL), [rows])
    assert [(b.volume, b.trade_count) for b in bars] == [(1030, 2), (30, 1)]


def test_prices_below_zero_are_money_too():
    """Oil in April 2020: 2 at -40 and 3 at 20 are 140 dollars, and a notional of -20."""
    rows = [row(START, 0, -40.0, 2), row(START + 1, 0, 20.0, 3), row(START + 2, 0, 1.0, 1)]
    bars = bars_of(a_fold("140dollar", ALL, symbol="CLK20"), [rows])
    assert [(b.notional, b.trade_count) for b in bars] == [(-20, 2), (1, 1)]


def test_no_trade_that_may_set_prices():
    (bar,) = bars_of(a_fold("2tick"), [[HAND[4], HAND[10]]])
    assert values(bar) == (None, None, None, None, Decimal(10), Decimal(110), 2)


def test_rules_of_a_session_and_of_small_trades_hold_here_too():
    """round-lots takes no price of fewer than 100 shares, and none outside regular hours."""
    rules = read_policy(str(ROUND_LOTS))
    threshold = parse_length("5tick")
    assert isinstance(threshold, Threshold)
    by_day = ThresholdFold("TEST", threshold, rules, Session.REGULAR)
    at_night = ThresholdFold("TEST", threshold, rules, Session.POST)
    assert values(bars_of(by_day, [HAND[:5]])[0])[:5] == (10.0, 10.0, 10.0, 10.0, 300)
    assert values(bars_of(at_night, [HAND[:5]])[0])[:4] == (None,) * 4


def test_amounts_are_exact():
    rows = [row(START + n, 0, 0.1, 0.1) for n in range(10)]
    bars = bars_of(a_fold("0.3volume", ALL), [rows])
    assert [(b.volume, b.notional, b.trade_count) for b in bars] == [
        *[(Decimal("0.3"), Decimal("0.03"), 3)] * 3,
        (Decimal("0.1"), Decimal("0.01"), 1),
    ]


def test_volume_bars_count_what_is_adjusted_and_others_are_cut_as_before():
    """Four for one: 200 adjusted are 50 traded. Worked out on paper."""
    split = bars_of(a_fold("200volume", factor=Fraction(4)), [HAND])
    assert [b.volume for b in split] == [400, 400, 200, 200, 800, 400, 220, 440]
    for length in ("5tick", "3000dollar"):
        whole = by_hand(BY_HAND[length])
        adjusted = [values(b) for b in bars_of(a_fold(length, factor=Fraction(4)), [HAND])]
        assert [a[4] for a in adjusted] == [w[4] * 4 for w in whole]
        assert [a[5:] for a in adjusted] == [w[5:] for w in whole]
        assert adjusted[0][:4] == (2.5, 2.5125, 2.475, 2.475)


def test_a_row_that_lacks_a_value_counts_for_nothing():
    broken = [(START + 150, 7, None, 1.0, None, 0, RECEIVED_MS, "replay"), *HAND[3:]]
    assert len(list(in_order("TEST", broken))) == len(HAND) - 3


def test_no_more_than_a_millisecond_is_held():
    endless = (row(START + n, 0, 1.0, 1.0) for n in count())
    assert [t.event_time_ms - START for t in islice(in_order("TEST", endless), 3)] == [0, 1, 2]


@st.composite
def crowded(draw: st.DrawFn) -> list[Row]:
    """Draw trades that crowd into few milliseconds, in silver's order, by time and id."""
    sizes = st.sampled_from([0.0, 0.1, 1.0, 7.5, 100.0, 12_345.0])
    prices = st.sampled_from([9.9, 10.0, 10.05, 0.3])
    times = st.integers(0, 12)
    drawn = draw(st.lists(st.tuples(times, prices, sizes), min_size=1, max_size=60))
    rows = [row(START + at, rank, price, size) for rank, (at, price, size) in enumerate(drawn)]
    return sorted(rows, key=lambda r: (r[0], r[1]))


def greedy(rows: list[Row], length: str) -> Iterator[tuple[Any, ...]]:
    """The same bars by the shortest way: cut a list wherever a running sum is reached."""
    kind = length.lstrip("0123456789.")
    goal = Decimal(length.removesuffix(kind))
    bar: list[Row] = []
    for one in sorted(rows, key=lambda r: (r[0], r[5])):
        bar.append(one)
        sizes = [Decimal(repr(r[3])) for r in bar]
        money = [Decimal(repr(r[2])) * size for r, size in zip(bar, sizes, strict=True)]
        sums = {"tick": Decimal(len(bar)), "volume": sum(sizes), "dollar": sum(money)}
        prices = [r[2] for r in bar]
        last = (prices[0], max(prices), min(prices), prices[-1], sum(sizes), sum(money), len(bar))
        if sums[kind] >= goal:
            yield last
            bar = []
    if bar:
        yield last


LENGTHS = st.sampled_from(["1tick", "7tick", "0.1volume", "100volume", "33.3dollar", "5000dollar"])


@given(crowded(), LENGTHS)
def test_random_trades_give_what_a_running_sum_gives(rows, length):
    assert [values(b) for b in bars_of(a_fold(length, ALL), [rows])] == list(greedy(rows, length))


@given(crowded(), LENGTHS, st.lists(st.integers(0, 60)), st.lists(st.integers(0, 12)))
def test_wherever_pages_and_windows_are_cut_the_bars_are_the_same(rows, length, pages, windows):
    whole = bars_of(a_fold(length, ALL), [rows])

    cuts = sorted({0, len(rows), *(cut for cut in pages if cut <= len(rows))})
    in_pages = chain.from_iterable(rows[a:b] for a, b in pairwise(cuts))
    assert bars_of(a_fold(length, ALL), [in_pages]) == whole

    edges = [START, *(START + w for w in sorted(windows)), START + 13]
    of_windows = [[r for r in rows if a <= r[0] < b] for a, b in pairwise(edges)]
    assert bars_of(a_fold(length, ALL), of_windows) == whole
