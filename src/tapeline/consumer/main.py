"""`tapeline stream`: arguments → settings → session, queries, settler → run until stopped."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer
from cassandra import DriverException
from confluent_kafka import KafkaException
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from tapeline.command import run_command
from tapeline.conditions import ConditionPolicy
from tapeline.consumer.feed_view import FeedView
from tapeline.consumer.session import build_session
from tapeline.consumer.settle import Settler
from tapeline.consumer.sinks import CassandraSink, ConsoleSink, Sink
from tapeline.consumer.spark_processor import Layer, SparkProcessor, Topic
from tapeline.errors import SchemaError, StreamError, UsageError
from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.local.home import Home
from tapeline.local.lock import only_one
from tapeline.logs import configure_logging
from tapeline.process import end_with_parent, exit_stopped
from tapeline.producer.topics import topic_admin, topic_id_of
from tapeline.settings import API_KEY_VARIABLE, LogLevel, Settings, load_settings
from tapeline.storage.cassandra_client import CassandraClient, PartitionProgress
from tapeline.storage.schema import check_keyspace_name

log = structlog.get_logger()


class Job(str, Enum):
    """Which layers this process runs."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"
    SETTLE = "settle"
    ALL = "all"


class StartingOffsets(str, Enum):
    """Where a query begins that has no checkpoint."""

    EARLIEST = "earliest"
    LATEST = "latest"


def _check_trigger(trigger: str) -> str:
    if not re.fullmatch(r"\d+ (milliseconds?|seconds?|minutes?)", trigger):
        message = f"{trigger!r} is no time: write e.g. '500 milliseconds' or '5 seconds'."
        raise typer.BadParameter(message)
    return trigger


_QUERIES: Final = {
    Job.BRONZE: ("bronze",),
    Job.SILVER: ("silver",),
    Job.GOLD: ("gold",),
    Job.SETTLE: (),
    Job.ALL: ("ingest", "gold"),
}
_SETTLING: Final = frozenset({Job.ALL, Job.SETTLE})
_LOCK_WAIT_S: Final = 30.0
_SETTLE_ATTEMPTS: Final = 5
_SETTLE_RETRY_S: Final = 2.0


class SinkKind(str, Enum):
    """Where rows go."""

    CASSANDRA = "cassandra"
    CONSOLE = "console"


def stream(
    job: Annotated[Job, typer.Option(help="Which layers to run.")] = Job.ALL,
    log_level: Annotated[
        LogLevel | None, typer.Option(case_sensitive=False, help="The least that is logged.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Kafka topic; trades_raw by default.")] = None,
    keyspace: Annotated[
        str | None, typer.Option(help="Cassandra keyspace; market_data by default.")
    ] = None,
    policy: Annotated[ConditionPolicy | None, typer.Option(help="Which trades set prices.")] = None,
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoints; below TAPELINE_HOME by default.")
    ] = None,
    reset_checkpoint: Annotated[
        bool, typer.Option(help="Delete the checkpoints first and read the topic anew.")
    ] = False,
    yes: Annotated[bool, typer.Option(help="Do not ask before deleting.")] = False,
    starting_offsets: Annotated[
        StartingOffsets, typer.Option(help="Where to begin when there is no checkpoint.")
    ] = StartingOffsets.EARLIEST,
    trigger: Annotated[
        str,
        typer.Option(callback=_check_trigger, help="Time between micro-batches, e.g. '5 seconds'."),
    ] = "0 seconds",
    sink: Annotated[SinkKind, typer.Option(help="Where rows go.")] = SinkKind.CASSANDRA,
    until_settled: Annotated[
        bool, typer.Option(help="End when the tape has ended and every bar is final.")
    ] = False,
) -> None:
    """Run the layers from Kafka to Cassandra until stopped.

    Example: tapeline stream --job all
    """
    settings = load_settings().with_target(topic=topic, keyspace=keyspace, policy=policy)
    os.environ.pop(API_KEY_VARIABLE, None)  # Spark's Java process inherits what is left
    configure_logging(log_level or settings.log_level)
    end_with_parent()
    name = check_keyspace_name(settings.cassandra.keyspace)
    endpoints = find_endpoints(settings)
    log.info("using", services=str(endpoints))
    source = Topic(
        endpoints.bootstrap_servers,
        settings.kafka.topic,
        topic_id_of(topic_admin(endpoints.bootstrap_servers), settings.kafka.topic),
        starting_offsets.value,
    )
    home = Home(settings.home)
    # A topic made anew begins again at offset 0, so its checkpoints are its own; and what was
    # only printed must not count as written.
    checkpoints = (checkpoint_dir or home.checkpoints / name) / source.topic_id / sink.value
    if reset_checkpoint:
        _reset([checkpoints / query for query in _QUERIES[job]], confirmed=yes)
    with ExitStack() as stack:
        for part in (*_QUERIES[job], *(["settle"] if job in _SETTLING else [])):
            lock = f"{source.topic_id}.{name}.{sink.value}.{part}"
            stack.enter_context(only_one(home, lock, wait_s=_LOCK_WAIT_S))
        client = None
        if sink is SinkKind.CASSANDRA:
            client = _connect(settings, endpoints)
            stack.callback(client.close)
        feed = FeedView(
            source.bootstrap_servers, source.name, source.topic_id, settings.kafka.status_topic
        )
        stack.callback(feed.close)
        rereads = client is not None and _begins_anew(client, feed, source, checkpoints, job)
        session = build_session(settings, endpoints)
        stop = _stop_on_signals()
        target: Sink = CassandraSink(name) if client else ConsoleSink()
        processor = SparkProcessor(session, settings, source, target, client, checkpoints, trigger)
        settler = None
        if client is not None and job in _SETTLING:
            settler = _settler(session, client, feed, settings, source, rereads=rereads)
        try:
            _start_queries(processor, job)
            log.info("streaming", job=job.value, topic=source.name)
            _watch(processor, settler, stop, settings.stream.settle_interval_s, until_settled)
            processor.stop()
            session.stop()
        except (Py4JNetworkError, ConnectionError) as error:
            message = (
                "Spark's Java process has gone. Start the stream again: it goes on where it was."
            )
            raise StreamError(message) from error
        except (Py4JError, PySparkException, KafkaException, DriverException) as error:
            message = f"The stream has failed; started again, it goes on where it was. {error}"
            raise StreamError(message) from error
    log.info("stopped")
    if stop.is_set():
        exit_stopped()


