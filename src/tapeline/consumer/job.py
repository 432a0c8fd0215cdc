"""The Spark job: its queries and its finalizer, built from settings and run until stopped."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

import structlog
from confluent_kafka import KafkaException
from pyspark.sql import SparkSession

from tapeline.consumer.checkpoint_check import prepare_checkpoint
from tapeline.consumer.checkpoints import Checkpoints
from tapeline.consumer.failures import AWAY, cause_of, failures_explained, full_disk
from tapeline.consumer.recently_affected import RecentlyAffected
from tapeline.consumer.session import build_session, end_with_spark, process_of
from tapeline.consumer.sinks import CassandraSink, ConsoleSink
from tapeline.consumer.spark_processor import ALL_LAYERS, Layer, SparkProcessor, Topic, query_of
from tapeline.finalize.bar_rules import BarRules
from tapeline.finalize.finalizer import Finalizer, RoundResult, StreamKnowledge
from tapeline.finalize.gone_topics import GoneTopics
from tapeline.finalize.other_topics import OtherTopics
from tapeline.finalize.round_metrics import record_round
from tapeline.kafka.feed_view import FeedView
from tapeline.kafka.topics import topic_admin
from tapeline.local.discovery import Endpoints
from tapeline.local.home import Home
from tapeline.local.keyspace import open_keyspace
from tapeline.local.lock import only_one
from tapeline.model.errors import StreamError
from tapeline.program.metrics import ROUND_DURATION, STREAM_METRICS, Metrics
from tapeline.program.metrics_server import serve_metrics
from tapeline.program.process import STOP_LIMIT_S, end_within, rare_collections
from tapeline.program.settings import Settings
from tapeline.storage.cassandra_client import CassandraClient

log = structlog.get_logger()

_LOCK_WAIT_S: Final = 30.0
_FINALIZE_ATTEMPTS: Final = 5
_FINALIZE_RETRY_S: Final = 2.0
_ELECTION_S: Final = 60.0
"""What Kafka may take to give a dead broker's partitions to others: nine seconds, and the load."""


class Job(str, Enum):
    """Which layers a process runs."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"
    FINALIZE = "finalize"
    ALL = "all"

    @property
    def layers(self) -> frozenset[Layer]:
        """The layers that its streaming query writes; none where it has no query."""
        if self is Job.ALL:
            return ALL_LAYERS
        return frozenset() if self is Job.FINALIZE else frozenset({Layer(self.value)})

    @property
    def query(self) -> str | None:
        """The name of its streaming query, which is that of its checkpoint; None without one."""
        return query_of(self.layers) if self.layers else None

    @property
    def makes_bars(self) -> bool:
        """Whether it writes bars, provisional or final."""
        return self.finalizes or Layer.GOLD in self.layers

    @property
    def finalizes(self) -> bool:
        """Whether it marks bars final."""
        return self in {Job.ALL, Job.FINALIZE}


class SinkKind(str, Enum):
    """Where rows go."""

    CASSANDRA = "cassandra"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What to run: `trigger` is the time between batches, e.g. `5 seconds`."""

    job: Job
    sink: SinkKind
    trigger: str
    until_final: bool


@dataclass(frozen=True, slots=True)
class RunningJob:
    """The parts of a job whose query has been started."""

    processor: SparkProcessor
    finalizer: Finalizer | None
    metrics: Metrics
    require_checkpoint: Callable[[], None] | None = None
    """Raises StreamError once another driver has the checkpoint."""

    def watch(self, stop: threading.Event, options: JobOptions, interval_s: float) -> None:
        """Finalize again and again until told to stop, or until all is finalized.

        Raises:
            StreamError: the query has failed, another driver has taken over its checkpoint, or
                Cassandra has lost progress that it wrote.
            PoisonError: most of what it reads is no trade.
        """
        while not stop.is_set():
            if self.require_checkpoint is not None:
                self.require_checkpoint()
            query = self.processor.query
            if query is not None and not query.isActive:
                if self.processor.poison.error is not None:
                    raise self.processor.poison.error
                cause = cause_of(query.exception())
                disk = full_disk(cause, self.processor.folders)
                message = f"The {query.name} query has failed: {cause}{disk}"
                raise StreamError(message)
            if self.processor.kept is not None:
                with suppress(*AWAY):  # asked again; what needs Cassandra fails by itself
                    self.processor.kept.require()
            if self.finalizer is not None:
                with self.metrics[ROUND_DURATION].time():
                    result = _round(self.finalizer, stop)
                if result is None:
                    return
                record_round(self.metrics, result)
                if result.is_finished and options.until_final:
                    return
            stop.wait(interval_s)


