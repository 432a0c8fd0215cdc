"""The streaming query: one read of Kafka for bronze, silver and gold's previews."""

from __future__ import annotations

import tempfile
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from tapeline.consumer.batch_summary import BatchSummary, arrange, read_summary, summary_rows
from tapeline.consumer.checkpoint_label import CheckpointLabel
from tapeline.consumer.checkpoint_place import location
from tapeline.consumer.checkpoints import Checkpoints
from tapeline.consumer.kept_progress import KeptProgress
from tapeline.consumer.layers import bronze_rows, quarantine_rows, silver_rows
from tapeline.consumer.poison_limit import PoisonLimit
from tapeline.consumer.previews import Previews
from tapeline.consumer.recently_affected import RecentlyAffected
from tapeline.consumer.session import without_logs, write_without_processes
from tapeline.consumer.sinks import Sink
from tapeline.consumer.transformations import apply_watermark, parse_trade_from_avro
from tapeline.kafka.client import java_options
from tapeline.model.errors import StreamError
from tapeline.program.metrics import (
    BATCH_DURATION,
    MESSAGES,
    POISON_SHARE,
    QUARANTINED,
    STREAM_METRICS,
    Metrics,
)
from tapeline.program.settings import Settings
from tapeline.storage.connection import RestartedError

log = structlog.get_logger()


