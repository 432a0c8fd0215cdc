"""Reads of Cassandra for the API: off the event loop, bounded in number and time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

import anyio
from anyio import CapacityLimiter, to_thread
from cassandra import DriverException
from cassandra.cluster import NoHostAvailable

from tapeline.api.problems import Problem
from tapeline.errors import TapelineError
from tapeline.local.discovery import find_endpoints
from tapeline.settings import Settings
from tapeline.storage.cassandra_client import CassandraClient

_READS_AT_ONCE: Final = 16
_TIMEOUT_S: Final = 10.0
_T = TypeVar("_T")


class Store:
    """The keyspace behind the API; connects when it is first asked, and again after a failure.

    Args:
        settings: keyspace and services.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limiter = CapacityLimiter(_READS_AT_ONCE)
        self._lock = threading.Lock()
        self._client: CassandraClient | None = None

    async def read(self, query: Callable[[CassandraClient], _T]) -> _T:
        """Run a query in a thread.

        Raises:
            Problem: 503 when Cassandra does not answer, or not in time.
        """
        try:
            with anyio.fail_after(_TIMEOUT_S):
                return await to_thread.run_sync(
                    partial(self._run, query), abandon_on_cancel=True, limiter=self._limiter
                )
        except TimeoutError as error:
            detail = f"Cassandra has not answered within {_TIMEOUT_S:.0f} s: try again."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail) from error
        except (DriverException, NoHostAvailable, TapelineError) as error:
            detail = (
                str(error)
                if isinstance(error, TapelineError)
                else "Cassandra cannot answer now: try again."
            )
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail) from error

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    def _run(self, query: Callable[[CassandraClient], _T]) -> _T:
        return query(self._connected())

    def _connected(self) -> CassandraClient:
        with self._lock:
            if self._client is None:
                endpoints = find_endpoints(self._settings)
                client = CassandraClient(
                    self._settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port
                )
                try:
                    client.require_schema()
                except TapelineError:
                    client.close()
                    raise
                self._client = client
            return self._client
