"""`tapeline init`: keyspace, tables and topics."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from tapeline.kafka.topics import create_topics, topic_admin
from tapeline.local.discovery import find_endpoints
from tapeline.local.keyspace import open_keyspace
from tapeline.program.settings import load_settings


def init(
    keyspace: Annotated[
        str | None, typer.Option(help="Cassandra keyspace; market_data by default.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Kafka topic; trades_raw by default.")] = None,
) -> None:
    """Create keyspace, tables and topics; running it again changes nothing.

    Replication and lifetimes follow the settings, by ALTER where they differ; a default takes
    nothing away from a keyspace that was given more.

    Example: tapeline init
    """
    settings = load_settings().with_target(topic=topic, keyspace=keyspace)
    endpoints = find_endpoints(settings)
    console = Console(markup=False)
    console.print(f"Using {endpoints}", highlight=False)
    with open_keyspace(settings, endpoints, needs_tables=False) as client:
        client.create_schema()
    create_topics(topic_admin(endpoints.bootstrap_servers, settings.kafka), settings.kafka)
    kafka = settings.kafka
    topics = f"{kafka.topic}, {kafka.dead_letter_topic} and {kafka.status_topic}"
    console.print(f"Keyspace {settings.cassandra.keyspace}, topics {topics} are ready.")
