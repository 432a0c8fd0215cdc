"""Feed gaps in Cassandra, for readers; Kafka has them for settling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from tapeline.producer.gaps import Gap, GapKind, end_of
from tapeline.storage.cassandra_client import CassandraClient

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


def write_gaps(client: CassandraClient, gaps: Iterable[Gap]) -> None:
    """Upsert gaps; the end of one is written later than its beginning, in any order."""
    client.run(
        "INSERT INTO {keyspace}.feed_gaps (topic_id, started_at, producer_id, kind, topic, "
        "symbols, ended_at, detected_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
        [
            (
                gap.topic_id,
                _time(gap.started_us),
                gap.producer_id,
                gap.kind.value,
                gap.topic,
                list(gap.symbols),
                None if gap.ended_us is None else _time(gap.ended_us),
                _time(gap.detected_us),
                # One that has ended is never replaced by itself while it lasted.
                gap.detected_us if gap.ended_us is None else max(gap.detected_us, gap.ended_us) + 1,
            )
            for gap in gaps
        ],
    )


def read_gaps(client: CassandraClient, start: datetime, end: datetime) -> Iterator[Gap]:
    """Yield the gaps of every topic that overlap a time, oldest first in each topic."""
    topics = client.rows("SELECT DISTINCT topic_id FROM {keyspace}.feed_gaps")
    query = "SELECT * FROM {keyspace}.feed_gaps WHERE topic_id = ? AND started_at < ?"
    first_us = (start - _EPOCH) // timedelta(microseconds=1)
    for topic in topics:
        by_producer: dict[str, list[Gap]] = {}
        for row in client.rows(query, (topic.topic_id, end)):
            by_producer.setdefault(row.producer_id, []).append(_gap(row))
        for gaps in by_producer.values():
            for gap in gaps:
                whole = replace(gap, ended_us=end_of(gap, gaps))
                if whole.ended_us is None or whole.ended_us > first_us:
                    yield whole


def _gap(row: Any) -> Gap:
    return Gap(
        row.producer_id,
        row.topic,
        row.topic_id,
        GapKind(row.kind),
        tuple(row.symbols or ()),
        _micros(row.started_at),
        None if row.ended_at is None else _micros(row.ended_at),
        _micros(row.detected_at),
    )


def _time(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _micros(naive: datetime) -> int:
    return (naive.replace(tzinfo=timezone.utc) - _EPOCH) // timedelta(microseconds=1)
