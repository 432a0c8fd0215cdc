"""What got trades and what is finalized: `window_state` and `ingest_progress`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cassandra.query import UNSET_VALUE

from tapeline.model.bar import Interval, WindowKey
from tapeline.model.times import as_utc, to_micros
from tapeline.storage.topics import TopicTable

WINDOW_BUCKET_OFFSETS: Final = 20_000
"""Kafka offsets whose windows share one partition of window_state."""

Partition = tuple[str, int]
"""A topic's id and one of its Kafka partitions."""


@dataclass(frozen=True, slots=True)
class WindowState:
    """A window of one symbol that got trades from a bucket of one Kafka partition."""

    topic_id: str
    kafka_partition: int
    bucket: int
    window_start: datetime
    symbol: str
    affected_offset: int
    finalized_offset: int = -1
    hour_finalized_offset: int = -1
    first_received_at: datetime | None = None
    """When the first trade of a finalized window came in."""

    @property
    def is_open(self) -> bool:
        """Whether its bar or its hour lacks trades."""
        return self.affected_offset > min(self.finalized_offset, self.hour_finalized_offset)


StatesOfWindows = Mapping[WindowKey, Sequence[WindowState]]
"""The states of some windows: one for each bucket of offsets that their trades came from."""


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """How far one Kafka partition is committed to silver.

    `read_offset` is the newest of the last batch: below `committed_offset` while the topic is
    read again, None where nobody has said.
    """

    kafka_partition: int
    committed_offset: int
    newest_event_time: datetime | None
    newest_received_at: datetime | None
    finalized_bucket: int = 0
    read_offset: int | None = None

    @property
    def read_bucket(self) -> int:
        """The bucket of window_state that the last batch ended in."""
        read = self.committed_offset if self.read_offset is None else self.read_offset
        return max(0, min(read, self.committed_offset)) // WINDOW_BUCKET_OFFSETS


_SELECT_PROGRESS: Final = (
    "SELECT topic_id, kafka_partition, committed_offset, newest_event_time, newest_received_at, "
    "finalized_bucket, read_offset FROM {keyspace}.ingest_progress"
)


