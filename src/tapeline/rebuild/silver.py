"""Silver from bronze: the original bytes parsed again, by the functions of the stream.

Rows get the keys and write times that they had, so what is there already stays as it is, and
the time to live that is left to them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.consumer.layers import affected_windows, quarantine_rows, silver_rows
from tapeline.consumer.sinks import Sink, read_table
from tapeline.consumer.transformations import parse_trade_from_avro, window_of_trade
from tapeline.consumer.window_keys import window_keys
from tapeline.model.bar import WindowKey
from tapeline.model.reasons import LATEST_AHEAD_MS
from tapeline.model.times import from_micros
from tapeline.program.service_settings import CassandraSettings
from tapeline.rebuild.progress import Progress
from tapeline.rebuild.selection import Selection
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.messages import BUCKET_OFFSETS, BronzeSpan
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS, WindowState

_TASK_OFFSETS: Final = 25_000
"""Messages that one Spark task reads: one bucket of bronze is read by several."""
_KEY: Final = ("symbol", "bucket", "event_time", "trade_id")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Offsets of one Kafka partition within one bucket of bronze, both included."""

    topic_id: str
    kafka_partition: int
    first_offset: int
    last_offset: int

    @property
    def partition_key(self) -> str:
        """The Kafka partition, as the progress names it."""
        return f"{self.topic_id}/{self.kafka_partition}"

    @property
    def messages(self) -> int:
        """How many offsets there are."""
        return self.last_offset - self.first_offset + 1