def _begins_anew(
    client: CassandraClient, feed: FeedView, source: Topic, checkpoints: Path, job: Job
) -> bool:
    """Tell whether silver has been written from this topic and is now written from it anew.

    Raises:
        SchemaError: the checkpoint is of another Cassandra or of a keyspace since dropped.
    """
    silver = {Job.ALL: "ingest", Job.SILVER: "silver"}.get(job)
    if silver is None:
        return False
    has_checkpoint = (checkpoints / silver / "commits").exists()
    has_progress = bool(client.progress(source.topic_id))
    if has_checkpoint and not has_progress:
        message = (
            f"The checkpoint {checkpoints} says that topic {source.name} has been read, but the "
            "keyspace holds nothing of it: read it anew with --reset-checkpoint."
        )
        raise SchemaError(message)
    if not has_checkpoint and not has_progress and source.starting_offsets == "latest":
        # What lies before the start will never be read; nobody shall wait for it.
        skipped = [
            PartitionProgress(partition, end - 1, None, None)
            for partition, (_, end) in feed.offsets().items()
        ]
        client.write_progress(source.topic_id, skipped)
    return has_progress and not has_checkpoint


def _stop_on_signals() -> threading.Event:
    """Turn SIGINT and SIGTERM into an event; to be called after Spark, which takes SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _settler(
    session: SparkSession,
    client: CassandraClient,
    feed: FeedView,
    settings: Settings,
    source: Topic,
    *,
    rereads: bool,
) -> Settler:
    return Settler(
        session,
        client,
        feed,
        topic_id=source.topic_id,
        keyspace=settings.cassandra.keyspace,
        policy=settings.stream.policy,
        delay=timedelta(seconds=settings.stream.watermark_s),
        max_windows=settings.stream.settle_max_windows,
        rereads=rereads,
    )


def _connect(settings: Settings, endpoints: Endpoints) -> CassandraClient:
    client = CassandraClient(settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port)
    client.require_schema()
    return client


def _reset(folders: Sequence[Path], *, confirmed: bool) -> None:
    """Delete the checkpoints of the job's own queries."""
    existing = [folder for folder in folders if folder.exists()]
    if not existing:
        return
    names = ", ".join(str(folder) for folder in existing)
    if not confirmed:
        if not sys.stdin.isatty():
            message = f"--reset-checkpoint deletes {names}; add --yes to confirm."
            raise UsageError(message)
        typer.confirm(f"Delete {names} and read the topic anew?", abort=True)
    for folder in existing:
        shutil.rmtree(folder)
    log.info("checkpoint_deleted", folders=names)


def _start_queries(processor: SparkProcessor, job: Job) -> None:
    if job is Job.ALL:
        processor.start_ingest(frozenset({Layer.BRONZE, Layer.SILVER}))
    elif job in {Job.BRONZE, Job.SILVER}:
        processor.start_ingest(frozenset({Layer(job.value)}))
    if job in {Job.ALL, Job.GOLD}:
        processor.start_gold()


def _watch(
    processor: SparkProcessor,
    settler: Settler | None,
    stop: threading.Event,
    interval_s: float,
    until_settled: bool,
) -> None:
    while not stop.is_set():
        for query in processor.queries:
            if not query.isActive:
                message = f"The {query.name} query has failed: {query.exception()}"
                raise StreamError(message)
        if settler is not None and _round(settler) and until_settled:
            return
        stop.wait(interval_s)


def _round(settler: Settler) -> bool:
    """Settle once more; tell whether all is settled. A round may be repeated at any point."""
    for attempt in range(_SETTLE_ATTEMPTS):
        try:
            return settler.round().is_finished
        except (KafkaException, DriverException) as error:
            if attempt == _SETTLE_ATTEMPTS - 1:
                raise
            log.warning("settle_repeated", error=type(error).__name__)
            time.sleep(_SETTLE_RETRY_S)
    return False


def main() -> None:
    """Run as a program of its own."""
    run_command(stream)


if __name__ == "__main__":
    main()