class Layer(str, Enum):
    """The layers that a streaming query writes."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"


ALL_LAYERS: Final = frozenset(Layer)

INGEST_QUERY: Final = "ingest"
"""The query of several layers."""
PREVIEW_QUERY: Final = "preview"
"""The query of gold alone."""


@dataclass(frozen=True, slots=True)
class Topic:
    """The topic to read, with the id that Kafka gave it."""

    bootstrap_servers: str
    name: str
    topic_id: str
    starting_offsets: str


class SparkProcessor:
    """Starts and stops the query of one topic and keyspace.

    Args:
        session: where the query runs.
        settings: of the stream and the keyspace.
        topic: what to read.
        sink: where rows go; its client, if any, is for progress and previews too.
        checkpoints: where each query keeps its own.
        trigger: processing time between batches, e.g. `0 seconds`.
        metrics: where batches are counted and timed.
        affected: takes what batches touch, for a finalizer in this process.
    """

    def __init__(
        self,
        session: SparkSession,
        settings: Settings,
        topic: Topic,
        sink: Sink,
        checkpoints: Checkpoints,
        trigger: str,
        metrics: Metrics | None = None,
        affected: RecentlyAffected | None = None,
    ) -> None:
        self._session = session
        self._settings = settings
        self._topic = topic
        self._sink = sink
        self._client = client = sink.client
        self._checkpoints = checkpoints
        self._trigger = trigger
        self._affected = affected
        self._metrics = metrics or Metrics(STREAM_METRICS)
        self._previews = Previews(session, settings, sink, client, topic.topic_id)
        self.poison = PoisonLimit(settings.stream.poison_share, settings.stream.poison_messages)
        """Whether what comes is no trade for the most part, and the error when it was."""
        self._metrics[POISON_SHARE].set_function(lambda: self.poison.share)
        self.kept = (
            KeptProgress(client, topic.topic_id, checkpoints.lost_writes.touch) if client else None
        )
        """The progress that was written; None with a console sink."""
        self._is_stopping = False
        # Held during a batch, so that stopping waits for its end.
        self._gate = threading.Lock()
        self.query: StreamingQuery | None = None
        """The query, once it was started."""

    @property
    def previews(self) -> Previews:
        """The provisional bars, and the windows that are known exactly."""
        return self._previews

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where Spark writes on disks here: checkpoints, and what does not fit into memory."""
        root = self._checkpoints.root
        return *([root] if isinstance(root, Path) else []), Path(tempfile.gettempdir())

    def start(self, layers: frozenset[Layer] = ALL_LAYERS) -> StreamingQuery:
        """Start the query of some layers on one read of Kafka."""
        name = query_of(layers)
        duration = self._metrics[BATCH_DURATION].labels(query=name)
        if Layer.GOLD in layers:
            self._previews.begin(owns_silver=Layer.SILVER in layers)

        def write(parsed: DataFrame, batch_id: int) -> None:
            with self._gate:
                if self._is_stopping:
                    # Raising leaves the batch uncommitted; returning would lose it.
                    message = f"{name} is stopping; batch {batch_id} runs again at the next start."
                    raise StreamError(message)
                with duration.time():
                    self._write(parsed, layers, batch_id)

        folder = self._checkpoints.folder(name)
        CheckpointLabel.of(name, self._settings, self._topic.topic_id).write(folder)
        if isinstance(folder, Path):
            write_without_processes(self._session)
        self.query = (
            self._messages()
            .writeStream.queryName(name)
            .option("checkpointLocation", location(folder))
            .trigger(processingTime=self._trigger)
            .foreachBatch(write)
            .start()
        )
        return self.query

    def stop(self) -> None:
        """Stop the query between two batches."""
        with without_logs(self._session):
            self._is_stopping = True
            with self._gate:  # the batch under way has ended, and none begins
                pass
            if self.query is not None:
                self.query.stop()

    def _write(self, parsed: DataFrame, layers: frozenset[Layer], batch_id: int) -> None:
        arranged = arrange(parsed).persist()
        try:
            summary = self._summary(arranged)
            if Layer.GOLD in layers:
                self._previews.add(summary)
            while not self._store(arranged, summary, layers):
                log.warning("batch_written_again", batch=batch_id, reason="Cassandra was restarted")
            if Layer.SILVER in layers:
                self._commit(summary)
        finally:
            arranged.unpersist()
        self._metrics[MESSAGES].inc(summary.messages)
        invalid = summary.invalid.total()
        log.info("batch_ingested", batch=batch_id, messages=summary.messages, invalid=invalid)
        self.poison.check(summary.messages, summary.invalid)

    def _summary(self, arranged: DataFrame) -> BatchSummary:
        stream = self._settings.stream
        interval = stream.shortest_interval
        rows = summary_rows(arranged, stream.policy, interval).collect()
        return read_summary(rows, self._topic.topic_id, stream.policy, interval)

    def _store(self, arranged: DataFrame, summary: BatchSummary, layers: frozenset[Layer]) -> bool:
        """Write rows, and then what they affected; return whether Cassandra has kept all of it."""
        try:
            with self._client.in_one_life() if self._client else nullcontext():
                if Layer.BRONZE in layers:
                    self._sink.write("trades_bronze", bronze_rows(arranged, self._topic.topic_id))
                if Layer.SILVER in layers:
                    self._write_silver(arranged, summary)
                if Layer.GOLD in layers:
                    self._previews.repair()
                if Layer.SILVER in layers and self._client is not None:
                    self._client.write_affected_windows(summary.affected)
        except RestartedError:
            return False
        return True

    def _commit(self, summary: BatchSummary) -> None:
        """Write how far a batch goes, once all of it is stored: every step is safe to repeat."""
        if self._affected is not None:
            self._affected.add(summary.affected, summary.progress)
        if self.kept is not None:
            self.kept.write(summary.progress)
        for reason, messages in summary.invalid.items():
            self._metrics[QUARANTINED].labels(reason=reason).inc(messages)

    def _write_silver(self, arranged: DataFrame, summary: BatchSummary) -> None:
        self._sink.write("trades_silver", silver_rows(arranged))
        if summary.invalid:
            self._sink.write("trades_quarantine", quarantine_rows(arranged, self._topic.topic_id))

    def _messages(self) -> DataFrame:
        stream, sizes = self._settings.stream, self._settings.profile.sizes
        access = java_options(self._topic.bootstrap_servers, self._settings.kafka)
        messages = (
            self._session.readStream.format("kafka")
            .options(**{f"kafka.{name}": value for name, value in access.items()})
            .option("subscribe", self._topic.name)
            .option("startingOffsets", self._topic.starting_offsets)
            .option("maxOffsetsPerTrigger", stream.max_offsets_per_trigger or sizes.batch)
            # A busy symbol fills one Kafka partition; its messages still go to several tasks.
            .option("minPartitions", self._session.sparkContext.defaultParallelism)
            .load()
        )
        return apply_watermark(
            parse_trade_from_avro(messages), stream.watermark_s, keeps_redeliveries=True
        )


def query_of(layers: frozenset[Layer]) -> str:
    """Return the name of the query of some layers, which is that of its checkpoint."""
    if len(layers) > 1:
        return INGEST_QUERY
    layer = next(iter(layers))
    return PREVIEW_QUERY if layer is Layer.GOLD else layer.value
