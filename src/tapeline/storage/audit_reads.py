"""What an audit reads of a keyspace, as plain tuples; times are ms since the Unix epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeVar

from cassandra.cluster import EXEC_PROFILE_DEFAULT, ResponseFuture, Session
from cassandra.query import PreparedStatement, tuple_factory

from tapeline.model.bar import Interval
from tapeline.storage.rows import BUCKET_OFFSETS
from tapeline.storage.schema import check_keyspace_name

Rows = list[tuple[Any, ...]]
T = TypeVar("T")

_PAGE_ROWS: Final = 5000
_RANGES_AHEAD: Final = 2
_WINDOWS_AHEAD: Final = 16


class AuditReads:
    """Reads of bronze, silver, quarantine and gold's keys, a few requests ahead.

    Args:
        session: the client's; requests raise the driver's errors.
        keyspace: of the tables.
    """

    def __init__(self, session: Session, keyspace: str) -> None:
        self._session = session
        self._keyspace = check_keyspace_name(keyspace)
        self._profile = session.execution_profile_clone_update(
            EXEC_PROFILE_DEFAULT, row_factory=tuple_factory
        )
        self._prepared = lru_cache(maxsize=16)(self._prepare)

    def lifetimes(self) -> dict[str, timedelta]:
        """Return how long each table keeps its rows; 0 is forever."""
        tables = self._session.cluster.metadata.keyspaces[self._keyspace].tables
        return {
            name: timedelta(seconds=table.options["default_time_to_live"])
            for name, table in tables.items()
        }

    def topic_ids(self) -> list[str]:
        """Return the topics of which the keyspace holds anything."""
        return [row[0] for row in self._all("SELECT DISTINCT topic_id FROM {}.ingest_progress")]

    def bronze_buckets(self) -> Iterator[tuple[str, int, int]]:
        """Yield (topic_id, kafka_partition, bucket) of each partition of bronze."""
        yield from self._all(
            "SELECT DISTINCT topic_id, kafka_partition, bucket FROM {}.trades_bronze"
        )

    def silver_windows(self) -> Iterator[tuple[str, int]]:
        """Yield (symbol, start) of each window that has trades."""
        # A function of a key's column may not stand beside DISTINCT.
        for symbol, start in self._all("SELECT DISTINCT symbol, bucket FROM {}.trades_silver"):
            yield symbol, _naive_millis(start)

    def gold_periods(self, interval: Interval) -> Iterator[tuple[str, date]]:
        """Yield (symbol, period) of each partition of gold."""
        table = "trades_gold_1h" if interval is Interval.ONE_HOUR else "trades_gold_5m"
        for symbol, period in self._all(f"SELECT DISTINCT symbol, period FROM {{}}.{table}"):
            yield symbol, period.date()

    def bronze(
        self, topic_id: str, kafka_partition: int, ranges: Iterable[tuple[int, int]]
    ) -> Iterator[Rows]:
        """Yield (kafka_offset, kafka_timestamp, message_key, message) of each range of offsets.

        A range [start, stop) lies in one bucket.
        """
        columns = "kafka_offset, to_unix_timestamp(kafka_timestamp), message_key, message"
        return self._offsets("trades_bronze", columns, topic_id, kafka_partition, ranges)

    def quarantine(
        self, topic_id: str, kafka_partition: int, ranges: Iterable[tuple[int, int]]
    ) -> Iterator[Rows]:
        """Yield (kafka_offset, kafka_timestamp, reason, message_key, message) of each range."""
        columns = "kafka_offset, to_unix_timestamp(kafka_timestamp), reason, message_key, message"
        return self._offsets("trades_quarantine", columns, topic_id, kafka_partition, ranges)

    def silver(self, windows: Iterable[tuple[str, int]]) -> Iterator[tuple[tuple[str, int], Rows]]:
        """Yield each window with its trades.

        Columns: event_time, trade_id, price, volume, conditions, sequence, received_at, source.
        """
        statement = self._prepared(
            "SELECT to_unix_timestamp(event_time), trade_id, price, volume, conditions, sequence, "
            "to_unix_timestamp(received_at), source "
            "FROM {}.trades_silver WHERE symbol = ? AND bucket = ?"
        )
        for window, future in _ahead(
            windows, lambda window: self._send(statement, window), _WINDOWS_AHEAD
        ):
            yield window, list(future.result())

    def _offsets(
        self,
        table: str,
        columns: str,
        topic_id: str,
        kafka_partition: int,
        ranges: Iterable[tuple[int, int]],
    ) -> Iterator[Rows]:
        statement = self._prepared(
            f"SELECT {columns} FROM {{}}.{table} WHERE topic_id = ? AND kafka_partition = ? "
            "AND bucket = ? AND kafka_offset >= ? AND kafka_offset < ?"
        )

        def send(offsets: tuple[int, int]) -> ResponseFuture:
            bucket = offsets[0] // BUCKET_OFFSETS
            return self._send(statement, (topic_id, kafka_partition, bucket, *offsets))

        for _, future in _ahead(ranges, send, _RANGES_AHEAD):
            yield list(future.result())

    def _all(self, cql: str) -> Iterator[tuple[Any, ...]]:
        yield from self._send(self._prepared(cql), ()).result()

    def _send(self, statement: PreparedStatement, values: Sequence[Any]) -> ResponseFuture:
        return self._session.execute_async(statement, values, execution_profile=self._profile)

    def _prepare(self, cql: str) -> PreparedStatement:
        statement = self._session.prepare(cql.format(self._keyspace))
        statement.is_idempotent = True
        statement.fetch_size = _PAGE_ROWS
        return statement


def _ahead(
    arguments: Iterable[T], send: Callable[[T], ResponseFuture], ahead: int
) -> Iterator[tuple[T, ResponseFuture]]:
    """Send requests in order, so many before the first of them is waited for."""
    sent: deque[tuple[T, ResponseFuture]] = deque()
    for argument in arguments:
        sent.append((argument, send(argument)))
        if len(sent) > ahead:
            yield sent.popleft()
    yield from sent


def _naive_millis(time: datetime) -> int:
    """Return the ms from the epoch to an instant as the driver gives it: UTC without a zone."""
    return (time - datetime(1970, 1, 1)) // timedelta(milliseconds=1)  # noqa: DTZ001 - see above
