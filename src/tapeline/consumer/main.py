"""`tapeline stream`: arguments → settings → session, queries, settler → run until stopped."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import threading
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated

import structlog
import typer
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from tapeline.command import run_command
from tapeline.conditions import ConditionPolicy
from tapeline.consumer.feed_view import FeedView
from tapeline.consumer.session import build_session
from tapeline.consumer.settle import Settler
from tapeline.consumer.sinks import CassandraSink, ConsoleSink, Sink
from tapeline.consumer.spark_processor import Layer, SparkProcessor, Topic
from tapeline.errors import StreamError, UsageError
from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.local.home import Home
from tapeline.logs import configure_logging
from tapeline.process import end_with_parent
from tapeline.producer.topics import topic_admin, topic_id_of
from tapeline.settings import LogLevel, Settings, load_settings
from tapeline.storage.cassandra_client import CassandraClient

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
    configure_logging(log_level or settings.log_level)
    end_with_parent()
    checkpoints = checkpoint_dir or Home(settings.home).checkpoints / settings.cassandra.keyspace
    if reset_checkpoint:
        _reset(checkpoints, confirmed=yes)
    endpoints = find_endpoints(settings)
    log.info("using", services=str(endpoints))
    admin = topic_admin(endpoints.bootstrap_servers)
    source = Topic(
        endpoints.bootstrap_servers,
        settings.kafka.topic,
        topic_id_of(admin, settings.kafka.topic),
        starting_offsets.value,
    )
    client = _connect(settings, endpoints) if sink is SinkKind.CASSANDRA else None
    session = build_session(settings, endpoints)
    stop = _stop_on_signals()
    target: Sink = CassandraSink(settings.cassandra.keyspace) if client else ConsoleSink()
    processor = SparkProcessor(session, settings, source, target, client, checkpoints, trigger)
    is_settling = client is not None and job in {Job.ALL, Job.SETTLE}
    settler = _settler(session, client, settings, source) if client and is_settling else None
    try:
        _start_queries(processor, job)
        log.info("streaming", job=job.value, topic=source.name)
        _watch(processor, settler, stop, settings.stream.settle_interval_s, until_settled)
        processor.stop()
        session.stop()
    except (Py4JError, ConnectionError) as error:
        message = "Spark's Java process has gone. Start the stream again: it goes on where it was."
        raise StreamError(message) from error
    log.info("stopped")


def _stop_on_signals() -> threading.Event:
    """Turn SIGINT and SIGTERM into an event; to be called after Spark, which takes SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _settler(
    session: SparkSession, client: CassandraClient, settings: Settings, source: Topic
) -> Settler:
    feed = FeedView(
        source.bootstrap_servers, source.name, source.topic_id, settings.kafka.status_topic
    )
    return Settler(
        session,
        client,
        feed,
        topic_id=source.topic_id,
        keyspace=settings.cassandra.keyspace,
        policy=settings.stream.policy,
        delay=timedelta(seconds=settings.stream.watermark_s),
        max_windows=settings.stream.settle_max_windows,
    )


def _connect(settings: Settings, endpoints: Endpoints) -> CassandraClient:
    client = CassandraClient(settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port)
    client.require_schema()
    return client


def _reset(checkpoints: Path, *, confirmed: bool) -> None:
    if not checkpoints.exists():
        return
    if not confirmed:
        if not sys.stdin.isatty():
            message = f"--reset-checkpoint deletes {checkpoints}; add --yes to confirm."
            raise UsageError(message)
        typer.confirm(f"Delete {checkpoints} and read the topic anew?", abort=True)
    shutil.rmtree(checkpoints)
    log.info("checkpoint_deleted", folder=str(checkpoints))


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
        if settler is not None and settler.round().is_finished and until_settled:
            return
        stop.wait(interval_s)


def main() -> None:
    """Run as a program of its own."""
    run_command(stream)


if __name__ == "__main__":
    main()
