"""Reads of Cassandra for the API: off the event loop, bounded in number and time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

import anyio
import structlog
from cassandra import DriverException, InvalidRequest
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException

from tapeline.api.problems import Problem
from tapeline.local.keyspace import open_keyspace
from tapeline.model.errors import ServiceUnavailableError, TapelineError
from tapeline.program.metrics import STORE_READS, Metrics
from tapeline.program.settings import Settings
from tapeline.storage.cassandra_client import CassandraClient

log = structlog.get_logger()

_READS_AT_ONCE: Final = 16
LONGEST_READ_S: Final = 10.0
_REQUEST_TIMEOUT_S: Final = 5.0
"""Of one request of the driver's: a thread that nobody waits for any more ends soon."""
_CONNECT_AGAIN_S: Final = 1.0
_SYMBOLS_KEPT_S: Final = 10.0
_T = TypeVar("_T")


class Store:
    """The keyspace behind the API; connects when it is first asked, and again after a failure.

    Args:
        settings: keyspace and services.
        metrics: of the API.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        timeout_s = min(settings.cassandra.request_timeout_s, _REQUEST_TIMEOUT_S)
        cassandra = settings.cassandra.model_copy(update={"request_timeout_s": timeout_s})
        self._settings = settings.model_copy(update={"cassandra": cassandra})
        # A read whose caller has given up keeps its thread until it notices.
        self._threads = ThreadPoolExecutor(_READS_AT_ONCE, "store")
        self._lock = threading.Lock()
        self._shared: _SharedClient | None = None
        self._failure: tuple[float, TapelineError] | None = None
        self._symbols: tuple[float, frozenset[str]] | None = None

    @property
    def keyspace(self) -> str:
        """Name of the keyspace."""
        return self._settings.cassandra.keyspace

    async def read(self, query: Callable[[CassandraClient], _T]) -> _T:
        """Run a query in a thread.

        Raises:
            Problem: 503 when Cassandra does not answer, or not in time.
        """
        outcome = "failed"
        try:
            with anyio.fail_after(LONGEST_READ_S):
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(self._threads, self._run, query)
            outcome = "ok"
            return found  # noqa: TRY300 - the outcome is counted below
        except TimeoutError as error:
            detail = f"Cassandra has not answered within {LONGEST_READ_S:.0f} s: try again."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail) from error
        except InvalidRequest as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "query: Cassandra refuses it") from error
        except TapelineError as error:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        except (DriverException, NoHostAvailable, ConnectionException) as error:
            log.info("read_failed", error=repr(error))
            detail = "Cassandra cannot answer now: try again."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail) from error
        finally:
            self._metrics[STORE_READS].labels(outcome).inc()

    async def symbols(self) -> frozenset[str]:
        """Return every symbol that has a bar, as of a few seconds ago."""
        kept = self._symbols
        if kept is None or time.monotonic() - kept[0] > _SYMBOLS_KEPT_S:
            found = frozenset(await self.read(lambda client: client.symbols()))
            kept = self._symbols = (time.monotonic(), found)
        return kept[1]

    async def require_known(self, symbol: str) -> None:
        """Tell a wrong name from a time without rows.

        Raises:
            Problem: 404, there is no bar of this symbol at all.
        """
        if symbol not in await self.symbols():
            detail = f"There is no bar of {symbol}; /v1/symbols lists what there is."
            raise Problem(HTTPStatus.NOT_FOUND, detail)

    def close(self) -> None:
        """Close the connection, once what is being read has its answer."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._retire()

    def _run(self, query: Callable[[CassandraClient], _T]) -> _T:
        shared = self._taken()
        try:
            return query(shared.client)
        except NoHostAvailable:
            # Its place may be another one now: a local Cassandra that was started again.
            with self._lock:
                if self._shared is shared:
                    self._retire()
            raise
        finally:
            with self._lock:
                shared.readers -= 1
                shared.close_if_unused()

    def _retire(self) -> None:
        if self._shared is not None:
            self._shared.is_retired = True
            self._shared.close_if_unused()
            self._shared = None

    def _taken(self) -> _SharedClient:
        """Return the client for one more reader; connect if there is none."""
        with self._lock:
            if self._shared is None:
                if self._failure and time.monotonic() - self._failure[0] < _CONNECT_AGAIN_S:
                    raise ServiceUnavailableError(str(self._failure[1]))
                try:
                    self._shared = _SharedClient(self._connect())
                except TapelineError as error:
                    self._failure = time.monotonic(), error
                    raise
            self._shared.readers += 1
            return self._shared

    def _connect(self) -> CassandraClient:
        return open_keyspace(self._settings)


@dataclass(slots=True)
class _SharedClient:
    """A client and how many threads read by it.

    It is closed by the last of them: to whom the driver owes an answer when it is closed, it never
    gives one.
    """

    client: CassandraClient
    readers: int = 0
    is_retired: bool = False

    def close_if_unused(self) -> None:
        """Close it where nobody reads by it any more; the store's lock is held."""
        if self.is_retired and not self.readers:
            self.client.close()
