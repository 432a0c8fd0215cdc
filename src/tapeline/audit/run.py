"""One audit from beginning to end: connect, survey, check the layers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Final

import typer
from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from confluent_kafka import KafkaException
from rich.progress import Progress

from tapeline.audit.context import Advance, Context, Meanwhile, Scope, survey
from tapeline.audit.findings import Findings
from tapeline.audit.hour_check import check_hours, silver_windows
from tapeline.audit.message_check import check_messages, message_ranges
from tapeline.audit.tables import Spill, query
from tapeline.audit.vendor_check import check_vendor
from tapeline.audit.window_check import check_windows
from tapeline.kafka.reader import TopicReader
from tapeline.kafka.topics import living_topics, topic_admin, topic_id_of
from tapeline.local.discovery import find_endpoints
from tapeline.local.keyspace import open_keyspace
from tapeline.model.conditions import SHIPPED
from tapeline.model.errors import SchemaError, ServiceUnavailableError, UsageError
from tapeline.program.process import rare_collections
from tapeline.program.settings import Settings

_BOTH: Final = "SELECT * FROM silver UNION SELECT * FROM gold"


def run_audit(
    settings: Settings, scope: Scope, against: Path | None, progress: Progress
) -> Findings:
    """Audit a keyspace and topic and return what was found.

    Raises:
        UsageError: there is nothing to audit, or the vendor's file is none.
        ServiceUnavailableError: Kafka or Cassandra does not answer, or falls silent.
    """
    with (
        rare_collections(),
        _connected(settings, scope) as context,
        tempfile.TemporaryDirectory(prefix="tapeline-audit-") as folder,
    ):
        silver = silver_windows(context)
        windows = check_hours(context, silver)
        if against is not None:
            check_vendor(context, against)
        offsets = context.kafka.offsets()
        ranges = message_ranges(context, offsets)
        total = sum(stop - start for some in ranges.values() for start, stop in some)
        spill = Spill(Path(folder), total)
        with closing(spill):
            check_messages(context, ranges, offsets, spill, _task(progress, "messages", total))
        windows = query(_BOTH, silver=silver, gold=windows)
        check_windows(context, spill, windows, _task(progress, "windows", windows.num_rows))
    if not context.findings.total_checked:
        message = (
            f"Keyspace {settings.cassandra.keyspace} has nothing that can be audited in these "
            "times and symbols."
        )
        raise UsageError(message)
    return context.findings


@contextmanager
def _connected(settings: Settings, scope: Scope) -> Iterator[Context]:
    """Yield what the checks need; a service that fails on the way is one that does not answer."""
    endpoints = find_endpoints(settings)
    typer.echo(f"Using {endpoints}", err=True)
    keyspace, topic = settings.cassandra.keyspace, settings.kafka.topic
    rules = settings.stream.policy
    with ExitStack() as stack:
        client = stack.enter_context(open_keyspace(settings, endpoints))
        client.require_symbols(scope.symbols)
        admin = topic_admin(endpoints.bootstrap_servers, settings.kafka)
        topic_id = topic_id_of(admin, topic)
        kafka = TopicReader(endpoints.bootstrap_servers, topic, topic_id, settings.kafka)
        stack.enter_context(closing(kafka))
        try:
            living = living_topics(admin)
            baseline = survey(client, scope, datetime.now(timezone.utc), living.keys())
            if not any(partition[0] == topic_id for partition in baseline.committed):
                message = (
                    f"Keyspace {keyspace} holds nothing of topic {topic}: name the topic that it "
                    "was made of with --topic."
                )
                raise SchemaError(message)
            meanwhile = Meanwhile(client, baseline.committed)
            yield Context(client, kafka, baseline, scope, meanwhile, {**SHIPPED, rules.name: rules})
        except (DriverException, NoHostAvailable, KafkaException, OSError) as error:
            message = f"The audit has stopped, run it again: {type(error).__name__}: {error}"
            raise ServiceUnavailableError(message) from error


def _task(progress: Progress, name: str, total: int) -> Advance:
    task = progress.add_task(name, total=total)
    return partial(progress.advance, task)
