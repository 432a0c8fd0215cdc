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

from tapeline.consumer.eligibility import may_update, withheld
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
from tapeline.model.rules import HIGH_LOW, OPEN_CLOSE, VOLUME, Rules
from tapeline.model.trade import SINGLE_OBJECT_MARKER, TRADE_FINGERPRINT, TRADE_SCHEMA_JSON

ONE_MINUTE: Final = "1 minute"
FIVE_MINUTES: Final = "5 minutes"

_HEADER_BYTES: Final = 10

# An order key: ms since the window's start (27 bits), rank (16), low bits of the id (20).
_RANK_BITS: Final = 16
_ID_BITS: Final = 20
_RANK_MAX: Final = (1 << _RANK_BITS) - 1
_ID_MASK: Final = (1 << _ID_BITS) - 1

# Chosen so that Spark's product of the two is decimal(38,10), rounded once from the exact one.
_PRICE_DECIMAL: Final = "decimal(22,10)"
_VOLUME_DECIMAL: Final = "decimal(25,10)"
_SUM_DECIMAL: Final = "decimal(38,10)"

BAR_COLUMNS: Final = (
    "symbol",
    "window_start",
    "window_end",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "notional",
    "vwap",
    "trade_count",
    "unpriced_count",
    "unpriced_volume",
    "first_trade_time",
    "last_trade_time",
    "first_received_at",
)

RULED_COLUMNS: Final = (
    *("open", "high", "low", "close", "volume", "notional", "vwap"),
    *("unpriced_count", "unpriced_volume"),
)
"""Those that hang on the rules. Where these differ by session, there is a set for each variant."""


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
    is_bad_price = (price <= 0) | (price >= PRICE_LIMIT)
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
    return watermarked.dropDuplicatesWithinWatermark(["trade_id"])


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
        .select(*_bar_columns(policy))
    )


def bar_columns(policy: Rules) -> tuple[str, ...]:
    """Return `BAR_COLUMNS`, and `RULED_COLUMNS` of each further variant of rules, `open_1` and on.

    The session of a bar is worked out in Python, once a bar: `sessions.py` alone knows the hours.
    """
    others = range(1, len(policy.variants))
    return BAR_COLUMNS + tuple(in_variant(c, n) for n in others for c in RULED_COLUMNS)


def in_variant(column: str, variant: int) -> str:
    """Return the name that a column has in a variant."""
    return f"{column}_{variant}" if variant else column


def contributions(policy: Rules) -> dict[str, Column]:
    """Return what a trade brings to its bar: the columns that `bar_aggregates` takes, by name.

    What it may update is found once, before the aggregates ask for it often.
    """
    return {
        "event_time": F.col("event_time"),
        "received_at": F.col("received_at"),
        "price": F.col("price"),
        "volume": F.col("volume"),
        "order_key": order_key(),
        **{in_variant("withheld", n): withheld(policy, n) for n in range(len(policy.variants))},
    }


def bar_aggregates(policy: Rules) -> list[Column]:
    """Return the aggregates of a bar; a row whose contributions are all null brings nothing."""
    return [
        *(a for n in range(len(policy.variants)) for a in _ruled_aggregates(n)),
        F.count("event_time").alias("trade_count"),
        F.min("event_time").alias("first_trade_time"),
        F.max("event_time").alias("last_trade_time"),
        F.min("received_at").alias("first_received_at"),
    ]


def _ruled_aggregates(variant: int) -> list[Column]:
    def may(field: int) -> Column:
        return may_update(field, in_variant("withheld", variant))

    def named(name: str) -> str:
        return in_variant(name, variant)

    sets_last, sets_high_low = may(OPEN_CLOSE), may(HIGH_LOW)
    volume = F.when(may(VOLUME), F.col("volume")).otherwise(F.lit(0.0))
    price = F.coalesce("price", F.lit(0.0))
    notional = price.cast(_PRICE_DECIMAL) * volume.cast(_VOLUME_DECIMAL)
    last_price = F.when(sets_last, F.col("price"))
    last_key = F.when(sets_last, F.col("order_key"))
    high_low_price = F.when(sets_high_low, F.col("price"))
    unpriced_volume = F.when(~sets_high_low, volume).otherwise(F.lit(0.0))
    return [
        F.min_by(last_price, last_key).alias(named("open")),
        F.max(high_low_price).alias(named("high")),
        F.min(high_low_price).alias(named("low")),
        F.max_by(last_price, last_key).alias(named("close")),
        _exact_sum(volume.cast(_SUM_DECIMAL), named("volume")),
        _exact_sum(notional.cast(_SUM_DECIMAL), named("notional")),
        F.count(F.when(~sets_high_low, F.lit(1))).alias(named("unpriced_count")),
        _exact_sum(unpriced_volume.cast(_SUM_DECIMAL), named("unpriced_volume")),
    ]


def order_key() -> Column:
    """Return one long that orders the trades of a five-minute window or a day alike.

    Milliseconds in the hour would not fit every interval, so it holds those of the UTC day:
    27 bits, then the rank (saturating) and the low bits of the id as the last tie-break.
    """
    millis_of_day = F.pmod(F.unix_millis("event_time"), F.lit(86_400_000))
    rank = F.least(F.col("sequence").cast("long"), F.lit(_RANK_MAX))
    low_id = F.col("trade_id").bitwiseAND(F.lit(_ID_MASK))
    return F.shiftleft(millis_of_day, _RANK_BITS + _ID_BITS) + F.shiftleft(rank, _ID_BITS) + low_id


def _exact_sum(amount: Column, name: str) -> Column:
    overflow = F.raise_error(F.lit(f"the sum of {name} exceeds {_SUM_DECIMAL}"))
    return F.coalesce(F.sum(amount), overflow.cast(_SUM_DECIMAL)).alias(name)


def _bar_columns(policy: Rules) -> list[Column]:
    """Return `bar_columns` from an aggregate by `symbol` and `window`."""
    derived = {"window_start": F.col("window.start"), "window_end": F.col("window.end")}
    for n in range(len(policy.variants)):
        volume = F.col(in_variant("volume", n)).cast("double")
        notional = F.col(in_variant("notional", n)).cast("double")
        derived[in_variant("vwap", n)] = F.when(volume > 0, notional / volume)
    return [derived.get(name, F.col(name)).alias(name) for name in bar_columns(policy)]
