"""What a rebuild asks of Cassandra: which windows there are, which are due, what bronze holds.

Nothing here walks over expired rows, of which there may be more than a query can bear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.rows import BUCKET_OFFSETS, WINDOW_BUCKET_OFFSETS, WindowState

_STATE_BUCKETS: Final = 200
"""Buckets of window_state that are read at once."""
_SLICE: Final = 50
"""Offsets that are looked at to tell whether bronze is alive there."""


@dataclass(frozen=True, slots=True)
class StoredStart:
    """A stored bar, without its values."""

    symbol: str
    window_start: datetime
    is_final: bool
    policy: str | None


@dataclass(frozen=True, slots=True)
class BronzeSpan:
    """The messages of one Kafka partition that bronze still has, both offsets included."""

    topic_id: str
    kafka_partition: int
    first_offset: int
    last_offset: int
    first_received_at: datetime


def topic_ids(client: CassandraClient) -> list[str]:
    """Return every topic of which something is in silver."""
    rows = client.rows("SELECT DISTINCT topic_id FROM {keyspace}.ingest_progress")
    return sorted(row.topic_id for row in rows)


def newest_stored_trade(client: CassandraClient) -> datetime | None:
    """Return the newest event time of any topic that is committed to silver."""
    progress = (p for topic_id in topic_ids(client) for p in client.progress(topic_id).values())
    times = (p.newest_event_time for p in progress)
    return max((time for time in times if time is not None), default=None)


def window_states(
    client: CassandraClient, topic_id: str, partition: int, first_bucket: int, last_bucket: int
) -> Iterator[WindowState]:
    """Yield the states of a range of buckets, both included, however long it is."""
    for start in range(first_bucket, last_bucket + 1, _STATE_BUCKETS):
        stop = min(start + _STATE_BUCKETS, last_bucket + 1)
        yield from client.window_states(topic_id, partition, range(start, stop))


def all_states(client: CassandraClient) -> Iterator[WindowState]:
    """Yield the state of every window that ever got a trade."""
    for topic_id in topic_ids(client):
        for p in client.progress(topic_id).values():
            head = p.committed_offset // WINDOW_BUCKET_OFFSETS
            yield from window_states(client, topic_id, p.kafka_partition, 0, head)


def due_states(client: CassandraClient) -> Iterator[WindowState]:
    """Yield the windows that a finalizer would read: those whose bar or hour is not final."""
    for topic_id in topic_ids(client):
        for p in client.progress(topic_id).values():
            head = p.committed_offset // WINDOW_BUCKET_OFFSETS
            for state in window_states(
                client, topic_id, p.kafka_partition, p.finalized_bucket, head
            ):
                if state.is_open:
                    yield state


def stored_starts(client: CassandraClient) -> Iterator[StoredStart]:
    """Yield every stored five-minute bar, without its values."""
    partitions = "SELECT DISTINCT symbol, period FROM {keyspace}.trades_gold_5m"
    query = (
        "SELECT window_start, is_final, policy FROM {keyspace}.trades_gold_5m "
        "WHERE symbol = ? AND period = ?"
    )
    for key in client.rows(partitions):
        for row in client.rows(query, (key.symbol, key.period)):
            start = row.window_start.replace(tzinfo=timezone.utc)
            yield StoredStart(key.symbol, start, bool(row.is_final), row.policy)


def bronze_spans(client: CassandraClient, alive_after: datetime | None) -> Iterator[BronzeSpan]:
    """Yield what bronze holds of each Kafka partition up to the offset committed to silver.

    Args:
        client: of the keyspace.
        alive_after: messages received earlier count as gone, although bronze may have them.
    """
    for topic_id in topic_ids(client):
        for p in client.progress(topic_id).values():
            bronze = _Bronze(client, topic_id, p.kafka_partition, p.committed_offset, alive_after)
            span = bronze.span()
            if span is not None:
                yield span


class _Bronze:
    """Finds the first living offset of a Kafka partition; rows expire in order of offset."""

    def __init__(
        self,
        client: CassandraClient,
        topic_id: str,
        partition: int,
        last_offset: int,
        alive_after: datetime | None,
    ) -> None:
        self._client = client
        self._key = topic_id, partition
        self._last = last_offset
        self._alive_after = alive_after

    def span(self) -> BronzeSpan | None:
        """Return what is left; None when nothing is."""
        buckets = range(self._last // BUCKET_OFFSETS + 1) if self._last >= 0 else range(0)
        heads = self._rows([b * BUCKET_OFFSETS for b in buckets])
        tails = self._rows([self._tail(b) for b in buckets])
        bucket = next((b for b in buckets if heads[b] or tails[b]), None)
        if bucket is None:
            return None
        row = heads[bucket]
        if row is None:
            low, high = bucket * BUCKET_OFFSETS, self._tail(bucket)
            first = _first_true(low, high, lambda offset: self._rows([offset])[0] is not None)
            row = self._rows([first])[0] or tails[bucket]
        received = row.kafka_timestamp.replace(tzinfo=timezone.utc)
        return BronzeSpan(*self._key, row.kafka_offset, self._last, received)

    def _tail(self, bucket: int) -> int:
        """Return the start of the last slice of a bucket."""
        last = min(self._last, (bucket + 1) * BUCKET_OFFSETS - 1)
        return max(bucket * BUCKET_OFFSETS, last - _SLICE + 1)

    def _rows(self, offsets: Sequence[int]) -> list[Any]:
        """Return the first living message of each slice that begins at an offset, or None."""
        slices = self._client.run(
            "SELECT kafka_offset, kafka_timestamp FROM {keyspace}.trades_bronze "
            "WHERE topic_id = ? AND kafka_partition = ? AND bucket = ? "
            "AND kafka_offset >= ? AND kafka_offset < ?",
            [(*self._key, o // BUCKET_OFFSETS, o, o + _SLICE) for o in offsets],
        )
        return [next((row for row in rows if self._is_alive(row)), None) for rows in slices]

    def _is_alive(self, row: Any) -> bool:
        received: datetime = row.kafka_timestamp.replace(tzinfo=timezone.utc)
        return self._alive_after is None or received > self._alive_after


def _first_true(low: int, high: int, is_true: Callable[[int], bool]) -> int:
    """Return the lowest number for which something is true that stays true above it.

    `high` is returned untried.
    """
    while low < high:
        middle = (low + high) // 2
        if is_true(middle):
            high = middle
        else:
            low = middle + 1
    return low
