"""What got trades and what is finalized: `window_state` and `ingest_progress`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from cassandra.query import UNSET_VALUE

from tapeline.model.bar import Interval, WindowKey
from tapeline.model.times import to_micros
from tapeline.storage.connection import Connection
from tapeline.storage.rows import WINDOW_BUCKET_OFFSETS, PartitionProgress, WindowState


class WindowTables(Connection):
    """Reads and writes the progress of each Kafka partition and the state of each window."""

    def progress(self, topic_id: str) -> dict[int, PartitionProgress]:
        """Return the progress of each Kafka partition that has any."""
        query = (
            "SELECT kafka_partition, committed_offset, newest_event_time, newest_received_at, "
            "finalized_bucket, read_offset FROM {keyspace}.ingest_progress WHERE topic_id = ?"
        )
        return {
            row.kafka_partition: PartitionProgress(
                row.kafka_partition,
                -1 if row.committed_offset is None else row.committed_offset,
                _aware(row.newest_event_time),
                _aware(row.newest_received_at),
                row.finalized_bucket or 0,
                row.read_offset,
            )
            for row in self.rows(query, (topic_id,))
            # A topic of which only its standing is known has a row without a partition.
            if row.kafka_partition is not None
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

    def begin_anew(self, topic_id: str) -> None:
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
        for rows in self.tuples(query, [(topic_id, kafka_partition, b) for b in buckets]):
            for bucket, start, symbol, affected, finalized, hour_finalized, received in rows:
                if affected is None:
                    continue  # it has begun to expire, some time after its trades
                yield WindowState(
                    topic_id,
                    kafka_partition,
                    bucket,
                    start.replace(tzinfo=timezone.utc),
                    symbol,
                    affected,
                    -1 if finalized is None else finalized,
                    -1 if hour_finalized is None else hour_finalized,
                    _aware(received),
                )

    def affected_windows(self, topic_id: str, committed: Mapping[int, int]) -> set[WindowKey]:
        """Return the (symbol, window_start) of every trade up to the committed offsets."""
        return {
            (state.symbol, state.window_start)
            for partition, offset in committed.items()
            for state in self.window_states(
                topic_id, partition, range(offset // WINDOW_BUCKET_OFFSETS + 1)
            )
        }

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


def _aware(value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(tzinfo=timezone.utc)
