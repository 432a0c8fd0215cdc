"""`tapeline stream`: arguments → settings → topic, checkpoints, job → run until stopped."""

from __future__ import annotations

import os
import re
from enum import Enum
from functools import partial
from typing import Annotated

import structlog
import typer
from pyspark.sql import SparkSession

from tapeline.consumer.checkpoints import Checkpoints
from tapeline.consumer.failures import failures_explained
from tapeline.consumer.hadoop_path import place_of
from tapeline.consumer.job import Job, JobOptions, SinkKind, run_job
from tapeline.consumer.session import (
    begin_session,
    early_session,
    is_submitted,
    make_spark_archive,
)
from tapeline.consumer.spark_processor import Topic
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.local.home import Home
from tapeline.model.errors import UsageError
from tapeline.program.command import run_command
from tapeline.program.logs import configure_logging
from tapeline.program.options import folder_or_uri
from tapeline.program.process import end_with_parent, exit_stopped, is_held
from tapeline.program.profile import PROFILE_HELP, Profile
from tapeline.program.rule_file import PolicyOption
from tapeline.program.settings import SECRET_VARIABLES, LogLevel, Settings, load_settings

log = structlog.get_logger()


class StartingOffsets(str, Enum):
    """Where a query begins that has no checkpoint."""

    EARLIEST = "earliest"
    LATEST = "latest"


def _check_trigger(trigger: str | None) -> str | None:
    if trigger is not None and not re.fullmatch(
        r"\d{1,6} (milliseconds?|seconds?|minutes?)", trigger
    ):
        message = f"{trigger!r} is not a valid time: write e.g. '500 milliseconds' or '5 seconds'."
        raise typer.BadParameter(message)
    return trigger


def _check_job(job: Job, *, resets: bool, ends: bool) -> None:
    """Refuse what a job cannot do, rather than do nothing of it or wait forever."""
    if resets and job.query is None:
        message = f"Job {job.value} has no checkpoint: leave out --reset-checkpoint."
        raise UsageError(message)
    if ends and not job.finalizes:
        message = f"Job {job.value} makes no bar final: leave out --until-final, or add --job all."
        raise UsageError(message)


def stream(
    job: Annotated[Job, typer.Option(help="Which layers to run.")] = Job.ALL,
    log_level: Annotated[
        LogLevel | None, typer.Option(case_sensitive=False, help="The least that is logged.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Kafka topic; trades_raw by default.")] = None,
    keyspace: Annotated[
        str | None, typer.Option(help="Cassandra keyspace; market_data by default.")
    ] = None,
    policy: PolicyOption = None,
    checkpoint_dir: Annotated[
        str | None,
        typer.Option(
            callback=folder_or_uri,
            help="Folder of the checkpoints, or a URI of Hadoop's; below TAPELINE_HOME by default.",
        ),
    ] = None,
    reset_checkpoint: Annotated[
        bool, typer.Option(help="Delete the checkpoints first and read the topic again.")
    ] = False,
    yes: Annotated[bool, typer.Option(help="Do not ask before deleting.")] = False,
    starting_offsets: Annotated[
        StartingOffsets, typer.Option(help="Where to begin when there is no checkpoint.")
    ] = StartingOffsets.EARLIEST,
    trigger: Annotated[
        str | None,
        typer.Option(
            callback=_check_trigger,
            help="Time between micro-batches, e.g. '5 seconds'; by profile when not given.",
        ),
    ] = None,
    sink: Annotated[SinkKind, typer.Option(help="Where rows go.")] = SinkKind.CASSANDRA,
    until_final: Annotated[
        bool, typer.Option(help="End when the tape has ended and every bar is final.")
    ] = False,
    profile: Annotated[Profile | None, typer.Option(help=PROFILE_HELP)] = None,
) -> None:
    """Run the layers from Kafka to Cassandra until stopped.

    Example: tapeline stream --job all
    """
    settings = load_settings().with_target(
        topic=topic, keyspace=keyspace, policy=policy, profile=profile
    )
    _check_job(job, resets=reset_checkpoint, ends=until_final)
    for name in SECRET_VARIABLES:  # Spark's Java process inherits what is left
        os.environ.pop(name, None)
    configure_logging(settings, log_level)
    home = Home(settings.home)
    home.make_writable()
    endpoints = find_endpoints(settings)
    if is_held() and not is_submitted():
        begin_session(settings, endpoints)
    end_with_parent()
    log.info("using", services=str(endpoints))
    source = Topic(
        endpoints.bootstrap_servers,
        settings.kafka.topic,
        topic_id_of(topic_admin(endpoints.bootstrap_servers, settings.kafka), settings.kafka.topic),
        starting_offsets.value,
    )
    # A topic made again begins again at offset 0, so its checkpoints are its own; and what was
    # only printed must not count as written.
    below_home = str(home.checkpoints / settings.cassandra.keyspace)
    root = place_of(checkpoint_dir or below_home, partial(_session, settings, endpoints))
    checkpoints = Checkpoints(root / source.topic_id / sink.value)
    if reset_checkpoint and job.query is not None:
        checkpoints.reset(job.query, confirmed=yes)
    options = JobOptions(job, sink, trigger or settings.profile.sizes.trigger, until_final)
    is_stopped = run_job(settings, endpoints, source, checkpoints, options)
    make_spark_archive(home)
    if is_stopped:
        exit_stopped()


def _session(settings: Settings, endpoints: Endpoints) -> SparkSession:
    with failures_explained("stream"):
        return early_session(settings, endpoints)


def main() -> None:
    """Run as a program of its own."""
    run_command(stream)


if __name__ == "__main__":
    main()
