"""Kafka and Cassandra: whether they answer, and whether they have what they must."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timezone
from typing import Any, Final

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from confluent_kafka import KafkaException

from tapeline.kafka.topics import partitions_of, topic_admin
from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.local.keyspace import open_keyspace
from tapeline.model.errors import SchemaError, ServiceUnavailableError, TapelineError, UsageError
from tapeline.model.feed_status import MOST_OFF_S
from tapeline.model.texts import counted
from tapeline.program.service_settings import KafkaSettings
from tapeline.program.settings import Settings
from tapeline.status.doctor.finding import Finding
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.schema import missing_columns

_TIMEOUT_S: Final = 10.0
_DEFAULT: Final = "default"
"""What the discovery says of a service that nobody has named or started."""
_SHOWN: Final = 3


def check_kafka(settings: Settings) -> Iterator[Finding]:
    """Check that Kafka answers and has the topics."""
    endpoints = find_endpoints(settings)
    where = f"{endpoints.bootstrap_servers} ({endpoints.kafka_from})"
    try:
        metadata = topic_admin(endpoints.bootstrap_servers, settings.kafka).list_topics(
            timeout=_TIMEOUT_S
        )
    except ServiceUnavailableError as error:
        yield _silent("Kafka", endpoints.kafka_from, error)
    except (TapelineError, KafkaException) as error:
        yield Finding.fail("Kafka", error)
    else:
        brokers = counted(len(metadata.brokers), "broker")
        yield Finding.ok("Kafka", f"Answers at {where}, {brokers}.")
        yield _topics(settings.kafka, metadata)
        return
    yield Finding.not_checked("topics", "Kafka has to answer first.")


def _topics(settings: KafkaSettings, metadata: Any) -> Finding:
    names = (
        settings.topic,
        settings.dead_letter_topic,
        settings.status_topic,
        settings.gaps_topic,
        settings.symbols_topic,
    )
    counts: dict[str, int] = {}
    try:
        for name in names:
            counts[name] = len(partitions_of(metadata, name))
    except SchemaError as error:
        by_itself = f"There is no topic {name}: create it with `tapeline init`."
        return Finding.fail("topics", error if name == settings.topic else by_itself)
    for name in names:
        led = metadata.topics[name].partitions.values()
        if any(partition.leader < 0 for partition in led):
            text = f"A partition of {name} has no leader: start the brokers that have its copies."
            return Finding.fail("topics", text)
    text = ", ".join(f"{name} {count}" for name, count in counts.items())
    return Finding.ok("topics", f"All are there, with so many partitions: {text}.")


def check_cassandra(settings: Settings) -> Iterator[Finding]:
    """Check that Cassandra answers, its data centre, its tables, and our clock against its."""
    endpoints = find_endpoints(settings)
    try:
        client = open_keyspace(settings, endpoints, needs_tables=False)
    except ServiceUnavailableError as error:
        yield _silent("Cassandra", endpoints.cassandra_from, error)
    except UsageError as error:
        yield Finding.ok("Cassandra", f"Answers at {_address(endpoints)}.")
        yield Finding.fail("data centre", error)
    except (TapelineError, DriverException, NoHostAvailable) as error:
        yield Finding.fail("Cassandra", error)
    else:
        with client:
            yield Finding.ok("Cassandra", f"Answers at {_address(endpoints)}.")
            centre = settings.cassandra.local_datacenter
            yield Finding.ok("data centre", f"{centre} is one of the cluster's.")
            yield _tables(client)
            yield _clock(client)
        return
    for check in ("keyspace", "clock"):
        yield Finding.not_checked(check, "Cassandra has to let us in first.")


def _address(endpoints: Endpoints) -> str:
    host, port = endpoints.cassandra_host, endpoints.cassandra_port
    return f"{host}:{port} ({endpoints.cassandra_from})"


def _silent(check: str, found: str, error: ServiceUnavailableError) -> Finding:
    """Return the finding on a service that does not answer: wrong only where one was named."""
    if found == _DEFAULT:
        return Finding.not_checked(check, f"None is set or started. {error}")
    return Finding.fail(check, error)


def _tables(client: CassandraClient) -> Finding:
    try:
        client.require_schema()
    except SchemaError as error:
        lacking = _lacking(client)
        return Finding.fail("keyspace", f"{error}{f' Missing: {lacking}.' if lacking else ''}")
    return Finding.ok("keyspace", f"{client.keyspace} has all tables and columns.")


def _lacking(client: CassandraClient) -> str:
    """Name the first columns that the tables of a keyspace lack; nothing where it has no tables."""
    known = client.session.cluster.metadata.keyspaces.get(client.keyspace)
    if known is None or not known.tables:
        return ""
    names = [f"{table}.{column}" for table, column, _ in missing_columns(known)]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _clock(client: CassandraClient) -> Finding:
    """Compare the host's clock with that of the node which answers."""
    before_s = time.time()
    try:
        answer = client.rows("SELECT toTimestamp(now()) FROM system.local").one()[0]
    except (DriverException, NoHostAvailable) as error:
        return Finding.not_checked("clock", f"Cassandra does not tell its time: {error}.")
    taken_s = time.time() - before_s
    theirs_s = answer.replace(tzinfo=timezone.utc).timestamp()
    ahead_s = before_s + taken_s / 2 - theirs_s
    kafka = "Kafka tells no time."
    if abs(ahead_s) > MOST_OFF_S + taken_s:
        side = "ahead of" if ahead_s > 0 else "behind"
        text = f"This host is {abs(ahead_s):,.0f} s {side} Cassandra: set both by a time server."
        return Finding.fail("clock", f"{text} {kafka}")
    return Finding.ok("clock", f"{abs(ahead_s):.1f} s from Cassandra's. {kafka}")
