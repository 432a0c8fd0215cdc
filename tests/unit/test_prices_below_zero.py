"""Oil on 2020-04-20: futures trade below zero, shares do not, and every reader says the same."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import orjson
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.audit.messages import sort_messages
from tapeline.audit.recompute import recompute_bars
from tapeline.consumer.transformations import calculate_ohlcv, parse_trade_from_avro
from tapeline.live.decode import decode_trade
from tapeline.live.fold import OpenBar
from tapeline.model.conditions import SIP
from tapeline.model.trade import Trade, encode_trade
from tapeline.model.venues import AssetClass, may_be_below_zero, venue_of
from tapeline.producer.validation import TradeFrame, parse_frame
from tests.audit_rows import a_trade, frame

# 16:09 New York.
MS = 1_587_413_340_000
START = datetime(2020, 4, 20, 20, 5, tzinfo=timezone.utc)
RECEIVED_US = MS * 1000 + 5_000_000
OIL = [(-37.63, 10.0), (-36.0, 10.0), (0.01, 1.0)]

FUTURES = ["CLK20", "ESZ5", "6EH26", "CLK20-CLM20", "CL=F", "NYMEX:CL1!", "CME_MINI:ES1!"]
OTHERS = ["AAPL", "CL", "K20", "CLK", "CLK2020", "clk20", "CLK20.L", "VOD.L", "BINANCE:CLK20"]
PRICES = [-1e11, -99_999_999_999.0, -37.63, -1e-9, 0.0, 1e-9, 37.0, 1e11, math.nan, math.inf]


@pytest.mark.parametrize("symbol", FUTURES)
def test_a_contract_or_a_venue_of_futures_is_one(symbol: str) -> None:
    assert may_be_below_zero(symbol)
    # Their hours differ by product: no session is better than a wrong one.
    assert venue_of(symbol) == (AssetClass.FUTURE, "unknown")


@pytest.mark.parametrize("symbol", OTHERS)
def test_what_only_looks_like_a_contract_is_none(symbol: str) -> None:
    assert not may_be_below_zero(symbol)


def is_right(symbol: str, price: float) -> bool:
    return 0 < price < 1e11 or (symbol in FUTURES and -1e11 < price <= 0)


def test_producer_stream_live_view_and_audit_accept_the_same_prices(spark: SparkSession) -> None:
    trades = [
        Trade(symbol, price, 1.0, MS, None, number, RECEIVED_US, 0, "replay")
        for number, (symbol, price) in enumerate((s, p) for s in FUTURES + OTHERS for p in PRICES)
    ]
    expected = [is_right(t.symbol, t.price) for t in trades]
    assert sum(expected) == len(FUTURES) * 6 + len(OTHERS) * 2
    received = datetime(2020, 4, 20, 20, 9, 5, tzinfo=timezone.utc)
    received_ms = RECEIVED_US // 1000
    values = [encode_trade(trade) for trade in trades]

    live = [decode_trade(value, received_ms) is not None for value in values]
    audited = sort_messages("t", 0, [(n, received_ms, None, v) for n, v in enumerate(values)])
    schema = "key binary, value binary, partition int, offset bigint, timestamp timestamp"
    rows = [(b"", value, 0, n, received) for n, value in enumerate(values)]
    parsed = parse_trade_from_avro(spark.createDataFrame(rows, schema))
    reasons = [row.reason for row in parsed.orderBy("kafka_offset").collect()]

    assert live == expected
    assert [n not in audited.invalid for n in range(len(trades))] == expected
    assert {frozenset(i.reasons) for i in audited.invalid.values()} == {frozenset({"bad_price"})}
    assert [reason is None for reason in reasons] == expected
    assert {reason for reason in reasons if reason} == {"bad_price"}
    for trade, right in zip(trades, expected, strict=True):
        if math.isfinite(trade.price):  # no other is JSON
            item = {"s": trade.symbol, "p": trade.price, "t": MS, "v": 1, "c": None}
            parsed_frame = parse_frame(orjson.dumps({"type": "trade", "data": [item]}), received_ms)
            assert isinstance(parsed_frame, TradeFrame)
            assert bool(parsed_frame.trades) is right, trade


def test_the_bar_of_that_evening_worked_by_hand(spark: SparkSession) -> None:
    """-37.63 * 10 - 36 * 10 + 0.01 = -736.29, and that over 21."""
    rows = [("CLK20", p, v, MS + 1000 * n, 0, n) for n, (p, v) in enumerate(OIL)]
    schema = "symbol string, price double, volume double, ms bigint, sequence int, trade_id bigint"
    trades = spark.createDataFrame(rows, schema).select(
        "*",
        F.timestamp_millis("ms").alias("event_time"),
        F.timestamp_micros(F.lit(RECEIVED_US)).alias("received_at"),
        F.lit(None).cast("array<string>").alias("conditions"),
    )
    (stored,) = calculate_ohlcv(trades, SIP).collect()
    open_bar = OpenBar("CLK20", MS // 300_000 * 300_000, 300_000, SIP)
    for symbol, price, size, ms, rank, trade_id in rows:
        open_bar.fold(Trade(symbol, price, size, ms, None, trade_id, RECEIVED_US, rank, "replay"))
    live = open_bar.bar()

    assert live.window_start == START
    assert live.window_end == START + timedelta(minutes=5)
    for bar in (stored.asDict(), {name: getattr(live, name) for name in live.__slots__}):
        assert [bar[n] for n in ("open", "high", "low", "close")] == [-37.63, 0.01, -37.63, 0.01]
        assert (bar["volume"], bar["notional"]) == (Decimal(21), Decimal("-736.29"))
        assert bar["vwap"] == pytest.approx(-736.29 / 21, rel=1e-15)
    assert (live.asset_class, live.session) == ("future", "unknown")


def test_the_audit_makes_the_same_bar() -> None:
    start_ms = MS // 300_000 * 300_000
    trades = frame(
        *(
            a_trade(
                symbol="CLK20",
                bucket_ms=start_ms,
                event_time_ms=MS + 1000 * n,
                trade_id=n,
                price=price,
                volume=size,
                conditions=None,
            )
            for n, (price, size) in enumerate(OIL)
        )
    )
    (bar,) = recompute_bars(trades, {("CLK20", START): SIP}).values()
    assert [bar[n] for n in ("open", "high", "low", "close")] == [-37.63, 0.01, -37.63, 0.01]
    assert (bar["volume"], bar["notional"]) == (Decimal(21), Decimal("-736.29"))
