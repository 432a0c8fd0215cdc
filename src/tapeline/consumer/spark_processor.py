"""The streaming queries: one for bronze and silver, one for gold's preview."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import structlog
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name
from pyspark.sql.streaming.query import StreamingQuery

from tapeline.bar import Interval, WindowKey
from tapeline.consumer.checkpoint_label import CheckpointLabel
from tapeline.consumer.checkpoints import Checkpoints
from tapeline.consumer.failures import cause_of, is_state_damage
from tapeline.consumer.layers import (
    bronze_rows,
    preview_rows,
    quarantine_rows,
    silver_rows,
    touched_windows,
)
from tapeline.consumer.longer_bars import preview_longer_bars
from tapeline.consumer.session import without_logs
from tapeline.consumer.sinks import Sink
from tapeline.consumer.touched import dirty_windows, invalid_messages, progress_of
from tapeline.consumer.transformations import (
    FIVE_MINUTES,
    ONE_MINUTE,
    apply_watermark,
    calculate_ohlcv,
    parse_trade_from_avro,
)
from tapeline.errors import StreamError
from tapeline.metrics import BATCH_DURATION, MESSAGES, QUARANTINED, STREAM_METRICS, Metrics
from tapeline.settings import Settings, StreamSettings
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.rows import GOLD_TABLES
from tapeline.times import from_micros

log = structlog.get_logger()

INGEST_QUERY: Final = "ingest"
"""The query of bronze and silver on one read of Kafka."""
GOLD_QUERY: Final = "gold"
"""The query of the previews, and what its names begin with."""


class Layer(str, Enum):
    """The layers that streaming queries write."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"


@dataclass(frozen=True, slots=True)
class Topic:
    """The topic to read, with the id that Kafka gave it."""

    bootstrap_servers: str
    name: str
    topic_id: str
    starting_offsets: str


