"""`trades_bronze` and `trades_quarantine`: messages as Kafka had them, by their coordinates."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tapeline.model.times import as_utc
from tapeline.storage.windows import Partition, WindowTables

BUCKET_OFFSETS: Final = 100_000
"""Kafka offsets in one partition of bronze and quarantine."""

Rows = list[tuple[Any, ...]]

_RANGES_AHEAD: Final = 2
_COUNTS_AHEAD: Final = 1
"""A count of messages reads a partition of up to 100,000; a busy node has no time for more."""
_SLICE: Final = 50
"""Offsets that are looked at to tell whether bronze is alive there."""
_TIME: Final = "to_unix_timestamp(kafka_timestamp)"


@dataclass(frozen=True, slots=True)
class BronzeSpan:
    """The messages of one Kafka partition that bronze still has, both offsets included."""

    topic_id: str
    kafka_partition: int
    first_offset: int
    last_offset: int
    first_received_at: datetime


class MessageTables(WindowTables):
    """Reads bronze and quarantine; Spark writes them."""

    def bronze_buckets(self) -> list[tuple[str, int, int]]:
        """Return the (topic_id, kafka_partition, bucket) of each partition of bronze."""
        return self._buckets("trades_bronze")

    def quarantine_buckets(self) -> list[tuple[str, int, int]]:
        """Return the (topic_id, kafka_partition, bucket) of each partition of quarantine."""
        return self._buckets("trades_quarantine")

    def bronze(
        self, topic_id: str, kafka_partition: int, ranges: Iterable[tuple[int, int]]
    ) -> Iterator[Rows]:
        """Yield (kafka_offset, kafka_timestamp, message_key, message) of each range of offsets.

        A range [start, stop) lies in one bucket; the timestamp is in ms since the epoch.
        """
        columns = f"kafka_offset, {_TIME}, message_key, message"
        return self._offsets("trades_bronze", columns, (topic_id, kafka_partition), ranges)

    def quarantine(
        self, topic_id: str, kafka_partition: int, ranges: Iterable[tuple[int, int]]
    ) -> Iterator[Rows]:
        """Yield (kafka_offset, kafka_timestamp, reason, message_key, message) of each range."""
        columns = f"kafka_offset, {_TIME}, reason, message_key, message"
        return self._offsets("trades_quarantine", columns, (topic_id, kafka_partition), ranges)

    def count_messages(self, table: str, topic_id: str, committed: Mapping[int, int]) -> int:
        """Count the rows of bronze or quarantine below the committed offset of each partition."""
        if table not in {"trades_bronze", "trades_quarantine"}:
            raise ValueError(table)
        query = (
            f"SELECT count(*) FROM {{keyspace}}.{table} "
            "WHERE topic_id = ? AND kafka_partition = ? AND bucket = ?"
        )
        arguments = (
            (topic_id, partition, bucket)
            for partition, offset in committed.items()
            for bucket in range(offset // BUCKET_OFFSETS + 1)
        )
        return sum(n for rows in self.tuples(query, arguments, _COUNTS_AHEAD) for (n,) in rows)

    def bronze_spans(self, alive_after: datetime | None) -> Iterator[BronzeSpan]:
        """Yield what bronze holds of each Kafka partition up to the offset committed to silver.

        Args:
            alive_after: messages received earlier count as gone, although bronze may have them.
        """
        for partition, last_offset in self.committed_offsets().items():
            span = _Bronze(self, partition, last_offset, alive_after).span()
            if span is not None:
                yield span

    def _buckets(self, table: str) -> list[tuple[str, int, int]]:
        query = f"SELECT DISTINCT topic_id, kafka_partition, bucket FROM {{keyspace}}.{table}"
        return sorted(tuple(row) for row in self.rows(query))

    def _offsets(
        self, table: str, columns: str, partition: Partition, ranges: Iterable[tuple[int, int]]
    ) -> Iterator[Rows]:
        query = (
            f"SELECT {columns} FROM {{keyspace}}.{table} WHERE topic_id = ? "
            "AND kafka_partition = ? AND bucket = ? AND kafka_offset >= ? AND kafka_offset < ?"
        )
        asked = ((*partition, start // BUCKET_OFFSETS, start, stop) for start, stop in ranges)
        yield from map(list, self.tuples(query, asked, _RANGES_AHEAD))


class _Bronze:
    """Finds the first living offset of a Kafka partition; rows expire in order of offset.

    No query walks over the expired ones, of which there may be more than it can bear.
    """

    def __init__(
        self,
        messages: MessageTables,
        partition: Partition,
        last_offset: int,
        alive_after: datetime | None,
    ) -> None:
        self._messages = messages
        self._key = partition
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
            offsets = range(low, high)
            first = low + bisect_left(
                offsets, 1, key=lambda offset: self._rows([offset])[0] is not None
            )
            row = self._rows([first])[0] or tails[bucket]
        offset, received = row
        return BronzeSpan(*self._key, offset, self._last, as_utc(received))

    def _tail(self, bucket: int) -> int:
        """Return the start of the last slice of a bucket."""
        last = min(self._last, (bucket + 1) * BUCKET_OFFSETS - 1)
        return max(bucket * BUCKET_OFFSETS, last - _SLICE + 1)

    def _rows(self, offsets: Sequence[int]) -> list[Any]:
        """Return the first living message of each slice that begins at an offset, or None."""
        slices = self._messages.tuples(
            "SELECT kafka_offset, kafka_timestamp FROM {keyspace}.trades_bronze "
            "WHERE topic_id = ? AND kafka_partition = ? AND bucket = ? "
            "AND kafka_offset >= ? AND kafka_offset < ?",
            ((*self._key, o // BUCKET_OFFSETS, o, o + _SLICE) for o in offsets),
        )
        return [next((row for row in rows if self._is_alive(row)), None) for rows in slices]

    def _is_alive(self, row: tuple[int, datetime]) -> bool:
        return self._alive_after is None or as_utc(row[1]) > self._alive_after
