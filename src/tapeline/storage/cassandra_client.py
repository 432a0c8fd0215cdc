"""The Cassandra client: pooled connections, prepared statements, time-outs, safe retries.

Every write is an idempotent upsert whose write time comes from the data, so the driver may
repeat it after a time-out. Times are UTC; the driver hands out and takes naive datetimes,
which this module turns into aware ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Final

from cassandra import ConsistencyLevel, UnresolvableContactPoints
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    ResultSet,
    Session,
)
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import UNSET_VALUE, PreparedStatement

from tapeline.bar import Bar, Interval
from tapeline.errors import SchemaError, ServiceUnavailableError
from tapeline.settings import CassandraSettings
from tapeline.storage.rows import (
    BAR_FIELDS,
    BUCKET_OFFSETS,
    GOLD_TABLES,
    WINDOW_BUCKET_OFFSETS,
    PartitionProgress,
    StoredBar,
    WindowState,
    bar_of,
    periods,
)
from tapeline.storage.schema import (
    apply_schema,
    check_keyspace_name,
    drop_keyspace,
    missing_columns,
)
from tapeline.times import to_micros

_CONCURRENCY: Final = 64
_COUNTS_AT_ONCE: Final = 2
"""A count of messages reads a partition of up to 100,000; a busy node has no time for more."""
_SPECULATE_AFTER_S: Final = 2.0
_REPETITIONS: Final = 3

_BAR_COLUMNS: Final = ", ".join(BAR_FIELDS)


class CassandraClient:
    """Reads and writes of one keyspace.

    Requests raise the driver's errors; connecting raises ServiceUnavailableError.
    """

    def __init__(self, settings: CassandraSettings, host: str, port: int) -> None:
        self._settings = settings
        self._keyspace = check_keyspace_name(settings.keyspace)
        try:
            self._cluster = _make_cluster(settings, host, port)
            self._session: Session = self._cluster.connect()
        except (NoHostAvailable, UnresolvableContactPoints) as error:
            message = (
                f"Cassandra does not answer at {host}:{port}: start it (`tapeline up` starts a "
                "local one) or set TAPELINE_CASSANDRA__HOST and TAPELINE_CASSANDRA__PORT."
            )
            raise ServiceUnavailableError(message) from error
        self._prepared = lru_cache(maxsize=64)(self._prepare)

    @property
    def session(self) -> Session:
        """The driver's session, for reads that have a module of their own."""
        return self._session

    @property
    def keyspace(self) -> str:
        """The checked name of the keyspace."""
        return self._keyspace

    def close(self) -> None:
        """Close all connections."""
        self._cluster.shutdown()

    # Schema

    def create_schema(self) -> None:
        """Create or alter the keyspace and its tables; harmless when they are right."""
        apply_schema(self._session, self._settings)

    def drop_schema(self) -> None:
        """Drop the keyspace with everything in it.

        Raises:
            SchemaError: it holds tables that are not Tapeline's.
        """
        known = self._cluster.metadata.keyspaces.get(self._keyspace)
        if known is not None and known.tables and "ingest_progress" not in known.tables:
            message = f"Keyspace {self._keyspace} is not Tapeline's: it is not emptied."
            raise SchemaError(message)
        drop_keyspace(self._session, self._keyspace)

    def require_schema(self) -> None:
        """Check that the tables are there.

        Raises:
            SchemaError: they are not.
        """
        known = self._cluster.metadata.keyspaces.get(self._keyspace)
        if known is None or "ingest_progress" not in known.tables:
            lacking = "has no tables of Tapeline: create them"
        elif any(missing_columns(known)):
            lacking = "has tables of an earlier version: complete them"
        else:
            return
        init = f"tapeline init --keyspace {self._keyspace}"
        message = f"Keyspace {self._keyspace} {lacking} with `{init}`."
        raise SchemaError(message)

    # Statements of other modules

    def rows(self, cql: str, arguments: Sequence[Any] = ()) -> ResultSet:
        """Run one query; `{keyspace}` in it stands for the keyspace's checked name."""
        query = self._prepared(cql.replace("{keyspace}", self._keyspace))
        return self._session.execute(query, arguments)

    def run(self, cql: str, arguments: Sequence[Sequence[Any]]) -> list[ResultSet]:
        """Run one statement for many arguments side by side; `{keyspace}` as in `rows`."""
        return self._run(self._prepared(cql.replace("{keyspace}", self._keyspace)), arguments)

    # Bars

    def bars(
        self, symbol: str, interval: Interval, start: datetime, end: datetime
    ) -> Iterator[Bar]:
        """Yield the bars of a symbol with start <= window_start < end, in order of time."""
        start, end = start.astimezone(timezone.utc), end.astimezone(timezone.utc)
        query = self._prepared(self._bars_between(interval))
        for period in periods(interval, start, end):
            for row in self._session.execute(query, (symbol, period, start, end)):
                yield bar_of(row)

    def newest_bars(
        self, symbols: Iterable[str], interval: Interval, start: datetime, end: datetime
    ) -> list[Bar]:
        """Return the newest bar of each symbol that has one with start <= window_start < end."""
        newest_first = " ORDER BY window_start DESC LIMIT 1"
        query = self._prepared(self._bars_between(interval) + newest_first)
        found: dict[str, Bar | None] = dict.fromkeys(symbols)
        for period in reversed(list(periods(interval, start, end))):
            lacking = [symbol for symbol, bar in found.items() if bar is None]
            arguments = [(symbol, period, start, end) for symbol in lacking]
            for symbol, rows in zip(lacking, self._run(query, arguments), strict=True):
                found[symbol] = next(map(bar_of, rows), None)
        return [bar for bar in found.values() if bar is not None]

    def bars_of_ranges(
        self, interval: Interval, ranges: Sequence[tuple[str, datetime, datetime]]
    ) -> list[list[Bar]]:
        """Return the bars of each (symbol, start, end) that lies in one period, by time."""
        arguments = [
            (symbol, interval.period_of(start), start, end) for symbol, start, end in ranges
        ]
        results = self._run(self._prepared(self._bars_between(interval)), arguments)
        return [[bar_of(row) for row in rows] for rows in results]

    def symbols(self) -> set[str]:
        """Return every symbol that has a bar; a look at each partition of the table."""
        query = self._prepared(
            f"SELECT DISTINCT symbol, period FROM {self._table(Interval.FIVE_MINUTES)}"
        )
        return {row.symbol for row in self._session.execute(query)}

    def stored_bars(
        self, interval: Interval, keys: Sequence[tuple[str, datetime]]
    ) -> dict[tuple[str, datetime], StoredBar]:
        """Return the rows of the given (symbol, window_start) that exist, with write times."""
        query = self._prepared(
            f"SELECT {_BAR_COLUMNS}, WRITETIME(trade_count) AS write_time_us "
            f"FROM {self._table(interval)} WHERE symbol = ? AND period = ? AND window_start = ?"
        )
        arguments = [(symbol, interval.period_of(start), start) for symbol, start in keys]
        found: dict[tuple[str, datetime], StoredBar] = {}
        for rows in self._run(query, arguments):
            for row in rows:
                bar = bar_of(row)
                found[bar.symbol, bar.window_start] = StoredBar(bar, row.write_time_us)
        return found

    def write_bars(self, interval: Interval, bars: Sequence[tuple[Bar, int]]) -> None:
        """Upsert whole bars, each with its write time in µs; a null clears what stood there."""
        marks = ", ".join("?" for _ in (*BAR_FIELDS, "period"))
        statement = self._prepared(
            f"INSERT INTO {self._table(interval)} ({_BAR_COLUMNS}, period) "
            f"VALUES ({marks}) USING TIMESTAMP ? AND TTL ?"
        )
        arguments = [
            (
                *(getattr(bar, name) for name in BAR_FIELDS),
                interval.period_of(bar.window_start),
                write_time_us,
                self._settings.gold_ttl_s,
            )
            for bar, write_time_us in bars
        ]
        self._run(statement, arguments)

    # Progress and window state

    def progress(self, topic_id: str) -> dict[int, PartitionProgress]:
        """Return the progress of each Kafka partition that has any."""
        query = self._prepared(
            "SELECT kafka_partition, committed_offset, newest_event_time, newest_received_at, "
            f"settled_bucket, read_offset FROM {self._keyspace}.ingest_progress "
            "WHERE topic_id = ?"
        )
        return {
            row.kafka_partition: PartitionProgress(
                row.kafka_partition,
                -1 if row.committed_offset is None else row.committed_offset,
                _aware(row.newest_event_time),
                _aware(row.newest_received_at),
                row.settled_bucket or 0,
                row.read_offset,
            )
            for row in self._session.execute(query, (topic_id,))
        }

    def write_progress(self, topic_id: str, progress: Iterable[PartitionProgress]) -> None:
        """Raise the progress of partitions; a lower value never replaces a higher one.

        Each column's write time is its own value, which makes the largest win in any order.
        Where the reader is now goes down too.
        """
        for p in progress:
            key = (topic_id, p.kafka_partition)
            self._raise_column("committed_offset", key, p.committed_offset, p.committed_offset + 1)
            for column, value in (
                ("newest_event_time", p.newest_event_time),
                ("newest_received_at", p.newest_received_at),
            ):
                if value is not None:
                    self._raise_column(column, key, value, to_micros(value))
            self._set_column("read_offset", key, p.committed_offset)

    def write_settled_bucket(self, topic_id: str, kafka_partition: int, bucket: int) -> None:
        """Remember that every bucket below this one is settled."""
        self._set_column("settled_bucket", (topic_id, kafka_partition), bucket)

    def write_settled_until(self, topic_id: str, until: datetime) -> None:
        """Remember that every window of a topic that ends by then is settled; it never sinks."""
        self.run(
            "UPDATE {keyspace}.ingest_progress USING TIMESTAMP ? SET settled_until = ? "
            "WHERE topic_id = ?",
            [(to_micros(until), until, topic_id)],
        )

    def settled_until(self) -> datetime | None:
        """Return up to when the windows of the keyspace are settled: by the furthest topic."""
        query = "SELECT DISTINCT topic_id, settled_until FROM {keyspace}.ingest_progress"
        times = (row.settled_until for row in self.rows(query))
        return _aware(max((t for t in times if t is not None), default=None))

    def begin_anew(self, topic_id: str) -> None:
        """Remember that a topic is read again from its start: nothing counts as settled."""
        for kafka_partition in self.progress(topic_id):
            key = (topic_id, kafka_partition)
            self._set_column("read_offset", key, -1)
            self._set_column("settled_bucket", key, 0)

    def window_states(
        self, topic_id: str, kafka_partition: int, buckets: Iterable[int]
    ) -> Iterator[WindowState]:
        """Yield the windows that trades of the given offset buckets touched."""
        query = self._prepared(
            "SELECT bucket, window_start, symbol, dirty_offset, settled_offset, "
            f"hour_settled_offset, first_received_at FROM {self._keyspace}.window_state "
            "WHERE topic_id = ? AND kafka_partition = ? AND bucket = ?"
        )
        for rows in self._run(query, [(topic_id, kafka_partition, b) for b in buckets]):
            for row in rows:
                yield WindowState(
                    topic_id,
                    kafka_partition,
                    row.bucket,
                    row.window_start.replace(tzinfo=timezone.utc),
                    row.symbol,
                    row.dirty_offset,
                    -1 if row.settled_offset is None else row.settled_offset,
                    -1 if row.hour_settled_offset is None else row.hour_settled_offset,
                    _aware(row.first_received_at),
                )

    def touched_windows(
        self, topic_id: str, committed: Mapping[int, int]
    ) -> set[tuple[str, datetime]]:
        """Return the (symbol, window_start) of every trade up to the committed offsets."""
        return {
            (state.symbol, state.window_start)
            for partition, offset in committed.items()
            for state in self.window_states(
                topic_id, partition, range(offset // WINDOW_BUCKET_OFFSETS + 1)
            )
        }

    def write_dirty_windows(self, states: Iterable[WindowState]) -> None:
        """Store the dirty offsets; a lower one never replaces a higher one."""
        self._raise_offsets("dirty_offset", states)

    def mark_settled(self, states: Iterable[WindowState], interval: Interval) -> None:
        """Store that bars hold everything up to the dirty offsets that were read.

        For five minutes also when the first trade was received, where that is known.
        """
        if interval is Interval.FIVE_MINUTES:
            self._raise_offsets("settled_offset", states)
        else:
            states = (replace(s, first_received_at=None) for s in states)
            self._raise_offsets("hour_settled_offset", states)

    # Counts

    def count_messages(self, table: str, topic_id: str, committed: Mapping[int, int]) -> int:
        """Count the rows of bronze or quarantine below the committed offset of each partition."""
        if table not in {"trades_bronze", "trades_quarantine"}:
            raise ValueError(table)
        query = self._prepared(
            f"SELECT count(*) AS n FROM {self._keyspace}.{table} "
            "WHERE topic_id = ? AND kafka_partition = ? AND bucket = ?"
        )
        arguments = [
            (topic_id, partition, bucket)
            for partition, offset in committed.items()
            for bucket in range(offset // BUCKET_OFFSETS + 1)
        ]
        return sum(rows.one().n for rows in self._run(query, arguments, _COUNTS_AT_ONCE))

    def count_silver(self, windows: Iterable[tuple[str, datetime]]) -> int:
        """Count the trades of the given (symbol, window_start)."""
        query = self._prepared(
            f"SELECT count(*) AS n FROM {self._keyspace}.trades_silver "
            "WHERE symbol = ? AND bucket = ?"
        )
        return sum(rows.one().n for rows in self._run(query, list(windows)))

    def _prepare(self, cql: str) -> PreparedStatement:
        statement = self._session.prepare(cql)
        statement.is_idempotent = True
        return statement

    def _run(
        self,
        statement: PreparedStatement,
        arguments: Sequence[Sequence[Any]],
        concurrency: int = _CONCURRENCY,
    ) -> list[Any]:
        if not arguments:
            return []
        results = execute_concurrent_with_args(
            self._session, statement, arguments, concurrency=concurrency
        )
        return [rows for _, rows in results]

    def _bars_between(self, interval: Interval) -> str:
        return (
            f"SELECT {_BAR_COLUMNS} FROM {self._table(interval)} "
            "WHERE symbol = ? AND period = ? AND window_start >= ? AND window_start < ?"
        )

    def _table(self, interval: Interval) -> str:
        return f"{self._keyspace}.{GOLD_TABLES[interval]}"

    def _raise_offsets(self, column: str, states: Iterable[WindowState]) -> None:
        """Store each state's dirty offset in a column, the offset being its write time too."""
        statement = self._prepared(
            f"UPDATE {self._keyspace}.window_state USING TIMESTAMP ? SET {column} = ?, "
            "first_received_at = ? WHERE topic_id = ? AND kafka_partition = ? AND bucket = ? "
            "AND window_start = ? AND symbol = ?"
        )
        self._run(
            statement,
            [
                (
                    s.dirty_offset + 1,
                    s.dirty_offset,
                    UNSET_VALUE if s.first_received_at is None else s.first_received_at,
                    s.topic_id,
                    s.kafka_partition,
                    s.bucket,
                    s.window_start,
                    s.symbol,
                )
                for s in states
            ],
        )

    def _raise_column(
        self, column: str, key: tuple[str, int], value: object, write_time_us: int
    ) -> None:
        statement = self._prepared(
            f"UPDATE {self._keyspace}.ingest_progress USING TIMESTAMP ? SET {column} = ? "
            "WHERE topic_id = ? AND kafka_partition = ?"
        )
        self._session.execute(statement, (write_time_us, value, *key))

    def _set_column(self, column: str, key: tuple[str, int], value: int) -> None:
        statement = self._prepared(
            f"UPDATE {self._keyspace}.ingest_progress SET {column} = ? "
            "WHERE topic_id = ? AND kafka_partition = ?"
        )
        self._session.execute(statement, (value, *key))


class RepeatingPolicy(RetryPolicy):  # type: ignore[misc]  # the driver has no types
    """Repeats what a busy node did not do in time, which is safe: every statement is idempotent.

    The client's own time-out of a request runs on meanwhile.
    """

    def on_read_timeout(
        self, *_: object, consistency: int, retry_num: int, **__: object
    ) -> tuple[int, int | None]:
        """Repeat a read."""
        return (self.RETRY, consistency) if retry_num < _REPETITIONS else (self.RETHROW, None)

    on_write_timeout = on_read_timeout


def _make_cluster(settings: CassandraSettings, host: str, port: int) -> Cluster:
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(settings.local_datacenter)),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=settings.request_timeout_s,
        retry_policy=RepeatingPolicy(),
        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(_SPECULATE_AFTER_S, 2),
    )
    return Cluster(
        [host],
        port=port,
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=settings.request_timeout_s,
    )


def _aware(value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(tzinfo=timezone.utc)
