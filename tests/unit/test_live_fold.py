"""The fold of the live view, Spark's `calculate_ohlcv` and the audit: one definition, three ways.

Whatever the order of the trades, however often one comes, and whatever it may update.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.audit.recompute import recompute_bars
from tapeline.consumer.silver_bars import collect_bars
from tapeline.consumer.transformations import (
    FIVE_MINUTES,
    ONE_MINUTE,
    apply_watermark,
    calculate_ohlcv,
)
from tapeline.live.fold import OpenBar
from tapeline.model import conditions as sale
from tapeline.model.bar import VALUES, Bar, WindowKey
from tapeline.model.conditions import SHIPPED, SIP
from tapeline.model.rules import Rules
from tapeline.model.times import to_millis
from tapeline.model.trade import Trade
from tests.audit_rows import silver_of
from tests.rule_files import ODD_TEXTS, random_rules

CONDITIONS = [*sorted(sale.KNOWN | {"99"}), *ODD_TEXTS]
# None stands for a random file of rules.
POLICIES = pytest.mark.parametrize("policy", [*SHIPPED.values(), None], ids=str)
RULES = st.integers(0, 1 << 32).map(lambda seed: random_rules(seed, CONDITIONS))
LENGTHS = {FIVE_MINUTES: 300_000, ONE_MINUTE: 60_000}
# Around New York's opening and close, a half day's close, a weekend, and midnight in UTC.
STARTS = [
    to_millis(datetime.fromisoformat(text).replace(tzinfo=timezone.utc))
    for text in (
        "2026-11-20T14:25",
        "2026-11-20T20:55",
        "2026-11-27T17:55",
        "2026-11-21T15:00",
        "2026-11-23T23:55",
    )
]
# More than ten places, large and small, and sizes of which a product ends in a half.
PRICES = st.sampled_from(
    [
        100.0,
        100.5,
        0.00015,
        271.49,
        12.3456789012345,
        99_999_999.25,
        1.6743e-09,
        2.5e-15,
        1.5e-26,
        -37.63,
    ]
)
SIZES = st.sampled_from([0.0, 1.0, 100.0, 0.00000000015, 1.5e-9, 123_456.789, 7e12, 0.3, 2e9])
COLUMNS = "symbol string, price double, volume double, event_ms bigint, conditions array<string>, "
SCHEMA = COLUMNS + "trade_id bigint, received_us bigint, sequence int, source string"


@st.composite
def trades(draw: st.DrawFn) -> list[Trade]:
    """Draw trades that crowd into few milliseconds, and copies of some with other ranks."""
    found = []
    for number in range(draw(st.integers(1, 60))):
        start_ms = draw(st.sampled_from(STARTS))
        moment = st.one_of(st.sampled_from([0, 299_999, 300_000]), st.integers(0, 600_000))
        time_ms = start_ms + draw(st.one_of(moment, st.just(150_000)))
        ids = draw(st.lists(st.sampled_from(CONDITIONS), max_size=3))
        found.append(
            Trade(
                draw(
                    st.sampled_from(
                        ["AAPL", "BINANCE:BTCUSDT", "OANDA:EUR_USD", "VOD.L", "SOMEWHERE:1"]
                    )
                ),
                draw(PRICES),
                draw(SIZES),
                time_ms,
                draw(st.sampled_from([tuple(ids), tuple(ids) or None])),
                # The low bits differ, so that no two trades have one place in the order.
                number * 7919 - (1 << 62),
                time_ms * 1000,
                draw(st.sampled_from([0, 1, 2, 65_535, 70_000])),
                "test",
            )
        )
    return found


def folded(some: list[Trade], policy: Rules, length_ms: int) -> dict[WindowKey, Bar]:
    bars: dict[tuple[str, int], OpenBar] = {}
    for trade in some:
        start_ms = trade.event_time_ms - trade.event_time_ms % length_ms
        key = trade.symbol, start_ms
        bars.setdefault(key, OpenBar(trade.symbol, start_ms, length_ms, policy)).fold(trade)
    return {(b.symbol, b.window_start): b for b in (found.bar() for found in bars.values())}


def by_spark(
    spark: SparkSession, some: list[Trade], policy: Rules, interval: str
) -> dict[WindowKey, Bar]:
    rows = [
        (
            *(t.symbol, t.price, t.volume, t.event_time_ms),
            *(None if t.conditions is None else list(t.conditions), t.trade_id),
            *(t.received_at_us, t.sequence, t.source),
        )
        for t in some
    ]
    frame_ = (
        spark.createDataFrame(rows, SCHEMA)
        .withColumn("event_time", F.timestamp_millis("event_ms"))
        .withColumn("received_at", F.timestamp_micros("received_us"))
    )
    bars = collect_bars(calculate_ohlcv(apply_watermark(frame_, 600), policy, interval), policy)
    return {(bar.symbol, bar.window_start): bar for bar in bars}


def by_audit(some: list[Trade], keys: Any, policy: Rules) -> dict[WindowKey, Any]:
    return recompute_bars(silver_of(some), dict.fromkeys(keys, policy))


def lowest_ranks(some: list[Trade]) -> list[Trade]:
    """Return each trade once, as silver keeps it."""
    copies: defaultdict[int, list[Trade]] = defaultdict(list)
    for trade in some:
        copies[trade.trade_id].append(trade)
    return [min(same, key=lambda t: t.sequence) for same in copies.values()]


@POLICIES
@given(some=trades(), data=st.data())
@settings(max_examples=60)
def test_any_order_and_any_copies_give_the_bars_of_the_audit(
    policy: Rules | None, some: list[Trade], data: st.DataObject
) -> None:
    policy = policy or data.draw(RULES)
    copies = [
        Trade(
            *(t.symbol, t.price, t.volume, t.event_time_ms, t.conditions, t.trade_id),
            t.received_at_us + 5,
            rank,
            "again",
        )
        for t, rank in data.draw(
            st.lists(st.tuples(st.sampled_from(some), st.integers(0, 70_000)), max_size=30)
        )
    ]
    came = data.draw(st.permutations(some + copies))

    ours = folded(came, policy, 300_000)

    expected = by_audit(lowest_ranks(came), ours.keys(), policy)
    assert ours.keys() == expected.keys()
    for key, bar in ours.items():
        assert {name: getattr(bar, name) for name in VALUES} == expected[key]


@pytest.mark.parametrize("interval", list(LENGTHS))
@POLICIES
@given(batches=st.lists(trades(), min_size=8, max_size=8), data=st.data())
@settings(max_examples=3)
def test_any_order_and_redeliveries_give_the_bars_of_spark(
    spark: SparkSession,
    policy: Rules | None,
    interval: str,
    batches: list[list[Trade]],
    data: st.DataObject,
) -> None:
    """Many trades in one example, since a job of Spark's takes longer than all the rest."""
    policy = policy or data.draw(RULES)
    some = _apart(batches)
    again = data.draw(st.lists(st.sampled_from(some), max_size=30))
    came = data.draw(st.permutations(some + again))

    assert folded(came, policy, LENGTHS[interval]) == by_spark(spark, came, policy, interval)


