"""The live view takes and refuses the messages that Spark does."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.consumer.transformations import parse_trade_from_avro
from tapeline.live.decode import decode_trade
from tapeline.model.trade import Trade, encode_trade

RECEIPT = datetime(2024, 3, 15, 14, 31, tzinfo=timezone.utc)
RECEIPT_MS = 1_710_513_060_000
MINUTE_MS = 60_000


def message(**changes: object) -> bytes:
    fields = {
        "symbol": "TÄST",
        "price": 10.0,
        "volume": 5.0,
        "event_time_ms": RECEIPT_MS - 999,
        "conditions": ("1", "12"),
        "trade_id": -9,
        "received_at_us": RECEIPT_MS * 1000,
        "sequence": 2,
        "source": "replay",
    }
    return encode_trade(Trade(**{**fields, **changes}))  # type: ignore[arg-type]


def with_branch(branch: bytes) -> bytes:
    """Return a message whose conditions are said to be of another branch of the union."""
    some, none = message(), message(conditions=None)
    at = next(i for i, (a, b) in enumerate(zip(some, none, strict=False)) if a != b)
    return some[:at] + branch + some[at + 1 :]


def long(number: int) -> bytes:
    """Return a whole number as Avro writes it."""
    number, written = (number << 1) ^ (number >> 63), b""
    while number > 0x7F:
        written, number = written + bytes([number & 0x7F | 0x80]), number >> 7
    return written + bytes([number])


# No string and no list is longer than its message, whatever it says of its length.
LENGTHS = [long(n) for n in (2**20 + 1, 10**8, 2**31 - 9, 2**31 - 1, 2**40, 2**62, -1, -(2**62))]

EDGES = [
    *(message(price=p) for p in (0.0, -1.0, 1e11, 99_999_999_999.0, float("nan"), float("inf"))),
    *(message(volume=v) for v in (0.0, -0.0, -1.0, 1e13, 9e12, float("nan"), float("-inf"))),
    *(message(symbol=s) for s in ("", "x" * 128, "x" * 129, "ä" * 128)),
    *(message(event_time_ms=RECEIPT_MS + MINUTE_MS + late) for late in (-1, 0, 1)),
    *(message(event_time_ms=t) for t in (946_684_799_999, 946_684_800_000, 1_710_513_060)),
    # The producer's clock is behind or ahead of the broker's, which bounds it to a day.
    message(received_at_us=RECEIPT_MS * 1000 - 60_000_000 - 999_001),
    message(received_at_us=RECEIPT_MS * 1000 - 60_000_000 - 998_999),
    message(received_at_us=RECEIPT_MS * 3000, event_time_ms=RECEIPT_MS + 2 * MINUTE_MS),
    *(
        message(received_at_us=RECEIPT_MS * 3000, event_time_ms=RECEIPT_MS + 1441 * MINUTE_MS + by)
        for by in (-1, 0, 1)
    ),
    message(received_at_us=2**63 - 1),
    message(received_at_us=-(2**63)),
    *(message(sequence=n) for n in (-1, 65_536, 2**31 - 1, -(2**31))),
    *(message(conditions=c) for c in (None, (), ("1",))),
    *(with_branch(branch) for branch in (b"\x02", b"\x01", b"\x03", b"\x04", b"\xff\x01")),
    *(message()[:10] + length + message()[11:] for length in LENGTHS),
    *(with_branch(b"\x02" + length) for length in LENGTHS),
    *(with_branch(b"\x02" + long(-2) + length) for length in LENGTHS),
    *(with_branch(b"\x02\x02" + length) for length in LENGTHS),
    b"",
    b"\xc3\x01",
    b"\xc3\x01" + b"12345678" + message()[10:],
    message() + b"more",
]


def garbled(chance: random.Random) -> bytes:
    """Return a message of which bytes are changed or left out, or the end is cut off."""
    value = bytearray(message())
    for _ in range(chance.randint(1, 3)):
        at, kind = chance.randrange(len(value)), chance.random()
        if kind < 0.6:
            value[at] = chance.randrange(256)
        elif kind < 0.9:
            del value[max(at, 1)]
        else:
            del value[max(at, 1) :]
    return bytes(value)


def test_it_decodes_what_spark_decodes_and_nothing_else(spark: SparkSession) -> None:
    chance = random.Random(2)  # noqa: S311 - no secret
    values = [*EDGES, *(garbled(chance) for _ in range(2000))]
    schema = "key binary, value binary, partition int, offset bigint, timestamp timestamp"
    rows = [(b"TEST", value, 1, offset, RECEIPT) for offset, value in enumerate(values)]
    parsed = {
        row.kafka_offset: row
        for row in parse_trade_from_avro(spark.createDataFrame(rows, schema))
        .withColumn("event_time_ms", F.unix_millis("event_time"))
        .withColumn("received_at_us", F.unix_micros("received_at"))
        .drop("event_time", "received_at")
        .collect()
    }
    valid = 0
    for offset, value in enumerate(values):
        row, ours = parsed[offset], decode_trade(value, RECEIPT_MS)
        assert (ours is not None) == (row.reason is None), (offset, value, row.reason, ours)
        if ours is None:
            continue
        valid += 1
        conditions = None if row.conditions is None else tuple(row.conditions)
        assert ours == Trade(
            *(row.symbol, row.price, row.volume, row.event_time_ms, conditions),
            *(row.trade_id, row.received_at_us, row.sequence, row.source),
        )
    assert min(valid, len(values) - valid) > len(values) // 10
    assert decode_trade(None, RECEIPT_MS) is None


def test_a_broker_whose_clock_is_hours_off_makes_no_trade_invalid(spark: SparkSession) -> None:
    schema = "key binary, value binary, partition int, offset bigint, timestamp timestamp"
    received = {hours: RECEIPT + timedelta(hours=hours) for hours in (-23, -1, 1, 23)}
    rows = [(b"TEST", message(), 1, hours + 100, at) for hours, at in received.items()]

    reasons = [
        row.reason for row in parse_trade_from_avro(spark.createDataFrame(rows, schema)).collect()
    ]

    assert reasons == [None] * 4
    for hours in received:
        assert decode_trade(message(), RECEIPT_MS + hours * 60 * MINUTE_MS) is not None
