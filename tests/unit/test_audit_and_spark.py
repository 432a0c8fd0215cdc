"""The audit's own decoding and bars, and Spark's: two ways to the same, on random input."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.audit.messages import sort_messages
from tapeline.audit.recompute import recompute_bars
from tapeline.audit.tables import conditions_texts
from tapeline.consumer.silver_bars import collect_bars
from tapeline.consumer.transformations import calculate_ohlcv, parse_trade_from_avro
from tapeline.model import conditions as sale
from tapeline.model.bar import VALUES
from tapeline.model.conditions import SHIPPED
from tapeline.model.rules import Rules
from tapeline.model.trade import Trade, encode_trade
from tests.audit_rows import a_trade, frame
from tests.rule_files import ODD_TEXTS, random_rules

RECEIPT = datetime(2024, 3, 15, 14, 31, tzinfo=timezone.utc)
RECEIPT_MS = 1_710_513_060_000
MESSAGES = 3000
GOOD = encode_trade(
    Trade("TÄST", 10.0, 5.0, RECEIPT_MS - 999, ("1", "12"), -9, RECEIPT_MS * 1000, 2, "replay")
)
FIELDS = ("symbol", "price", "volume", "trade_id", "sequence", "source")

# Half an hour around the opening and the close of a day and of a half day, New York.
TIMES = [
    datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    for text in ("2026-11-20T14:20", "2026-11-20T20:50", "2026-11-27T17:50", "2026-07-03T14:20")
]
IDS = [*sorted(sale.KNOWN | {"99"}), *ODD_TEXTS]
SYMBOLS = (
    *("AAPL", "BINANCE:BTCUSDT", "OANDA:EUR_USD", "OANDA:XAU_USD", "VOD.L", "7203.T", "NYSE:IBM"),
    "SOMEWHERE:1",
)


def garbled(chance: random.Random) -> bytes:
    """Return a message of which bytes are changed or left out, or the end is cut off."""
    value = bytearray(GOOD)
    for _ in range(chance.randint(0, 3)):
        at, kind = chance.randrange(len(value)), chance.random()
        if kind < 0.6:
            value[at] = chance.randrange(256)
        elif kind < 0.9:
            del value[max(at, 1)]
        else:
            del value[max(at, 1) :]
        if len(value) == 1:
            break
    return bytes(value)


def test_both_decode_garbled_messages_alike(spark: SparkSession) -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    values = [garbled(chance) for _ in range(MESSAGES)]
    schema = "key binary, value binary, partition int, offset bigint, timestamp timestamp"
    rows = [(b"TEST", value, 1, offset, RECEIPT) for offset, value in enumerate(values)]
    parsed = {
        row.kafka_offset: row
        for row in parse_trade_from_avro(spark.createDataFrame(rows, schema))
        .withColumn("event_time_ms", F.unix_millis("event_time"))
        .withColumn("received_at_ms", F.unix_millis("received_at"))
        .drop("event_time", "received_at")
        .collect()
    }

    ours = sort_messages("topic", 1, [(n, RECEIPT_MS, b"", v) for n, v in enumerate(values)])

    invalid = {offset for offset, row in parsed.items() if row.reason is not None}
    assert ours.invalid.keys() == invalid
    for offset in invalid:
        assert parsed[offset].reason in ours.invalid[offset].reasons
    for trade in ours.trades.to_pylist():
        row = parsed[trade["kafka_offset"]]
        assert {f: trade[f] for f in FIELDS} == {f: row[f] for f in FIELDS}
        assert trade["event_time_ms"] == row.event_time_ms
        assert trade["received_at_ms"] == row.received_at_ms
        assert [trade["conditions"]] == conditions_texts([row.conditions])
    # Enough of both, and of more than one reason.
    assert min(len(invalid), ours.trades.num_rows) > MESSAGES // 10
    assert len({reason for bad in ours.invalid.values() for reason in bad.reasons}) > 3


def random_trade(chance: random.Random, trade_id: int) -> dict[str, Any]:
    time = chance.choice(TIMES) + timedelta(milliseconds=chance.randrange(1_800_000))
    time_ms = round(time.timestamp() * 1000)
    if chance.random() < 0.3:
        time_ms -= time_ms % 60_000  # several of one millisecond
    ids = chance.sample(IDS, chance.choice((0, 1, 1, 2, 2, 3, 4, 5, 6)))
    return a_trade(
        symbol=chance.choice(SYMBOLS),
        bucket_ms=time_ms - time_ms % 300_000,
        event_time_ms=time_ms,
        trade_id=trade_id * 7919,
        price=round(chance.uniform(0.00001, 500), chance.randint(2, 14)),
        volume=chance.choice((0.0, 1.0, 100.0, round(chance.uniform(0, 1e6), 8), 1.5e-9)),
        conditions=conditions_texts([ids])[0],
        sequence=chance.randrange(4),
    )


@pytest.mark.parametrize(
    "policy", [*SHIPPED.values(), *(random_rules(n, IDS) for n in range(4))], ids=str
)
def test_both_make_the_same_bars_of_random_trades(spark: SparkSession, policy: Rules) -> None:
    chance = random.Random(policy.name)  # noqa: S311 - no secret
    trades = [random_trade(chance, n) for n in range(2000)]
    schema = (
        "symbol string, event_ms bigint, trade_id bigint, price double, volume double, "
        "conditions array<string>, sequence int"
    )
    rows = [
        (
            *(t["symbol"], t["event_time_ms"], t["trade_id"], t["price"], t["volume"]),
            *(t["conditions"] and t["conditions"].split("\x1f"), t["sequence"]),
        )
        for t in trades
    ]
    bars = calculate_ohlcv(
        spark.createDataFrame(rows, schema)
        .withColumn("event_time", F.timestamp_millis("event_ms"))
        .withColumn("received_at", F.timestamp_millis("event_ms")),
        policy,
    )
    windows = {(bar.symbol, bar.window_start): bar for bar in collect_bars(bars, policy)}

    ours = recompute_bars(frame(*trades), dict.fromkeys(windows, policy))

    assert len(windows) > 60
    for key, bar in windows.items():
        assert ours[key] == {name: getattr(bar, name) for name in VALUES}