def _apart(batches: list[list[Trade]]) -> list[Trade]:
    """Give each batch ids of its own; the low bits stay apart too."""
    return [
        Trade(
            *(t.symbol, t.price, t.volume, t.event_time_ms, t.conditions),
            t.trade_id + 60 * 7919 * number,
            *(t.received_at_us, t.sequence, t.source),
        )
        for number, batch in enumerate(batches)
        for t in batch
    ]


def test_a_copy_with_a_lower_rank_takes_the_close_from_the_trade_that_it_is() -> None:
    """Two trades of one millisecond: the first is heard of as third, then as first."""

    def trade(trade_id: int, rank: int, price: float) -> Trade:
        return Trade("AAPL", price, 1.0, STARTS[0], None, trade_id, 5, rank, "test")

    bar = OpenBar("AAPL", STARTS[0], 300_000, SIP)
    assert [bar.fold(trade(1, 2, 10.0)), bar.fold(trade(2, 1, 20.0))] == [True, True]
    assert (bar.bar().open, bar.bar().close) == (20.0, 10.0)
    assert not bar.fold(trade(1, 0, 10.0))
    assert (bar.bar().open, bar.bar().close) == (10.0, 20.0)
    assert (bar.bar().trade_count, bar.bar().volume) == (2, Decimal(2))
