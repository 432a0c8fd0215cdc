"""The connection to Cassandra: pooled, prepared statements, time-outs, safe retries, batches.

Every write is an idempotent upsert whose write time comes from the data, so the driver may
repeat it after a time-out.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from cassandra import ConsistencyLevel, DriverException, UnresolvableContactPoints
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    ResponseFuture,
    ResultSet,
    Session,
)
from cassandra.concurrent import execute_concurrent
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import (
    BatchStatement,
    BatchType,
    BoundStatement,
    PreparedStatement,
    Statement,
    tuple_factory,
)

from tapeline.model.errors import UsageError
from tapeline.model.names import check_keyspace_name
from tapeline.program.service_settings import CassandraSettings
from tapeline.storage.access import access_options, no_access, no_answer, rights_explained
from tapeline.storage.packing import Packer

SMALL_AHEAD: Final = 64
"""Requests under way that are answered with a row or none."""
_LARGE_AT_ONCE: Final = 16
"""Requests under way that carry many rows each."""
_BATCH_ROWS: Final = 100
"""Rows of one partition in a batch: one mutation, of whatever size."""
_MIXED_ROWS: Final = 6
"""Rows of several partitions in a batch; Cassandra warns above ten partitions or 5 KiB."""
_SPECULATE_AFTER_S: Final = 2.0
_REPETITIONS: Final = 3
_RECONNECT_S: Final = (1.0, 10.0)
"""First and longest pause between attempts; the driver's own is ten minutes at last."""
_PROTOCOL: Final = 5
_TUPLES: Final = "tuples"


class RestartedError(DriverException):  # type: ignore[misc]  # the driver has no types
    """A node was started again in the middle of what it must not forget any of."""


