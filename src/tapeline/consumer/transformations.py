"""The transformations of the stream: pure functions from DataFrame to DataFrame.

No session, no input or output, no settings, no clock: the same functions serve streaming
queries, finalizing and rebuilding.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the usual name
from pyspark.sql.avro.functions import from_avro

from tapeline.consumer.bar_columns import bar_aggregates, contributions, selected
from tapeline.model.bar import Interval
from tapeline.model.reasons import (
    BROKER_MOST_OFF_MS,
    EARLIEST_EVENT_TIME_MS,
    LATEST_AHEAD_MS,
    MAX_SYMBOL_CHARACTERS,
    PRICE_LIMIT,
    VOLUME_LIMIT,
    Reason,
)
from tapeline.model.rules import Rules
from tapeline.model.trade import SINGLE_OBJECT_MARKER, TRADE_FINGERPRINT, TRADE_SCHEMA_JSON
from tapeline.model.venues import FUTURES

ONE_MINUTE: Final = "1 minute"
FIVE_MINUTES: Final = "5 minutes"

_HEADER_BYTES: Final = 10
_FUTURE: Final = f"^{FUTURES}$"


def parse_trade_from_avro(
    messages: DataFrame, writer_schemas: Mapping[bytes, str] | None = None
) -> DataFrame:
    """Decode Kafka messages into trades; what cannot be one gets a `reason`.

    Args:
        messages: Kafka's columns `key`, `value`, `partition`, `offset`, `timestamp`.
        writer_schemas: Avro schema (JSON) by fingerprint of every version that may have been
            written; today's alone by default.

    Returns:
        message_key, message, kafka_partition, kafka_offset, kafka_timestamp, the trade's
        columns (null where it does not decode), reason (null when the trade is valid), and
        valid_time (the event time of a valid trade, null otherwise).
    """
    schemas = writer_schemas or {TRADE_FINGERPRINT: TRADE_SCHEMA_JSON}
    value = F.col("value")
    has_marker = F.substring(value, 1, 2) == F.lit(SINGLE_OBJECT_MARKER)
    fingerprint = F.substring(value, 3, 8)
    body = F.expr(f"substring(value, {_HEADER_BYTES + 1})")
    options = {"mode": "PERMISSIVE", "avroSchema": TRADE_SCHEMA_JSON}
    decoded = F.coalesce(
        *(
            F.when(has_marker & (fingerprint == F.lit(known)), from_avro(body, schema, options))
            for known, schema in schemas.items()
        )
    )
    is_known_schema = fingerprint.isin([F.lit(known) for known in schemas])
    unreadable = F.when(has_marker & ~is_known_schema, Reason.UNKNOWN_SCHEMA.value).otherwise(
        Reason.UNDECODABLE.value
    )
    return (
        messages.select(
            F.col("key").alias("message_key"),
            value.alias("message"),
            F.col("partition").alias("kafka_partition"),
            F.col("offset").alias("kafka_offset"),
            F.col("timestamp").alias("kafka_timestamp"),
            decoded.alias("trade"),
            unreadable.alias("unreadable"),
        )
        .select("*", "trade.*")
        .withColumn(
            "reason",
            F.when(F.col("symbol").isNull(), F.col("unreadable")).otherwise(invalid_reason()),
        )
        .withColumn("valid_time", F.when(F.col("reason").isNull(), F.col("event_time")))
        .drop("trade", "unreadable")
    )


def invalid_reason() -> Column:
    """Return why a decoded trade is not valid, null when it is.

    Impossible times go first of all: one trade of the year 2099 before the watermark would
    silence the stream.
    """
    price, volume, event_time = F.col("price"), F.col("volume"), F.col("event_time")
    earliest = F.timestamp_millis(F.lit(EARLIEST_EVENT_TIME_MS))
    # The broker's clock may be wrong, and bounds only roughly what travels in the message.
    broker_latest = F.col("kafka_timestamp") + F.expr(
        f"INTERVAL {BROKER_MOST_OFF_MS // 1000} SECONDS"
    )
    receipt = F.least(F.col("received_at"), broker_latest)
    latest = receipt + F.expr(f"INTERVAL {LATEST_AHEAD_MS // 1000} SECONDS")
    is_bad_time = (event_time < earliest) | (event_time > latest)
    # Spark orders NaN above every number, so the upper limits catch it too.
    is_below_zero = (price <= 0) & ((price <= -PRICE_LIMIT) | ~F.rlike("symbol", F.lit(_FUTURE)))
    is_bad_price = (price >= PRICE_LIMIT) | is_below_zero
    is_bad_volume = (volume < 0) | (volume >= VOLUME_LIMIT)
    return (
        F.when(~F.length("symbol").between(1, MAX_SYMBOL_CHARACTERS), Reason.EMPTY_SYMBOL.value)
        .when(is_bad_time, F.lit(Reason.BAD_TIME.value))
        .when(is_bad_price, F.lit(Reason.BAD_PRICE.value))
        .when(is_bad_volume, F.lit(Reason.BAD_VOLUME.value))
    )


def apply_watermark(
    trades: DataFrame, delay_s: int, *, keeps_redeliveries: bool = False
) -> DataFrame:
    """Let trades be late by `delay_s` seconds and drop redeliveries within that time.

    In a batch nothing is late, and every redelivery is dropped; of copies the lowest rank stays.

    Args:
        trades: valid trades with symbol, event_time, trade_id and sequence; or the messages of
            `parse_trade_from_avro`, whose `valid_time` then is the event time.
        delay_s: the watermark's delay.
        keeps_redeliveries: only follow event time, in a stream that keeps every message.
    """
    if keeps_redeliveries:
        return trades.withWatermark("valid_time", f"{delay_s} seconds")
    if not trades.isStreaming:
        keyed = trades.withColumn("window_start", window_of_trade())
        return mark_redeliveries(keyed).where(~F.col("is_redelivery")).select(*trades.columns)
    watermarked = trades.withWatermark("event_time", f"{delay_s} seconds")
    return watermarked.dropDuplicatesWithinWatermark(["symbol", "trade_id"])


def mark_redeliveries(trades: DataFrame) -> DataFrame:
    """Bring the trades of a window together and say which repeat another one of them.

    Args:
        trades: of a batch, with `symbol`, `window_start`, `event_time`, `trade_id`, `sequence`.

    Returns:
        The same with `is_redelivery`, partitioned by symbol and window: false for the copy of
        each trade that has the lowest rank.
    """
    key = ("event_time", "trade_id")  # beside symbol and window, as in silver
    copies = Window.partitionBy("symbol", "window_start").orderBy(*key, "sequence")
    is_same = F.lit(True)  # noqa: FBT003 - a literal column
    for name in key:
        is_same &= F.lag(name).over(copies) == F.col(name)
    return trades.withColumn("is_redelivery", F.coalesce(is_same, F.lit(False)))  # noqa: FBT003 - a literal column


def window_of_trade(interval: Interval = Interval.FIVE_MINUTES) -> Column:
    """Return the start of the window that a trade's `event_time` is in."""
    micros = F.unix_micros("event_time")
    length_us = interval.duration // timedelta(microseconds=1)
    return F.timestamp_micros(micros - F.pmod(micros, F.lit(length_us)))


def calculate_ohlcv(trades: DataFrame, policy: Rules, interval: str = FIVE_MINUTES) -> DataFrame:
    """Aggregate trades into bars over tumbling windows.

    Open and close are the first and last eligible trades by event time, then rank. Volume
    and notional are exact decimals, so any order of addition gives the same bar.

    Args:
        trades: symbol, price, volume, event_time, received_at, conditions, sequence, trade_id.
        policy: which trades set and add to what.
        interval: length of the window, e.g. `5 minutes`; no more than that where the rules differ
            by session, in which such a window lies as a whole.

    Returns:
        The columns of `bar_columns`, times as timestamps.
    """
    return (
        trades.select(
            "symbol",
            F.window("event_time", interval).alias("window"),
            *(column.alias(name) for name, column in contributions(policy).items()),
        )
        .groupBy("symbol", "window")
        .agg(*bar_aggregates(policy))
        .select(*selected(policy))
    )
