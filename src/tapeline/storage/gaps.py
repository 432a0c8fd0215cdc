"""`feed_gaps`: gaps of the feed, for readers; Kafka has them for finalizing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from tapeline.model.gap import Gap, GapKind, ends_of, overlapping
from tapeline.model.times import as_utc, from_micros, to_micros
from tapeline.storage.connection import Connection


class GapTable(Connection):
    """Reads and writes gaps of the feed."""

    def write_gaps(self, gaps: Iterable[Gap]) -> None:
        """Upsert gaps; the end of one is written later than its beginning, in any order."""
        self.write(
            "INSERT INTO {keyspace}.feed_gaps (topic_id, started_at, producer_id, kind, topic, "
            "symbols, healed, ended_at, detected_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "USING TIMESTAMP ?",
            (
                (
                    gap.topic_id,
                    from_micros(gap.started_us),
                    gap.producer_id,
                    gap.kind.value,
                    gap.topic,
                    list(gap.symbols),
                    list(gap.healed),
                    None if gap.ended_us is None else from_micros(gap.ended_us),
                    from_micros(gap.detected_us),
                    _write_time_us(gap),
                )
                for gap in gaps
            ),
        )

    def gaps(self, start: datetime, end: datetime) -> Iterator[Gap]:
        """Yield the gaps of every topic that overlap a time, oldest first in each topic."""
        topics = self.rows("SELECT DISTINCT topic_id FROM {keyspace}.feed_gaps")
        # Those that began later too, since they may tell when one before them ended.
        query = "SELECT * FROM {keyspace}.feed_gaps WHERE topic_id = ?"
        first_us, last_us = to_micros(start), to_micros(end)
        for topic in topics:
            by_producer: dict[str, list[Gap]] = {}
            for row in self.rows(query, (topic.topic_id,)):
                by_producer.setdefault(row.producer_id, []).append(_gap(row))
            for gaps in by_producer.values():
                # Found newest first.
                yield from overlapping(reversed(ends_of(gaps)), first_us, last_us)


def _write_time_us(gap: Gap) -> int:
    """Return a time by which none is replaced by itself as it was before its end, or healing."""
    if gap.ended_us is None:
        return gap.detected_us
    ended_us = max(gap.detected_us, gap.ended_us) + 1
    return ended_us if gap.healed_us is None else max(ended_us, gap.healed_us) + len(gap.healed)


def _gap(row: Any) -> Gap:
    return Gap(
        row.producer_id,
        row.topic,
        row.topic_id,
        GapKind(row.kind),
        tuple(row.symbols or ()),
        to_micros(as_utc(row.started_at)),
        None if row.ended_at is None else to_micros(as_utc(row.ended_at)),
        to_micros(as_utc(row.detected_at)),
        tuple(row.healed or ()),
    )
