"""What every check needs: its scope, what was so when the audit began, what came meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tapeline.audit.findings import Findings
from tapeline.audit.messages import sort_messages
from tapeline.audit.tables import TRADE_KEYS, query
from tapeline.kafka.reader import TopicReader
from tapeline.model.bar import Interval, WindowKey
from tapeline.model.rules import Rules
from tapeline.model.times import from_millis, to_millis
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.messages import BUCKET_OFFSETS
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS, Partition

_HOUR_MS: Final = Interval.ONE_HOUR.duration // timedelta(milliseconds=1)
_EXPIRES_WITHIN: Final = timedelta(hours=1)
"""Rows so near their end may be gone before they are read, and clocks differ."""
_ROWS_OF: Final = """
    SELECT * FROM silver SEMI JOIN trades USING (symbol, bucket_ms, event_time_ms, trade_id)
"""

Advance = Callable[[int], None]
"""Takes how much further a check got."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whole hours with start <= window < end, of some symbols; None is no bound."""

    start: datetime | None = None
    end: datetime | None = None
    symbols: frozenset[str] | None = None

    @classmethod
    def of(
        cls, start: datetime | None, end: datetime | None, symbols: Iterable[str] | None
    ) -> Scope:
        """Return a scope with its times widened to whole hours, as hour bars are audited too."""
        return cls(
            start and from_millis(to_millis(start) // _HOUR_MS * _HOUR_MS),
            end and from_millis(-(-to_millis(end) // _HOUR_MS) * _HOUR_MS),
            None if symbols is None else frozenset(symbols),
        )

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Scope()

    def covers(self, key: WindowKey) -> bool:
        """Return whether a window is looked at."""
        symbol, time = key
        return (
            (self.symbols is None or symbol in self.symbols)
            and (self.start is None or time >= self.start)
            and (self.end is None or time < self.end)
        )

    def only(self, rows: pa.Table) -> pa.Table:
        """Return the rows of the windows that are looked at."""
        if self.symbols is not None:
            symbols = pa.array(sorted(self.symbols), pa.string())
            rows = rows.filter(pc.is_in(rows["symbol"], symbols))
        if self.start is not None:
            rows = rows.filter(pc.greater_equal(rows["bucket_ms"], to_millis(self.start)))
        if self.end is not None:
            rows = rows.filter(pc.less(rows["bucket_ms"], to_millis(self.end)))
        return rows

    def months(self, period: date, interval: Interval) -> Iterator[tuple[datetime, datetime]]:
        """Yield the spans of time, a month at most, of a partition of gold that are looked at."""
        months = range(1, 13) if interval is Interval.ONE_HOUR else [period.month]
        for month in months:
            first = datetime(period.year, month, 1, tzinfo=timezone.utc)
            following = (first + timedelta(days=32)).replace(day=1)
            start = max(first, self.start or first)
            end = min(following, self.end or following)
            if start < end:
                yield start, end


@dataclass(frozen=True, slots=True)
class Baseline:
    """The state of a keyspace at one instant.

    Args:
        started_at: that instant.
        committed: the highest offset of each partition that is in silver.
        due: windows that are to be finalized yet.
        due_hours: the same of hours.
        gone: windows that are due of a topic that no longer exists: no stream reads it.
        gone_hours: the same of hours.
        affected: the buckets of offsets (see `WINDOW_BUCKET_OFFSETS`) that hold trades of the
            audit's scope; None when that is everything.
        gone_ms: for each table, until when what was received may have expired; None for never.
    """

    started_at: datetime
    committed: Mapping[Partition, int]
    due: frozenset[WindowKey]
    due_hours: frozenset[WindowKey]
    gone: frozenset[WindowKey]
    gone_hours: frozenset[WindowKey]
    affected: Mapping[Partition, set[int]] | None
    gone_ms: Mapping[str, int | None]


def survey(
    client: CassandraClient, scope: Scope, now: datetime, living: Collection[str]
) -> Baseline:
    """Read how far every topic of the keyspace is, and which windows are due.

    Args:
        client: reads windows and progress.
        scope: what is looked at.
        now: the clock.
        living: the ids of the topics that Kafka has.
    """
    committed = client.committed_offsets()
    due: set[WindowKey] = set()
    due_hours: set[WindowKey] = set()
    gone: set[WindowKey] = set()
    gone_hours: set[WindowKey] = set()
    affected: dict[Partition, set[int]] = defaultdict(set)
    for state in client.states_up_to(committed):
        hour = state.window_start.replace(minute=0)
        is_gone = state.topic_id not in living
        if state.affected_offset > state.finalized_offset:
            (gone if is_gone else due).add((state.symbol, state.window_start))
        if state.affected_offset > state.hour_finalized_offset:
            (gone_hours if is_gone else due_hours).add((state.symbol, hour))
        if scope.covers((state.symbol, state.window_start)):
            affected[state.topic_id, state.kafka_partition].add(state.bucket)
    return Baseline(
        now,
        committed,
        frozenset(due),
        frozenset(due_hours),
        frozenset(gone - due),
        frozenset(gone_hours - due_hours),
        None if scope.is_everything else affected,
        {
            table: to_millis(now - lifetime + _EXPIRES_WITHIN) if lifetime else None
            for table, lifetime in client.lifetimes().items()
        },
    )


class Meanwhile:
    """The trades that bronze got after an audit had begun.

    Bronze is written before silver, so whatever silver is found to hold of them, bronze has.

    Args:
        client: reads bronze, and how far each partition is.
        committed: the highest offset of each partition that was in silver at the beginning.
    """

    def __init__(self, client: CassandraClient, committed: Mapping[Partition, int]) -> None:
        self._client = client
        self._next = {partition: offset + 1 for partition, offset in committed.items()}
        self._known = [TRADE_KEYS.empty_table()]

    def rows_of(self, silver: pa.Table) -> pa.Table:
        """Return the rows of silver, read before, of which a copy has come meanwhile."""
        # Above these lies a batch under way, whose rows come in any order.
        committed = self._client.committed_offsets()
        under_way = []
        for topic_id, partition, bucket in self._client.bronze_buckets():
            last = committed.get((topic_id, partition), -1)
            for trades in self._trades(topic_id, partition, bucket):
                is_committed = pc.field("kafka_offset") <= last
                self._known.append(_keys(trades.filter(is_committed)))
                under_way.append(_keys(trades.filter(~is_committed)))
        self._next.update((key, offset + 1) for key, offset in committed.items())
        return query(_ROWS_OF, silver=silver, trades=pa.concat_tables(self._known + under_way))

    def _trades(self, topic_id: str, partition: int, bucket: int) -> Iterator[pa.Table]:
        """Yield the trades of a bucket of bronze that have not been read yet."""
        start = max(self._next.get((topic_id, partition), 0), bucket * BUCKET_OFFSETS)
        stop = (bucket + 1) * BUCKET_OFFSETS
        ranges = [
            (some, min(some + WINDOW_BUCKET_OFFSETS, stop))
            for some in range(start, stop, WINDOW_BUCKET_OFFSETS)
        ]
        for messages in self._client.bronze(topic_id, partition, ranges):
            if messages:
                yield sort_messages(topic_id, partition, messages).trades


def _keys(trades: pa.Table) -> pa.Table:
    return trades.select(TRADE_KEYS.names).cast(TRADE_KEYS)


@dataclass(frozen=True, slots=True)
class Context:
    """Where rows come from, which of them to look at, and who takes the differences."""

    client: CassandraClient
    kafka: TopicReader
    baseline: Baseline
    scope: Scope
    meanwhile: Meanwhile
    rules: Mapping[str, Rules]
    """Those that bars can be recomputed by, by their name."""
    findings: Findings = field(default_factory=Findings)
