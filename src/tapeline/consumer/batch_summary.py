"""What a micro-batch holds, in one pass over it: how far it goes, and the bars of its trades.

A row a window, not a row a trade, so that it can be handed to Python.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.consumer.bar_columns import bar_aggregates, contributions
from tapeline.consumer.silver_bars import ruled
from tapeline.consumer.transformations import (
    mark_redeliveries,
    window_of_trade,
)
from tapeline.model.bar import Bar, Interval
from tapeline.model.rules import Rules
from tapeline.model.sessions import Session, asset_class_of, session_at
from tapeline.model.times import floor_to, from_micros
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS, PartitionProgress, WindowState

_TIMES: Final = (
    *("bar_start", "newest_event_time", "newest_received_at"),
    *("first_trade_time", "last_trade_time", "first_received_at"),
)


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What a batch holds.

    Attributes:
        messages: how many.
        invalid: how many of them are no valid trade, by reason.
        bars: what the batch's trades alone make of each window; of copies one counts.
        progress: how far each Kafka partition got.
        affected: the windows that valid trades affected.
    """

    messages: int
    invalid: Counter[str]
    bars: Sequence[Bar]
    progress: Sequence[PartitionProgress]
    affected: Sequence[WindowState]


def arrange(parsed: DataFrame) -> DataFrame:
    """Bring the trades of a window together, and mark those that the batch has already.

    Args:
        parsed: as `parse_trade_from_avro` returns them, of a batch.

    Returns:
        The same with `window_start` and `is_redelivery`; `window_start` is null for a message that
        is no valid trade.
    """
    is_valid = F.col("reason").isNull()
    return mark_redeliveries(parsed.withColumn("window_start", F.when(is_valid, window_of_trade())))


def summary_rows(arranged: DataFrame, policy: Rules, interval: Interval) -> DataFrame:
    """Return a row for each window of each Kafka partition, and for each symbol and reason.

    Args:
        arranged: as `arrange` returns them.
        policy: which trades set prices.
        interval: five minutes, or one where bars of one minute are stored.

    Returns:
        kafka_partition, symbol, bar_start (null for messages that are no valid trade), reason
        (null for those that are), lowest_offset, highest_offset, newest_event_time,
        newest_received_at, messages, and the aggregates of a bar. Times are µs since the epoch.
    """
    is_valid = F.col("reason").isNull()
    counts = is_valid & ~F.col("is_redelivery")
    rows = (
        arranged.select(
            "symbol",
            "window_start",
            "kafka_partition",
            "kafka_offset",
            "kafka_timestamp",
            "reason",
            F.when(is_valid, window_of_trade(interval)).alias("bar_start"),
            "valid_time",
            *(F.when(counts, c).alias(name) for name, c in contributions(policy).items()),
        )
        .groupBy("symbol", "window_start", "bar_start", "kafka_partition", "reason")
        .agg(
            F.min("kafka_offset").alias("lowest_offset"),
            F.max("kafka_offset").alias("highest_offset"),
            F.max("valid_time").alias("newest_event_time"),
            F.max("kafka_timestamp").alias("newest_received_at"),
            F.count(F.lit(1)).alias("messages"),
            *bar_aggregates(policy),
        )
    )
    # As numbers: PySpark hands timestamps over in the machine's own time zone.
    return rows.drop("window_start").withColumns({name: F.unix_micros(name) for name in _TIMES})


def read_summary(
    rows: Iterable[Row], topic_id: str, policy: Rules, interval: Interval
) -> BatchSummary:
    """Return what the rows of `summary_rows` say."""
    invalid: Counter[str] = Counter()
    bars: list[Bar] = []
    by_partition: dict[int, list[Row]] = defaultdict(list)
    affected: dict[tuple[int, int, datetime, str], int] = {}
    messages = 0
    for row in rows:
        messages += row.messages
        by_partition[row.kafka_partition].append(row)
        if row.reason is not None:
            invalid[row.reason] += row.messages
            continue
        start = from_micros(row.bar_start)
        window = floor_to(Interval.FIVE_MINUTES.duration, start)
        for bucket, offset in _buckets(row.lowest_offset, row.highest_offset):
            key = row.kafka_partition, bucket, window, row.symbol
            affected[key] = max(offset, affected.get(key, -1))
        if row.trade_count:
            bars.append(_bar(row, start, policy, interval))
    return BatchSummary(
        messages,
        invalid,
        bars,
        [_progress(partition, some) for partition, some in by_partition.items()],
        [WindowState(topic_id, *key, affected_offset=offset) for key, offset in affected.items()],
    )


def _buckets(lowest_offset: int, highest_offset: int) -> Iterable[tuple[int, int]]:
    """Yield each bucket of window_state that a window's offsets lie in, with the highest there.

    One between the first and the last counts too, though perhaps it holds none of the window's.
    """
    last = highest_offset // WINDOW_BUCKET_OFFSETS
    for bucket in range(lowest_offset // WINDOW_BUCKET_OFFSETS, last + 1):
        end = (bucket + 1) * WINDOW_BUCKET_OFFSETS - 1
        yield bucket, min(highest_offset, end)


def _progress(kafka_partition: int, rows: Sequence[Row]) -> PartitionProgress:
    valid = [row for row in rows if row.reason is None]
    return PartitionProgress(
        kafka_partition,
        committed_offset=max(row.highest_offset for row in rows),
        newest_event_time=_newest(row.newest_event_time for row in valid),
        newest_received_at=_newest(row.newest_received_at for row in valid),
    )


def _newest(micros: Iterable[int]) -> datetime | None:
    newest = max(micros, default=None)
    return None if newest is None else from_micros(newest)


def _bar(row: Row, start: datetime, policy: Rules, interval: Interval) -> Bar:
    session = _session(row.symbol, start)
    fields = ruled(row.asDict(), policy, session)
    volume = float(fields["volume"])
    return Bar(
        symbol=row.symbol,
        window_start=start,
        window_end=start + interval.duration,
        **fields,
        vwap=float(fields["notional"]) / volume if volume > 0 else None,
        trade_count=row.trade_count,
        first_trade_time=from_micros(row.first_trade_time),
        last_trade_time=from_micros(row.last_trade_time),
        first_received_at=from_micros(row.first_received_at),
        session=session.value,
        asset_class=asset_class_of(row.symbol).value,
        policy=policy.name,
    )


@lru_cache(maxsize=10_000)
def _session(symbol: str, start: datetime) -> Session:
    return session_at(symbol, start)