class Connection:
    """Requests to one keyspace.

    Requests raise the driver's errors, and AccessError where our user lacks a right; connecting
    raises ServiceUnavailableError, AccessError among them, or UsageError where the data centre that
    is set is none of the cluster's.
    """

    def __init__(self, settings: CassandraSettings, host: str, port: int) -> None:
        self._settings = settings
        self._keyspace = check_keyspace_name(settings.keyspace)
        try:
            self._cluster = _make_cluster(settings, host, port)
            self._session: Session = self._cluster.connect()
        except UnresolvableContactPoints as error:
            raise no_answer(host, port) from error
        except NoHostAvailable as error:
            centres = {h.datacenter for h in self._cluster.metadata.all_hosts() if h.datacenter}
            self._cluster.shutdown()
            _require_centre(settings.local_datacenter, centres)
            raise no_access(settings, host, port, error) from error
        self._prepared = lru_cache(maxsize=64)(self._prepare)
        self._packer = lru_cache(maxsize=64)(self._make_packer)

    @property
    def session(self) -> Session:
        """The driver's session."""
        return self._session

    @property
    def keyspace(self) -> str:
        """The checked name of the keyspace."""
        return self._keyspace

    def close(self) -> None:
        """Close all connections."""
        self._cluster.shutdown()

    # `{keyspace}` in a statement stands for the keyspace's checked name.

    def rows(self, cql: str, arguments: Sequence[Any] = ()) -> ResultSet:
        """Run one query."""
        with rights_explained():
            return self._session.execute(self._prepared(cql), arguments)

    def tuples(
        self, cql: str, arguments: Iterable[Sequence[Any]], ahead: int = _LARGE_AT_ONCE
    ) -> Iterator[Iterable[tuple[Any, ...]]]:
        """Run one query for many arguments and yield the rows of each, in order, as plain tuples.

        Named ones cost a class for each answer. No more than `ahead` further requests are sent
        before somebody takes the rows of the first.
        """
        statement = self._prepared(cql)
        sent: deque[ResponseFuture] = deque()
        for values in arguments:
            sent.append(self._session.execute_async(statement, values, execution_profile=_TUPLES))
            if len(sent) > ahead:
                yield _result(sent.popleft())
        while sent:
            yield _result(sent.popleft())

    def write(self, cql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Upsert rows in batches, each row with what the statement says of its write time.

        A batch holds rows of one partition, or a few of several where every node has all of
        them. It saves requests and nothing else: a crash may leave some batches undone.
        """
        packer = self._packer(cql)
        mixes = len(self._cluster.metadata.all_hosts()) <= self._settings.replication_factor
        statements = in_batches(map(packer.bind, rows), mixes=mixes)
        self._execute(list(statements))

    def write_together(self, writes: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Run some statements on rows of one partition as one batch: all of them or none."""
        bound = [self._packer(cql).bind(values) for cql, values in writes]
        if bound:
            self._execute([_batch(bound)])

    def generation(self) -> int | None:
        """Return a number that a single node changes when it starts; None with several nodes."""
        if len(self._cluster.metadata.all_hosts()) > 1:
            return None
        number: int = self.rows("SELECT gossip_generation FROM system.local").one()[0]
        return number

    @contextmanager
    def in_one_life(self) -> Iterator[None]:
        """Do what is to stand as a whole once it is done.

        A single node that was killed may have forgotten the last of what it had acknowledged.

        Raises:
            RestartedError: it was started again meanwhile; do it all again.
        """
        before = self.generation()
        yield
        if self.generation() != before:
            message = "Cassandra was started again meanwhile."
            raise RestartedError(message)

    def _execute(self, statements: Sequence[Statement]) -> None:
        if not statements:
            return
        with rights_explained():
            execute_concurrent(
                self._session, [(s, ()) for s in statements], concurrency=_LARGE_AT_ONCE
            )

    def _prepare(self, cql: str) -> PreparedStatement:
        with rights_explained():
            statement = self._session.prepare(cql.replace("{keyspace}", self._keyspace))
        statement.is_idempotent = True
        return statement

    def _make_packer(self, cql: str) -> Packer:
        return Packer(self._prepared(cql), _PROTOCOL)


def _result(sent: ResponseFuture) -> ResultSet:
    with rights_explained():
        return sent.result()


def _require_centre(wanted: str, known: Collection[str]) -> None:
    """Say so when a cluster that answers has no data centre of the name that is set.

    Raises:
        UsageError: it has others only.
    """
    if known and wanted not in known:
        message = (
            f"Cassandra has no data centre {wanted}, only {', '.join(sorted(known))}: set "
            "TAPELINE_CASSANDRA__LOCAL_DATACENTER."
        )
        raise UsageError(message)


def in_batches(rows: Iterable[BoundStatement], *, mixes: bool) -> Iterator[Statement]:
    """Put rows of one partition together; with `mixes`, also what is left of several."""
    by_partition: dict[bytes | None, list[BoundStatement]] = defaultdict(list)
    for row in rows:
        by_partition[row.routing_key].append(row)
    few: list[BoundStatement] = []
    for group in by_partition.values():
        whole = 0 if mixes and len(group) < _MIXED_ROWS else len(group)
        for start in range(0, whole, _BATCH_ROWS):
            yield _batch(group[start : start + _BATCH_ROWS])
        few += group[whole:]
    for start in range(0, len(few), _MIXED_ROWS):
        yield _batch(few[start : start + _MIXED_ROWS])


def _batch(rows: Sequence[BoundStatement]) -> Statement:
    if len(rows) == 1:
        return rows[0]
    batch = BatchStatement(BatchType.UNLOGGED)
    batch.is_idempotent = True
    for row in rows:
        batch.add(row)
    return batch


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
    profile = {
        "load_balancing_policy": TokenAwarePolicy(
            DCAwareRoundRobinPolicy(settings.local_datacenter)
        ),
        "consistency_level": ConsistencyLevel.LOCAL_QUORUM,
        "request_timeout": settings.request_timeout_s,
        "retry_policy": RepeatingPolicy(),
        "speculative_execution_policy": ConstantSpeculativeExecutionPolicy(_SPECULATE_AFTER_S, 2),
    }
    return Cluster(
        host.split(","),
        port=port,
        protocol_version=_PROTOCOL,
        execution_profiles={
            EXEC_PROFILE_DEFAULT: ExecutionProfile(**profile),
            _TUPLES: ExecutionProfile(**profile, row_factory=tuple_factory),
        },
        connect_timeout=settings.request_timeout_s,
        control_connection_timeout=settings.request_timeout_s,
        reconnection_policy=ExponentialReconnectionPolicy(*_RECONNECT_S, max_attempts=None),
        **access_options(settings),
    )
