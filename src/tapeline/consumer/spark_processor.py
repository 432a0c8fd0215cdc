"""The streaming queries: one for bronze and silver, one for gold's preview."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import structlog
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name
from pyspark.sql.streaming.query import StreamingQuery

from tapeline.bar import Interval
from tapeline.consumer.checkpoints import Checkpoints
from tapeline.consumer.layers import (
    bronze_rows,
    period_of,
    preview_rows,
    quarantine_rows,
    silver_rows,
    touched_windows,
)
from tapeline.consumer.sinks import Sink, read_table
from tapeline.consumer.touched import dirty_windows, invalid_messages, progress_of
from tapeline.consumer.transformations import (
    ONE_HOUR,
    apply_watermark,
    calculate_ohlcv,
    parse_trade_from_avro,
    roll_up,
)
from tapeline.errors import StreamError
from tapeline.metrics import BATCH_DURATION, MESSAGES, QUARANTINED, STREAM_METRICS, Metrics
from tapeline.settings import Settings
from tapeline.storage.cassandra_client import CassandraClient

log = structlog.get_logger()

_WINDOWS_PER_HOUR: Final = 12


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

        name = "ingest" if len(layers) > 1 else next(iter(layers)).value
        return self._start(name, self._messages(), "append", ingest)

    def start_gold(self) -> StreamingQuery:
        """Start the query of the provisional bars."""
        stream = self._settings.stream
        trades = parse_trade_from_avro(self._messages()).where(F.col("reason").isNull())
        bars = calculate_ohlcv(apply_watermark(trades, stream.watermark_s), stream.policy)

        def preview(changed: DataFrame, _batch_id: int) -> None:
            changed = changed.persist()
            try:
                self._sink.write(
                    "trades_gold_5m", preview_rows(changed, Interval.FIVE_MINUTES, stream.policy)
                )
                if self._client is not None:
                    hours = changed.select(
                        "symbol", F.date_trunc("hour", "window_start").alias("hour")
                    ).distinct()
                    bars_1h = hour_bars(hours, self._settings.cassandra.keyspace)
                    self._sink.write(
                        "trades_gold_1h", preview_rows(bars_1h, Interval.ONE_HOUR, stream.policy)
                    )
            finally:
                changed.unpersist()

        return self._start("gold", bars, "update", preview)

    def stop(self) -> None:
        """Stop every query between two batches."""
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

        query = (
            rows.writeStream.queryName(name)
            .outputMode(output_mode)
            .option("checkpointLocation", str(self._checkpoints.folder(name)))
            .trigger(processingTime=self._trigger)
            .foreachBatch(guarded)
            .start()
        )
        self._batch_gates[query] = gate
        return query


def hour_bars(hours: DataFrame, keyspace: str) -> DataFrame:
    """Roll stored five-minute bars up to hours.

    Args:
        hours: `symbol` and `hour`, a timestamp at the top of an hour.
        keyspace: where the five-minute bars are.
    """
    starts = F.expr(
        f"sequence(hour, hour + INTERVAL {5 * (_WINDOWS_PER_HOUR - 1)} MINUTES, INTERVAL 5 MINUTES)"
    )
    keys = hours.select("symbol", F.explode(starts).alias("window_start")).withColumn(
        "period", period_of("window_start", Interval.FIVE_MINUTES)
    )
    stored = read_table(keys, keyspace, "trades_gold_5m")
    return roll_up(keys.join(stored, ["symbol", "period", "window_start"]), ONE_HOUR)