class WindowTables(TopicTable):
    """Reads and writes the progress of each Kafka partition and the state of each window."""

    def progress(self, topic_id: str) -> dict[int, PartitionProgress]:
        """Return the progress of each Kafka partition of a topic that has any."""
        rows = self.rows(f"{_SELECT_PROGRESS} WHERE topic_id = ?", (topic_id,))
        return _by_topic(rows).get(topic_id, {})

    def progress_of_topics(self) -> dict[str, dict[int, PartitionProgress]]:
        """Return the progress of every topic of the keyspace, as `progress` does."""
        return _by_topic(self.rows(_SELECT_PROGRESS))

    def newest_stored_trade(self) -> datetime | None:
        """Return the newest event time of any topic that is committed to silver."""
        every = (p for progress in self.progress_of_topics().values() for p in progress.values())
        times = (p.newest_event_time for p in every)
        return max((time for time in times if time is not None), default=None)

    def committed_offsets(self) -> dict[Partition, int]:
        """Return the highest offset in silver of each Kafka partition of every topic."""
        return {
            (topic_id, partition): p.committed_offset
            for topic_id, progress in self.progress_of_topics().items()
            for partition, p in progress.items()
        }

    def write_progress(self, topic_id: str, progress: Iterable[PartitionProgress]) -> None:
        """Raise the progress of partitions; a lower value never replaces a higher one.

        Each column's write time is its own value, which makes the largest win in any order.
        Where the reader is now goes down too.
        """
        writes: list[tuple[str, tuple[Any, ...]]] = []
        for p in progress:
            key = (topic_id, p.kafka_partition)
            raised = (p.committed_offset + 1, p.committed_offset, *key)
            writes.append((_raise("committed_offset"), raised))
            for column, time in (
                ("newest_event_time", p.newest_event_time),
                ("newest_received_at", p.newest_received_at),
            ):
                if time is not None:
                    writes.append((_raise(column), (to_micros(time), time, *key)))
            writes.append((_set("read_offset"), (p.committed_offset, *key)))
        self.write_together(writes)

    def write_finalized_bucket(self, topic_id: str, kafka_partition: int, bucket: int) -> None:
        """Remember that every bucket below this one is finalized."""
        self.rows(_set("finalized_bucket"), (bucket, topic_id, kafka_partition))

    def start_over(self, topic_id: str) -> None:
        """Remember that a topic is read again from its start: nothing counts as finalized."""
        for kafka_partition in self.progress(topic_id):
            for column, value in (("read_offset", -1), ("finalized_bucket", 0)):
                self.rows(_set(column), (value, topic_id, kafka_partition))

    def window_states(
        self, topic_id: str, kafka_partition: int, buckets: Iterable[int]
    ) -> Iterator[WindowState]:
        """Yield the windows that trades of the given offset buckets affected."""
        query = (
            "SELECT bucket, window_start, symbol, affected_offset, finalized_offset, "
            "hour_finalized_offset, first_received_at FROM {keyspace}.window_state "
            "WHERE topic_id = ? AND kafka_partition = ? AND bucket = ?"
        )
        for rows in self.tuples(query, ((topic_id, kafka_partition, b) for b in buckets)):
            for bucket, start, symbol, affected, finalized, hour_finalized, received in rows:
                if affected is None:
                    continue  # it has begun to expire, some time after its trades
                yield WindowState(
                    topic_id,
                    kafka_partition,
                    bucket,
                    as_utc(start),
                    symbol,
                    affected,
                    -1 if finalized is None else finalized,
                    -1 if hour_finalized is None else hour_finalized,
                    received and as_utc(received),
                )

    def states_up_to(self, committed: Mapping[Partition, int]) -> Iterator[WindowState]:
        """Yield the state of every window that got a trade up to the committed offsets."""
        for partition, offset in committed.items():
            yield from self.window_states(*partition, range(offset // WINDOW_BUCKET_OFFSETS + 1))

    def all_states(self) -> Iterator[WindowState]:
        """Yield the state of every window that ever got a trade."""
        return self.states_up_to(self.committed_offsets())

    def due_states(self) -> Iterator[WindowState]:
        """Yield the windows that a finalizer would read: those whose bar or hour is not final."""
        for topic_id, progress in self.progress_of_topics().items():
            for partition, p in progress.items():
                head = p.committed_offset // WINDOW_BUCKET_OFFSETS
                buckets = range(p.finalized_bucket, head + 1)
                states = self.window_states(topic_id, partition, buckets)
                yield from (state for state in states if state.is_open)

    def write_affected_windows(self, states: Iterable[WindowState]) -> None:
        """Store the affected offsets; a lower one never replaces a higher one."""
        self._raise_offsets("affected_offset", states)

    def mark_finalized(self, states: Iterable[WindowState], interval: Interval) -> None:
        """Store that bars hold everything up to the affected offsets that were read.

        For five minutes also when the first trade was received, where that is known.
        """
        is_hour = interval is Interval.ONE_HOUR
        self._raise_offsets("hour_finalized_offset" if is_hour else "finalized_offset", states)

    def _raise_offsets(self, column: str, states: Iterable[WindowState]) -> None:
        """Store each state's affected offset in a column, the offset being its write time too."""
        knows_receipt = column != "hour_finalized_offset"
        self.write(
            f"UPDATE {{keyspace}}.window_state USING TIMESTAMP ? SET {column} = ?, "
            "first_received_at = ? WHERE topic_id = ? AND kafka_partition = ? AND bucket = ? "
            "AND window_start = ? AND symbol = ?",
            (
                (
                    s.affected_offset + 1,
                    s.affected_offset,
                    s.first_received_at if knows_receipt and s.first_received_at else UNSET_VALUE,
                    s.topic_id,
                    s.kafka_partition,
                    s.bucket,
                    s.window_start,
                    s.symbol,
                )
                for s in states
            ),
        )


def _raise(column: str) -> str:
    return (
        f"UPDATE {{keyspace}}.ingest_progress USING TIMESTAMP ? SET {column} = ? "
        "WHERE topic_id = ? AND kafka_partition = ?"
    )


def _set(column: str) -> str:
    return (
        f"UPDATE {{keyspace}}.ingest_progress SET {column} = ? "
        "WHERE topic_id = ? AND kafka_partition = ?"
    )


def _by_topic(rows: Iterable[Any]) -> dict[str, dict[int, PartitionProgress]]:
    found: dict[str, dict[int, PartitionProgress]] = {}
    for row in rows:
        progress = found.setdefault(row.topic_id, {})
        # A topic of which only its standing is known has a row without a partition.
        if row.kafka_partition is not None:
            progress[row.kafka_partition] = PartitionProgress(
                row.kafka_partition,
                -1 if row.committed_offset is None else row.committed_offset,
                row.newest_event_time and as_utc(row.newest_event_time),
                row.newest_received_at and as_utc(row.newest_received_at),
                row.finalized_bucket or 0,
                row.read_offset,
            )
    return found