def run_job(
    settings: Settings,
    endpoints: Endpoints,
    source: Topic,
    checkpoints: Checkpoints,
    options: JobOptions,
) -> bool:
    """Run the job until a signal, or until all is finalized if the options say so.

    Returns:
        Whether a signal ended it.

    Raises:
        UsageError: another process runs the same queries, or the bars are of another policy.
        SchemaError: keyspace or checkpoint are not what they must be.
        StreamError: Spark, Kafka or Cassandra failed.
        PoisonError: most of what the topic holds is no trade.
    """
    with ExitStack() as stack:
        query = options.job.query
        _hold_locks(stack, settings, source, options)
        metrics = Metrics(STREAM_METRICS)
        stack.enter_context(
            serve_metrics(metrics, settings.metrics.host, settings.metrics.stream_port)
        )
        client = None
        if options.sink is SinkKind.CASSANDRA:
            client = stack.enter_context(open_keyspace(settings, endpoints))
            if options.job.makes_bars:
                client.claim_policy(settings.stream.policy)
        feed = FeedView(source.bootstrap_servers, settings.kafka, source.topic_id)
        stack.callback(feed.close)
        require_checkpoint = None
        if query is not None:
            require_checkpoint = stack.enter_context(checkpoints.held(query, _LOCK_WAIT_S))
            source = prepare_checkpoint(checkpoints, query, settings, source, feed, client)
        stop = threading.Event()
        with failures_explained("stream", stop), rare_collections():
            session = build_session(settings, endpoints, records=True)
            end_with_spark(session)
            _stop_on_signals(stop, process_of(session))
            affected = RecentlyAffected() if options.job is Job.ALL and client is not None else None
            processor = SparkProcessor(
                session,
                settings,
                source,
                CassandraSink(client) if client else ConsoleSink(),
                checkpoints,
                options.trigger,
                metrics,
                affected,
            )
            finalizer = None
            if client is not None and options.job.finalizes:
                known = StreamKnowledge(processor.previews.seen, affected)
                finalizer = _finalizer(session, client, settings, source, feed, known, stop)
            if options.job.layers:
                processor.start(options.job.layers)
            log.info("streaming", job=options.job.value, topic=source.name)
            RunningJob(processor, finalizer, metrics, require_checkpoint).watch(
                stop, options, settings.stream.finalize_interval_s
            )
            processor.stop()
            session.stop()
    log.info("stopped")
    return stop.is_set()


def _finalizer(
    session: SparkSession,
    client: CassandraClient,
    settings: Settings,
    source: Topic,
    feed: FeedView,
    known: StreamKnowledge,
    stop: threading.Event,
) -> Finalizer:
    rules = BarRules.of(settings)
    gone = GoneTopics(session, client, rules)
    others = OtherTopics(
        topic_admin(source.bootstrap_servers, settings.kafka), feed, gone, source.topic_id
    )
    return Finalizer(
        session,
        client,
        feed,
        topic_id=source.topic_id,
        rules=rules,
        stream=known,
        others=others.look_after,
        is_stopping=stop.is_set,
    )


def _hold_locks(stack: ExitStack, settings: Settings, source: Topic, options: JobOptions) -> None:
    """Keep a second process from the same query, and from finalizing beside us."""
    parts = [
        *([options.job.query] if options.job.query else []),
        *(["finalize"] if options.job.finalizes else []),
    ]
    for part in parts:
        lock = f"{source.topic_id}.{settings.cassandra.keyspace}.{options.sink.value}.{part}"
        stack.enter_context(only_one(Home(settings.home), lock, wait_s=_LOCK_WAIT_S))


def _stop_on_signals(stop: threading.Event, spark: subprocess.Popen[bytes] | None) -> None:
    """Set the event at SIGINT and SIGTERM; to be called after Spark, which takes SIGINT.

    A batch or a round that takes longer than a stop may take is cut off: the next start repeats it.
    """
    # Python's handlers wait until the main thread leaves what it is in, such as a call to a Kafka
    # that does not answer; this socket is written at once.
    told, tells = socket.socketpair()
    tells.settimeout(0)
    signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # only so that it does not end us

    def watch() -> None:
        while told.recv(1)[0] not in {signal.SIGINT, signal.SIGTERM}:
            pass
        stop.set()
        tells.detach()  # open as long as a signal may come
        end_within(STOP_LIMIT_S, spark)

    threading.Thread(target=watch, name="signal-watch", daemon=True).start()


def _round(finalizer: Finalizer, stop: threading.Event) -> RoundResult | None:
    """Finalize once more, which may be repeated at any point; None when told to stop meanwhile."""
    failures = 0
    began_s = time.monotonic()
    while True:
        try:
            return finalizer.round()
        except AWAY as error:
            if stop.is_set():
                return None
            failures += 1
            may_be_electing = isinstance(error, KafkaException)
            least_s = _ELECTION_S if may_be_electing else 0.0
            if failures >= _FINALIZE_ATTEMPTS and time.monotonic() - began_s >= least_s:
                raise
            log.warning("finalize_repeated", error=type(error).__name__)
            stop.wait(_FINALIZE_RETRY_S)