class SparkProcessor:
    """Starts and stops the queries of one topic and keyspace.

    Args:
        session: where the queries run.
        settings: of the stream and the keyspace.
        topic: what to read.
        sink: where rows go.
        client: for progress, which is a row a Kafka partition; None with a console sink.
        checkpoints: where each query keeps its own.
        trigger: processing time between batches, e.g. `0 seconds`.
        metrics: where batches are counted and timed.
    """

    def __init__(
        self,
        session: SparkSession,
        settings: Settings,
        topic: Topic,
        sink: Sink,
        client: CassandraClient | None,
        checkpoints: Checkpoints,
        trigger: str,
        metrics: Metrics | None = None,
    ) -> None:
        self._session = session
        self._settings = settings
        self._topic = topic
        self._sink = sink
        self._client = client
        self._checkpoints = checkpoints
        self._trigger = trigger
        self._metrics = metrics or Metrics(STREAM_METRICS)
        self._is_stopping = False
        self._has_begun_anew = False
        # Held during a batch, so that stopping waits for its end.
        self._batch_gates: dict[StreamingQuery, threading.Lock] = {}

    @property
    def queries(self) -> list[StreamingQuery]:
        """The queries that were started."""
        return list(self._batch_gates)

    def start_ingest(self, layers: frozenset[Layer]) -> StreamingQuery:
        """Start the query of bronze, silver, or both on one read of Kafka."""

        def ingest(messages: DataFrame, batch_id: int) -> None:
            parsed = parse_trade_from_avro(messages).persist()
            try:
                self._write_ingest(parsed, layers, batch_id)
            finally:
                parsed.unpersist()

        name = INGEST_QUERY if len(layers) > 1 else next(iter(layers)).value
        return self._start(name, self._messages(), "append", ingest)

    def start_gold(self) -> StreamingQuery:
        """Start the query of the provisional bars."""
        stream = self._settings.stream
        trades = parse_trade_from_avro(self._messages()).where(F.col("reason").isNull())
        first, length = (
            (Interval.ONE_MINUTE, ONE_MINUTE)
            if stream.store_1m
            else (Interval.FIVE_MINUTES, FIVE_MINUTES)
        )
        bars = calculate_ohlcv(apply_watermark(trades, stream.watermark_s), stream.policy, length)

        def preview(changed: DataFrame, _batch_id: int) -> None:
            changed = changed.persist()
            try:
                rows = preview_rows(changed, stream.policy)
                self._sink.write(GOLD_TABLES[first], rows)
                if self._client is not None:  # what was only printed cannot be rolled up
                    preview_longer_bars(self._client, first, _keys_of(changed), stream.policy)
            finally:
                changed.unpersist()

        return self._start(gold_query(stream), bars, "update", preview)

    def begin_anew(self, query: StreamingQuery) -> bool:
        """Start the preview again from the topic's start when its state cannot be read.

        Final bars come from silver, so nothing is lost. Once only.

        Returns:
            Whether the query that has failed was replaced.
        """
        is_gold = query.name == gold_query(self._settings.stream)
        if self._has_begun_anew or not is_gold or not is_state_damage(query.exception()):
            return False
        self._has_begun_anew = True
        del self._batch_gates[query]
        self._checkpoints.set_aside(query.name, cause_of(query.exception()))
        self._topic = replace(self._topic, starting_offsets="earliest")
        self.start_gold()
        return True

    def stop(self) -> None:
        """Stop every query between two batches."""
        with without_logs(self._session):
            self._is_stopping = True
            for query, gate in self._batch_gates.items():
                with gate:  # the batch under way has ended, and none begins
                    pass
                query.stop()

    def _write_ingest(self, parsed: DataFrame, layers: frozenset[Layer], batch_id: int) -> None:
        touched = touched_windows(parsed).collect()
        if Layer.BRONZE in layers:
            self._sink.write("trades_bronze", bronze_rows(parsed, self._topic.topic_id))
        invalid = invalid_messages(touched)
        if Layer.SILVER in layers:
            self._write_silver(parsed, touched, invalid)
        messages = sum(row["messages"] for row in touched)
        self._metrics[MESSAGES].inc(messages)
        log.info("batch_ingested", batch=batch_id, messages=messages, invalid=sum(invalid.values()))

    def _write_silver(
        self, parsed: DataFrame, touched: Sequence[Row], invalid: Mapping[str, int]
    ) -> None:
        topic_id = self._topic.topic_id
        self._sink.write("trades_silver", silver_rows(parsed, topic_id))
        if invalid:
            self._sink.write("trades_quarantine", quarantine_rows(parsed, topic_id))
        if self._client is not None:
            # This order makes every step safe to repeat: rows, what they touched, how far.
            self._client.write_dirty_windows(dirty_windows(topic_id, touched))
            self._client.write_progress(topic_id, progress_of(touched))
        for reason, messages in invalid.items():
            self._metrics[QUARANTINED].labels(reason=reason).inc(messages)

    def _messages(self) -> DataFrame:
        return (
            self._session.readStream.format("kafka")
            .option("kafka.bootstrap.servers", self._topic.bootstrap_servers)
            .option("subscribe", self._topic.name)
            .option("startingOffsets", self._topic.starting_offsets)
            .option("maxOffsetsPerTrigger", self._settings.stream.max_offsets_per_trigger)
            # A busy symbol fills one Kafka partition; its messages still go to several tasks.
            .option("minPartitions", self._session.sparkContext.defaultParallelism)
            .load()
        )

    def _start(
        self,
        name: str,
        rows: DataFrame,
        output_mode: str,
        batch: Callable[[DataFrame, int], None],
    ) -> StreamingQuery:
        gate = threading.Lock()
        duration = self._metrics[BATCH_DURATION].labels(query=name)

        def guarded(frame: DataFrame, batch_id: int) -> None:
            with gate:
                if self._is_stopping:
                    # Raising leaves the batch uncommitted; returning would lose it.
                    message = f"{name} is stopping; batch {batch_id} runs again at the next start."
                    raise StreamError(message)
                with duration.time():
                    batch(frame, batch_id)

        folder = self._checkpoints.folder(name)
        CheckpointLabel.of(name, self._settings, self._topic.topic_id).write(folder)
        query = (
            rows.writeStream.queryName(name)
            .outputMode(output_mode)
            .option("checkpointLocation", str(folder))
            .trigger(processingTime=self._trigger)
            .foreachBatch(guarded)
            .start()
        )
        self._batch_gates[query] = gate
        return query


def gold_query(settings: StreamSettings) -> str:
    """Return the name of the previews' query.

    The window is part of its state, so each length has a checkpoint of its own.
    """
    return f"{GOLD_QUERY}-{Interval.ONE_MINUTE.value}" if settings.store_1m else GOLD_QUERY


def _keys_of(bars: DataFrame) -> list[WindowKey]:
    """Return the symbol and start of each bar."""
    # As a number: PySpark hands timestamps over in the machine's own time zone.
    rows = bars.select("symbol", F.unix_micros("window_start")).collect()
    return [(symbol, from_micros(start_us)) for symbol, start_us in rows]
