"""Open a keyspace: the one that settings name, on the Cassandra that is found for them."""

from __future__ import annotations

from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.program.settings import Settings
from tapeline.storage.cassandra_client import CassandraClient


def open_keyspace(
    settings: Settings, endpoints: Endpoints | None = None, *, needs_tables: bool = True
) -> CassandraClient:
    """Return a client of a keyspace; a `with` statement closes it.

    Args:
        settings: name the keyspace.
        endpoints: None are those found for the settings.
        needs_tables: False for who creates or drops them, or looks whether they are there.

    Raises:
        ServiceUnavailableError: Cassandra does not answer.
        SchemaError: the tables are not there.
    """
    found = endpoints or find_endpoints(settings)
    client = CassandraClient(settings.cassandra, found.cassandra_host, found.cassandra_port)
    try:
        if needs_tables:
            client.require_schema()
    except BaseException:
        client.close()
        raise
    return client
