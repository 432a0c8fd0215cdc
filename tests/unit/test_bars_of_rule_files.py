"""Bars by the rules of two made-up vendors, worked out by hand, on every path that makes bars."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.audit.recompute import recompute_bars
from tapeline.consumer.batch_summary import arrange, read_summary, summary_rows
from tapeline.consumer.silver_bars import collect_bars
from tapeline.consumer.transformations import calculate_ohlcv, parse_trade_from_avro
from tapeline.live.fold import OpenBar
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.rollup import combined
from tapeline.model.rules import Rules
from tapeline.model.times import floor_to, from_millis, to_millis
from tapeline.model.trade import Trade, encode_trade
from tapeline.program.rule_file import read_policy
from tests.audit_rows import silver_of
from tests.rule_files import ROUND_LOTS, TAPE_HOUSE

DAY = datetime(2026, 11, 20, tzinfo=timezone.utc)  # a Friday; 14:30 is 09:30 in New York
PRE = DAY.replace(hour=14, minute=25)
OPEN = DAY.replace(hour=14, minute=30)
FIVE = timedelta(minutes=5)

# Symbol, time after 14:00, price, size, conditions. London is open at 14:25.
TRADES = [
    ("AAPL", "25:00.000", 100.00, 200.0, ("@",)),
    ("AAPL", "26:00.000", 101.00, 50.0, ("I",)),
    ("AAPL", "27:00.000", 99.00, 300.0, ("T",)),
    ("AAPL", "28:00.000", 98.50, 100.0, ("@", "Z")),
    ("AAPL", "29:59.999", 102.00, 10.0, ("Q",)),
    ("AAPL", "30:00.000", 100.50, 100.0, None),
    ("AAPL", "31:00.000", 100.75, 99.0, ("@",)),
    ("AAPL", "32:00.000", 101.50, 400.0, ("T",)),
    ("AAPL", "33:00.000", 97.00, 100.0, ("Z",)),
    ("AAPL", "34:00.000", 100.25, 0.0, ("@",)),
    ("AAPL", "34:30.000", 103.00, 500.0, ("?",)),
    ("VOD.L", "25:00.000", 70.00, 150.0, ()),
    ("VOD.L", "26:00.000", 71.00, 150.0, ("T",)),
]

# Open, high, low, close, volume, notional, trades, of them without a price, and their volume.
BARS = {
    "tape-house": {
        # I adds volume, T may set prices before the opening, Z the low alone, Q nothing.
        ("AAPL", PRE): (100.0, 100.0, 98.5, 99.0, "650", "64600", 5, 2, "50"),
        # T may not in regular hours, nor may a letter that is not named; a size of 0 is the close.
        ("AAPL", OPEN): (100.5, 100.75, 97.0, 100.25, "1199", "121824.25", 6, 2, "900"),
        ("VOD.L", PRE): (70.0, 70.0, 70.0, 70.0, "300", "21150", 2, 1, "150"),
    },
    "round-lots": {
        ("AAPL", PRE): (None, None, None, None, "0", "0", 5, 5, "0"),
        # 99 shares set no price; what is not named may do all.
        ("AAPL", OPEN): (100.5, 103.0, 97.0, 103.0, "1199", "121824.25", 6, 1, "99"),
        ("VOD.L", PRE): (70.0, 71.0, 70.0, 71.0, "300", "21150", 2, 0, "0"),
    },
}
HOURS = {
    "tape-house": (100.0, 100.75, 97.0, 100.25, "1849", "186424.25", 11, 4, "950"),
    "round-lots": (100.5, 103.0, 97.0, 103.0, "1199", "121824.25", 11, 6, "99"),
}
NAMES = (
    *("open", "high", "low", "close", "volume", "notional"),
    *("trade_count", "unpriced_count", "unpriced_volume"),
)
VENDORS = pytest.mark.parametrize("file", [TAPE_HOUSE, ROUND_LOTS], ids=lambda p: p.name)


def trades() -> list[Trade]:
    found = []
    for number, (symbol, clock, price, size, conditions) in enumerate(TRADES):
        at = to_millis(datetime.fromisoformat(f"2026-11-20T14:{clock}+00:00"))
        found.append(Trade(symbol, price, size, at, conditions, number, at * 1000, 0, "test"))
    return found


def expected(rules: Rules) -> dict[WindowKey, dict[str, Any]]:
    bars = BARS[rules.name.partition("@")[0]]
    return {key: in_columns(values) for key, values in bars.items()}


def in_columns(values: tuple[Any, ...]) -> dict[str, Any]:
    return {
        name: Decimal(value) if isinstance(value, str) else value
        for name, value in zip(NAMES, values, strict=True)
    }


def values_of(bar: Bar) -> dict[str, Any]:
    return {name: getattr(bar, name) for name in NAMES}


def live_bars(rules: Rules) -> dict[WindowKey, Bar]:
    bars: dict[WindowKey, OpenBar] = {}
    for trade in reversed(trades()):
        start_ms = trade.event_time_ms - trade.event_time_ms % 300_000
        key = trade.symbol, from_millis(start_ms)
        bars.setdefault(key, OpenBar(trade.symbol, start_ms, 300_000, rules)).fold(trade)
    return {key: bar.bar() for key, bar in bars.items()}


@VENDORS
def test_the_live_view_makes_them(file):
    rules = read_policy(str(file))
    bars = live_bars(rules)
    assert {key: values_of(bar) for key, bar in bars.items()} == expected(rules)
    assert {bar.policy for bar in bars.values()} == {rules.name}


@VENDORS
def test_the_audit_makes_them(file):
    rules = read_policy(str(file))
    bars = recompute_bars(silver_of(trades()), dict.fromkeys(expected(rules), rules))
    assert {key: {n: bar[n] for n in NAMES} for key, bar in bars.items()} == expected(rules)
    assert {bar["policy"] for bar in bars.values()} == {rules.name}


@VENDORS
def test_an_hour_of_them_is_rolled_up(file):
    rules = read_policy(str(file))
    bars = live_bars(rules)
    hour = combined(
        [bars["AAPL", PRE], bars["AAPL", OPEN]], DAY.replace(hour=14), DAY.replace(hour=15)
    )
    assert values_of(hour) == in_columns(HOURS[rules.name.partition("@")[0]])
    assert (hour.policy, hour.session) == (rules.name, "mixed")


@VENDORS
def test_spark_makes_them(spark: SparkSession, file):
    rules = read_policy(str(file))
    columns = (
        "symbol string, event_ms bigint, price double, volume double, "
        "conditions array<string>, trade_id bigint, sequence int"
    )
    rows = [
        (
            *(t.symbol, t.event_time_ms, t.price, t.volume),
            *(None if t.conditions is None else list(t.conditions), t.trade_id, t.sequence),
        )
        for t in trades()
    ]
    given = (
        spark.createDataFrame(rows, columns)
        .withColumn("event_time", F.timestamp_millis("event_ms"))
        .withColumn("received_at", F.timestamp_millis("event_ms"))
    )
    bars = collect_bars(calculate_ohlcv(given, rules), rules)
    found = {(bar.symbol, bar.window_start): values_of(bar) for bar in bars}
    assert found == expected(rules)
    assert {bar.policy for bar in bars} == {rules.name}


@VENDORS
@pytest.mark.parametrize("interval", [Interval.FIVE_MINUTES, Interval.ONE_MINUTE])
def test_a_batch_of_the_stream_makes_them(spark: SparkSession, file, interval):
    rules = read_policy(str(file))
    schema = "key binary, value binary, partition int, offset bigint, timestamp timestamp"
    received = DAY.replace(hour=15)
    messages = [
        (t.symbol.encode(), encode_trade(t), 0, offset, received)
        for offset, t in enumerate(trades())
    ]
    parsed = parse_trade_from_avro(spark.createDataFrame(messages, schema))
    rows = summary_rows(arrange(parsed), rules, interval).collect()

    bars = defaultdict(list)
    for bar in read_summary(rows, "topic", rules, interval).bars:
        bars[bar.symbol, floor_to(FIVE, bar.window_start)].append(bar)

    found = {}
    for (symbol, start), parts in bars.items():
        parts.sort(key=lambda part: part.window_start)
        found[symbol, start] = values_of(combined(parts, start, start + FIVE))
    assert found == expected(rules)
