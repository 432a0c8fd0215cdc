"""Two ways to write rows: the C++ driver from asyncio, and cassandra-driver with callbacks."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Final, Protocol

import acsylla
from cassandra.cluster import Cluster
from cassandra.query import BatchStatement, BatchType

from bench.plain.tables import COLUMNS, Groups, Row, insert_into, schema, times_of

BATCH_ROWS: Final = 100
"""Rows of one partition that share an unlogged batch."""
_IN_FLIGHT: Final = 128
_TIMEOUT_S: Final = 60.0
_LOOPBACK: Final = "127.0.0.1"


class Writer(Protocol):
    """Writes rows of one keyspace."""

    async def open(self, port: int, keyspace: str) -> None:
        """Connect, make the tables, prepare the statements."""
        ...

    async def write(self, table: str, groups: Groups) -> None:
        """Write rows; return when all are acknowledged."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class AcsyllaWriter:
    """The C++ driver: many batches in flight, their rows bound in C."""

    async def open(self, port: int, keyspace: str) -> None:
        """Connect, make the tables, prepare the statements."""
        cluster = acsylla.create_cluster([_LOOPBACK], port=port, request_timeout=_TIMEOUT_S)
        self._session = await cluster.create_session()
        for statement in schema(keyspace):
            await self._session.execute(acsylla.create_statement(statement))
        self._prepared = {
            table: await self._session.create_prepared(insert_into(keyspace, table))
            for table in COLUMNS
        }
        self._times = {table: times_of(table) for table in COLUMNS}
        self._room = asyncio.Semaphore(_IN_FLIGHT)

    async def write(self, table: str, groups: Groups) -> None:
        """Write rows; return when all are acknowledged."""
        tasks = []
        for group in groups:
            for first in range(0, len(group), BATCH_ROWS):
                await self._room.acquire()
                request = self._request(table, group[first : first + BATCH_ROWS])
                task = asyncio.ensure_future(request)
                task.add_done_callback(lambda _: self._room.release())
                tasks.append(task)
        await asyncio.gather(*tasks)

    async def close(self) -> None:
        """Disconnect."""
        await self._session.close()

    def _request(self, table: str, rows: list[Row]) -> Any:
        prepared, times = self._prepared[table], self._times[table]
        if len(rows) == 1:
            return self._session.execute(_bound(prepared, rows[0], times))
        batch = acsylla.create_batch_unlogged()
        for row in rows:
            batch.add_statement(_bound(prepared, row, times))
        return self._session.execute_batch(batch)


def _bound(prepared: Any, row: Row, times: tuple[int, ...]) -> Any:
    for place in times:
        row[place] /= 1000  # this driver takes seconds
    statement = prepared.bind()
    statement.bind_list(row)
    return statement


class DriverWriter:
    """cassandra-driver: requests without waiting, acknowledged by callbacks in its own thread."""

    async def open(self, port: int, keyspace: str) -> None:
        """Connect, make the tables, prepare the statements."""
        self._cluster = Cluster([_LOOPBACK], port=port, connect_timeout=_TIMEOUT_S)
        self._session = self._cluster.connect()
        self._session.default_timeout = _TIMEOUT_S
        for statement in schema(keyspace):
            self._session.execute(statement)
        self._prepared = {
            table: self._session.prepare(insert_into(keyspace, table)) for table in COLUMNS
        }
        self._room = threading.BoundedSemaphore(_IN_FLIGHT)

    async def write(self, table: str, groups: Groups) -> None:
        """Write rows; return when all are acknowledged."""
        pieces = [
            group[first : first + BATCH_ROWS]
            for group in groups
            for first in range(0, len(group), BATCH_ROWS)
        ]
        if not pieces:
            return
        answers = _Answers(len(pieces), self._room)
        for rows in pieces:
            # Its answers come in a thread of the driver's, so waiting here holds nothing up.
            self._room.acquire()
            future = self._session.execute_async(self._statement(table, rows))
            future.add_callbacks(answers.came, answers.failed)
        await answers.all_came

    async def close(self) -> None:
        """Disconnect."""
        self._cluster.shutdown()

    def _statement(self, table: str, rows: list[Row]) -> Any:
        prepared = self._prepared[table]
        if len(rows) == 1:
            return prepared.bind(rows[0])
        batch = BatchStatement(BatchType.UNLOGGED)
        for row in rows:
            batch.add(prepared.bind(row))
        return batch


class _Answers:
    """Counts what cassandra-driver's thread acknowledges."""

    def __init__(self, expected: int, room: threading.BoundedSemaphore) -> None:
        self._loop = asyncio.get_running_loop()
        self.all_came: asyncio.Future[None] = self._loop.create_future()
        self._left = expected
        self._room = room

    def came(self, _rows: object) -> None:
        """Take an answer."""
        self._room.release()
        self._left -= 1
        if not self._left:
            self._loop.call_soon_threadsafe(self.all_came.set_result, None)

    def failed(self, error: Exception) -> None:
        """Take a refusal."""
        self._room.release()
        self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: Exception) -> None:
        if not self.all_came.done():
            self.all_came.set_exception(error)