def chunks_of(spans: Sequence[BronzeSpan], done: dict[str, int]) -> Iterator[Chunk]:
    """Yield what is left to do: each span bucket by bucket, from its first offset not done."""
    for span in spans:
        key = f"{span.topic_id}/{span.kafka_partition}"
        offset = max(span.first_offset, done.get(key, 0))
        while offset <= span.last_offset:
            end = min(span.last_offset, (offset // BUCKET_OFFSETS + 1) * BUCKET_OFFSETS - 1)
            yield Chunk(span.topic_id, span.kafka_partition, offset, end)
            offset = end + 1


def windows_in_bronze(client: CassandraClient, span: BronzeSpan) -> set[WindowKey]:
    """Return the windows that got trades from the messages that bronze still has."""
    first = span.first_offset // WINDOW_BUCKET_OFFSETS
    last = span.last_offset // WINDOW_BUCKET_OFFSETS
    states = client.window_states(span.topic_id, span.kafka_partition, range(first, last + 1))
    return {(state.symbol, state.window_start) for state in states}


def windows_begun_to_expire(
    client: CassandraClient, spans: Sequence[BronzeSpan], windows: Collection[WindowKey]
) -> set[WindowKey]:
    """Return those windows of which bronze has lost messages: it could give a fragment only.

    A window's states say from which buckets of offsets its trades came. In the bucket where
    bronze begins, windows count that began before its first message was received.
    """
    lost = set()
    for span in spans:
        if span.first_offset == 0:
            continue
        boundary = span.first_offset // WINDOW_BUCKET_OFFSETS
        whole_from = span.first_received_at + timedelta(milliseconds=LATEST_AHEAD_MS)
        buckets = range(boundary + 1)
        for state in client.window_states(span.topic_id, span.kafka_partition, buckets):
            if state.bucket < boundary or state.window_start < whole_from:
                lost.add((state.symbol, state.window_start))
    return lost.intersection(windows)


class SilverRebuild:
    """Writes trades of bronze to silver again.

    Args:
        session: parses and writes.
        sink: of the keyspace.
        client: of the keyspace, for the windows' states.
        settings: of the keyspace: lifetimes and name.
        selection: which windows.
        refused: windows that are left alone.
    """

    def __init__(
        self,
        session: SparkSession,
        sink: Sink,
        client: CassandraClient,
        settings: CassandraSettings,
        selection: Selection,
        refused: Collection[WindowKey],
    ) -> None:
        self._session = session
        self._sink = sink
        self._client = client
        self._settings = settings
        self._selection = selection
        self._refused = refused

    def run(
        self, spans: Sequence[BronzeSpan], progress: Progress, advanced: Callable[[int], None]
    ) -> None:
        """Rebuild what bronze has, from where the progress says.

        Args:
            spans: of each Kafka partition.
            progress: brought up to date after each chunk.
            advanced: called after each chunk with its number of messages.
        """
        for chunk in list(chunks_of(spans, progress.offsets)):
            self._rebuild(chunk, progress)
            progress.offsets[chunk.partition_key] = chunk.last_offset + 1
            progress.messages += chunk.messages
            advanced(chunk.messages)

    def _rebuild(self, chunk: Chunk, progress: Progress) -> None:
        parsed = parse_trade_from_avro(self._messages(chunk)).persist()
        try:
            trades = self._selected(parsed)
            affected = affected_windows(trades).collect()
            rows = silver_rows(trades, self._settings.silver_ttl_s)
            self._sink.write("trades_silver", rows)
            if self._selection.is_everything:
                lifetime_s = self._settings.quarantine_ttl_s
                invalid = quarantine_rows(parsed, chunk.topic_id, lifetime_s)
                self._sink.write("trades_quarantine", invalid)
            self._client.write_affected_windows(_states(chunk.topic_id, affected))
            self._count_missing(rows, progress)
        finally:
            parsed.unpersist()

    def _messages(self, chunk: Chunk) -> DataFrame:
        """Return messages of bronze with the columns that they had in Kafka."""
        bronze = (
            self._session.read.format("org.apache.spark.sql.cassandra")
            .options(keyspace=self._settings.keyspace, table="trades_bronze")
            .load()
            .where(
                (F.col("topic_id") == chunk.topic_id)
                & (F.col("kafka_partition") == chunk.kafka_partition)
                & (F.col("bucket") == chunk.first_offset // BUCKET_OFFSETS)
            )
            .select(
                F.col("message_key").alias("key"),
                F.col("message").alias("value"),
                F.col("kafka_partition").alias("partition"),
                F.col("kafka_offset").alias("offset"),
                F.col("kafka_timestamp").alias("timestamp"),
            )
        )
        starts = range(chunk.first_offset, chunk.last_offset + 1, _TASK_OFFSETS)
        return reduce(
            DataFrame.unionAll,
            [
                bronze.where(
                    F.col("offset").between(s, min(s + _TASK_OFFSETS - 1, chunk.last_offset))
                )
                for s in starts
            ],
        )

    def _selected(self, parsed: DataFrame) -> DataFrame:
        """Return the valid trades of the windows that are to be rebuilt."""
        trades = parsed.where(F.col("reason").isNull() & self._condition())
        if not self._refused:
            return trades
        refused = window_keys(self._session, list(self._refused), "window_start")
        return (
            trades.withColumn("window_start", window_of_trade())
            .join(F.broadcast(refused), ["symbol", "window_start"], "left_anti")
            .drop("window_start")
        )

    def _condition(self) -> Column:
        s = self._selection
        start = window_of_trade()
        condition = F.lit(True)  # noqa: FBT003 - a literal column
        if s.symbols is not None:
            condition &= F.col("symbol").isin(*sorted(s.symbols))
        if s.start is not None:
            condition &= start >= F.lit(s.start)
        if s.end is not None:
            condition &= start < F.lit(s.end)
        return condition

    def _count_missing(self, rows: DataFrame, progress: Progress) -> None:
        """Count the trades that are not in silver although they have just been written."""
        keys = rows.select(*_KEY).distinct()
        windows = keys.select("symbol", "bucket").distinct()
        silver = read_table(windows, self._settings.keyspace, "trades_silver").select(*_KEY)
        missing = keys.join(windows.join(silver, ["symbol", "bucket"]), [*_KEY], "left_anti")
        by_window = missing.groupBy("symbol", F.unix_micros("bucket").alias("us")).count()
        for row in by_window.collect():
            progress.missing_trades += row["count"]
            progress.missing.add([(row["symbol"], from_micros(row["us"]))])


def _states(topic_id: str, windows: Iterable[Row]) -> list[WindowState]:
    """Return the state of each window of `affected_windows`, to be finalized again."""
    return [
        WindowState(
            topic_id,
            row["kafka_partition"],
            row["bucket"],
            from_micros(row["window_start_us"]),
            row["symbol"],
            affected_offset=row["highest_offset"],
        )
        for row in windows
    ]
