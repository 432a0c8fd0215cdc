"""Decide which Kafka and Cassandra to use: explicit settings, the local stack, localhost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tapeline.local.home import Home
from tapeline.local.service import LOOPBACK
from tapeline.local.state import CASSANDRA, KAFKA, ports_of
from tapeline.program.settings import Settings

DEFAULT_KAFKA_PORT: Final = 9092
_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses, with where each was found."""

    bootstrap_servers: str
    cassandra_host: str
    cassandra_port: int
    kafka_from: str
    cassandra_from: str

    @property
    def cassandra_is_by_default(self) -> bool:
        """Whether nothing says where Cassandra is."""
        return self.cassandra_from == _DEFAULT

    def __str__(self) -> str:
        """Say which services, and where each was found."""
        return (
            f"Kafka {self.bootstrap_servers} ({self.kafka_from}), "
            f"Cassandra {self.cassandra_host}:{self.cassandra_port} ({self.cassandra_from})"
        )


def find_endpoints(settings: Settings) -> Endpoints:
    """Return the services to use; asks nothing of the network."""
    ports = ports_of(Home(settings.home))
    servers, kafka_from = f"{LOOPBACK}:{DEFAULT_KAFKA_PORT}", _DEFAULT
    if settings.kafka.bootstrap_servers:
        servers, kafka_from = settings.kafka.bootstrap_servers, "from settings"
    elif port := ports.get(KAFKA):
        servers, kafka_from = f"{LOOPBACK}:{port}", "local stack"
    host, cql_port, cassandra_from = LOOPBACK, settings.cassandra.port, _DEFAULT
    if settings.cassandra.host:
        host, cassandra_from = settings.cassandra.host, "from settings"
    elif port := ports.get(CASSANDRA):
        cql_port, cassandra_from = port, "local stack"
    return Endpoints(servers, host, cql_port, kafka_from, cassandra_from)
