"""`tapeline audit`: prove that the stored bars are right."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timezone
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import polars as pl
import typer
from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tapeline.audit.bar_walk import silver_windows, walk_gold, walk_vendor
from tapeline.audit.context import Advance, Context
from tapeline.audit.findings import Findings
from tapeline.audit.ground import survey
from tapeline.audit.kafka_reader import TopicReader
from tapeline.audit.message_walk import message_ranges, walk_messages
from tapeline.audit.report import json_report, print_report
from tapeline.audit.scope import Scope
from tapeline.audit.spill import Spill
from tapeline.audit.window_walk import walk_windows
from tapeline.bars_command import TIME_FORMATS
from tapeline.errors import AuditError, SchemaError, ServiceUnavailableError, UsageError
from tapeline.local.discovery import find_endpoints
from tapeline.producer.topics import topic_admin, topic_id_of
from tapeline.settings import Settings, load_settings
from tapeline.storage.audit_reads import AuditReads
from tapeline.storage.cassandra_client import CassandraClient

_FILE_WIDTH: Final = 200


class Format(str, Enum):
    """How the report is written."""

    TABLE = "table"
    JSON = "json"


def audit(
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=TIME_FORMATS, help="First window, UTC; the oldest."),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=TIME_FORMATS, help="Windows start before this, UTC."),
    ] = None,
    symbols: Annotated[
        str | None, typer.Option(help="In the feed's names, with commas; all of them.")
    ] = None,
    keyspace: Annotated[str | None, typer.Option(help="market_data by default.")] = None,
    topic: Annotated[str | None, typer.Option(help="trades_raw by default.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="CSV of five-minute bars to compare ours with.")
    ] = None,
    output_format: Annotated[
        Format, typer.Option("--format", help="How to write the report.")
    ] = Format.TABLE,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write.")] = None,
) -> None:
    """Check every layer against the one before it; exit code 1 if anything differs.

    Kafka against bronze byte for byte, bronze against silver and quarantine, silver against
    the bars recomputed without Spark, and the bars against a vendor's.

    Example: tapeline audit --from 2026-11-20 --to 2026-11-21 --symbols AAPL,MSFT
    """
    settings = load_settings().with_target(topic=topic, keyspace=keyspace)
    names = None if symbols is None else [s for s in symbols.split(",") if s]
    utc = timezone.utc
    scope = Scope.of(start and start.replace(tzinfo=utc), end and end.replace(tzinfo=utc), names)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    with progress:
        findings = run_audit(settings, scope, against, progress)
    _write(findings, output_format, output)
    if findings.total_differences:
        message = (
            f"{findings.total_differences:,} differences: what is stored is not what the layer "
            "before it makes."
        )
        raise AuditError(message)


def run_audit(
    settings: Settings, scope: Scope, against: Path | None, progress: Progress
) -> Findings:
    """Audit a keyspace and topic and return what was found.

    Raises:
        UsageError: there is nothing to audit, or the vendor's file is none.
        ServiceUnavailableError: Kafka or Cassandra does not answer, or falls silent.
    """
    with _connected(settings, scope) as context, tempfile.TemporaryDirectory() as folder:
        silver = silver_windows(context)
        windows = walk_gold(context, silver)
        if against is not None:
            walk_vendor(context, against)
        offsets = context.kafka.offsets()
        ranges = message_ranges(context, offsets)
        total = sum(stop - start for some in ranges.values() for start, stop in some)
        spill = Spill(Path(folder), total)
        with closing(spill):
            walk_messages(context, ranges, offsets, spill, _task(progress, "messages", total))
        windows = pl.concat([silver, windows]).unique()
        walk_windows(context, spill, windows, _task(progress, "windows", windows.height))
    if not context.findings.total_checked:
        message = (
            f"Keyspace {settings.cassandra.keyspace} has nothing that can be audited in these "
            "times and symbols."
        )
        raise UsageError(message)
    return context.findings


@contextmanager
def _connected(settings: Settings, scope: Scope) -> Iterator[Context]:
    """Yield what the walks need; a service that fails on the way is one that does not answer."""
    endpoints = find_endpoints(settings)
    typer.echo(f"Using {endpoints}", err=True)
    keyspace, topic = settings.cassandra.keyspace, settings.kafka.topic
    with ExitStack() as stack:
        client = CassandraClient(
            settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port
        )
        stack.enter_context(closing(client))
        client.require_schema()
        topic_id = topic_id_of(topic_admin(endpoints.bootstrap_servers), topic)
        kafka = TopicReader(endpoints.bootstrap_servers, topic, topic_id)
        stack.enter_context(closing(kafka))
        reads = AuditReads(client.session, keyspace)
        try:
            ground = survey(client, reads, scope, datetime.now(timezone.utc))
            if not any(partition[0] == topic_id for partition in ground.committed):
                message = (
                    f"Keyspace {keyspace} holds nothing of topic {topic}: name the topic that it "
                    "was made of with --topic."
                )
                raise SchemaError(message)
            yield Context(client, reads, kafka, ground, scope)
        except (DriverException, NoHostAvailable, KafkaException, OSError) as error:
            message = f"The audit has stopped, run it again: {type(error).__name__}: {error}"
            raise ServiceUnavailableError(message) from error


def _task(progress: Progress, name: str, total: int) -> Advance:
    task = progress.add_task(name, total=total)
    return partial(progress.advance, task)


def _write(findings: Findings, output_format: Format, output: Path | None) -> None:
    text = io.StringIO()
    if output_format is Format.JSON:
        text.write(json_report(findings))
    elif output is not None:
        print_report(findings, Console(file=text, width=_FILE_WIDTH))
    else:
        print_report(findings, Console())
    if output is None:
        typer.echo(text.getvalue(), nl=False)
        return
    try:
        output.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        message = f"The report cannot be written: {error}"
        raise UsageError(message) from error
