"""The rows of each layer: pure functions from parsed messages or bars to a table's columns.

`write_time_us` is the write time in µs of each row. It comes from the data, so that writing
the same thing again, in any order, changes nothing.
"""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.consumer.transformations import window_of_trade
from tapeline.storage.messages import BUCKET_OFFSETS
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS

WRITE_TIME: Final = "write_time_us"
TTL: Final = "ttl_s"
"""The seconds that a row has left to live, where the table's own lifetime is not meant."""

_SHOWN: Final = ("symbol", "price", "volume", "event_time")
"""Of a trade in bronze; the bytes have the rest."""
_TRADE_COLUMNS: Final = (
    "symbol",
    "price",
    "volume",
    "event_time",
    "conditions",
    "trade_id",
    "received_at",
    "sequence",
    "source",
)


def bronze_rows(parsed: DataFrame, topic_id: str) -> DataFrame:
    """Return every message with its bytes and, where it decodes, what a person looks for."""
    return parsed.select(
        F.lit(topic_id).alias("topic_id"),
        "kafka_partition",
        _bucket(BUCKET_OFFSETS).alias("bucket"),
        "kafka_offset",
        "kafka_timestamp",
        "message_key",
        "message",
        *_SHOWN,
        F.unix_micros("kafka_timestamp").alias(WRITE_TIME),
    )


def quarantine_rows(parsed: DataFrame, topic_id: str, lifetime_s: int = 0) -> DataFrame:
    """Return the messages that are no valid trade, with the reason; `lifetime_s` as in silver."""
    rows = parsed.where(F.col("reason").isNotNull()).select(
        F.lit(topic_id).alias("topic_id"),
        "kafka_partition",
        _bucket(BUCKET_OFFSETS).alias("bucket"),
        "kafka_offset",
        "kafka_timestamp",
        "reason",
        "message_key",
        "message",
        F.unix_micros("kafka_timestamp").alias(WRITE_TIME),
        _remaining_s(lifetime_s).alias(TTL),
    )
    return _living(rows, lifetime_s)


def silver_rows(parsed: DataFrame, lifetime_s: int = 0) -> DataFrame:
    """Return the valid trades; of copies of one trade the lowest rank wins.

    Args:
        parsed: as `parse_trade_from_avro` returns them.
        lifetime_s: how long a row lives after Kafka received it; rows whose time is over are
            left out. 0 leaves it to the table, from now on.
    """
    rows = parsed.where(F.col("reason").isNull()).select(
        *_TRADE_COLUMNS,
        window_of_trade().alias("bucket"),
        (F.unix_micros("event_time") - F.col("sequence")).alias(WRITE_TIME),
        _remaining_s(lifetime_s).alias(TTL),
    )
    return _living(rows, lifetime_s)


def affected_windows(parsed: DataFrame) -> DataFrame:
    """Return how far each window that valid trades affected got: a row a window.

    Returns:
        kafka_partition, bucket, window_start_us, symbol, highest_offset.
    """
    return (
        parsed.where(F.col("reason").isNull())
        .groupBy(
            "kafka_partition",
            _bucket(WINDOW_BUCKET_OFFSETS).alias("bucket"),
            F.unix_micros(window_of_trade()).alias("window_start_us"),
            "symbol",
        )
        .agg(F.max("kafka_offset").alias("highest_offset"))
    )


def _remaining_s(lifetime_s: int) -> Column:
    age_s = F.unix_timestamp() - F.unix_seconds("kafka_timestamp")
    return (F.lit(lifetime_s) - age_s).cast("int")


def _living(rows: DataFrame, lifetime_s: int) -> DataFrame:
    return rows.where(F.col(TTL) > 0) if lifetime_s else rows.drop(TTL)


def _bucket(offsets: int) -> Column:
    return F.floor(F.col("kafka_offset") / offsets).cast("long")
