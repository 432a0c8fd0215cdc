"""Open a keyspace: the one that settings name, on the Cassandra that is found for them."""

from __future__ import annotations

from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.local.home import Home
from tapeline.local.lock import is_held
from tapeline.model.errors import AccessError, ServiceUnavailableError
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
    try:
        return _opened(settings, found, needs_tables=needs_tables)
    except AccessError:
        raise
    except ServiceUnavailableError as error:
        if found.cassandra_is_by_default and is_held(Home(settings.home).lock_file):
            # Where it will be is not known before all of it answers.
            message = (
                "The local Kafka and Cassandra are being started, and fetched the first time: try "
                "again when they are."
            )
            raise ServiceUnavailableError(message) from error
        raise


def _opened(settings: Settings, found: Endpoints, *, needs_tables: bool) -> CassandraClient:
    client = CassandraClient(settings.cassandra, found.cassandra_host, found.cassandra_port)
    try:
        if needs_tables:
            client.require_schema()
    except BaseException:
        client.close()
        raise
    return client
