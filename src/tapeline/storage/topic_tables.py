"""How far each topic of a keyspace is settled, and whether more can come from it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum

from tapeline.storage.connection import Connection
from tapeline.times import to_micros


class TopicState(str, Enum):
    """What can still come from a topic."""

    MOVING = "moving"
    """Trades may come at any time."""
    ENDED = "ended"
    """Its tape has ended and all of it is in silver; some windows are not settled yet."""
    OVER = "over"
    """Nothing more comes, and every window is settled."""


@dataclass(frozen=True, slots=True)
class TopicStanding:
    """One topic of a keyspace: every window of it that ends by `settled_until` is settled."""

    topic_id: str
    settled_until: datetime | None
    state: TopicState


def final_until(topics: Collection[TopicStanding]) -> datetime | None:
    """Return up to when all that topics can bring is settled; None when nothing is.

    The slowest of those that move on decides: it may bring trades to any time that it has not
    passed. One that is over holds nothing back. When all are, the furthest decides.
    """
    moving = [t.settled_until for t in topics if t.state is not TopicState.OVER]
    if moving:
        known = [until for until in moving if until is not None]
        return min(known) if len(known) == len(moving) else None
    return max((t.settled_until for t in topics if t.settled_until is not None), default=None)


class TopicTables(Connection):
    """Reads and writes the standing of topics: the static columns of `ingest_progress`."""

    def topic_standings(self) -> list[TopicStanding]:
        """Return every topic of which something is in silver."""
        query = "SELECT DISTINCT topic_id, settled_until, state FROM {keyspace}.ingest_progress"
        return [
            TopicStanding(
                row.topic_id,
                row.settled_until and row.settled_until.replace(tzinfo=timezone.utc),
                TopicState(row.state or TopicState.MOVING),
            )
            for row in self.rows(query)
        ]

    def settled_until(self) -> datetime | None:
        """Return up to when the windows of the keyspace are settled, as `final_until` says."""
        return final_until(self.topic_standings())

    def write_settled_until(self, topic_id: str, until: datetime) -> None:
        """Remember that every window of a topic that ends by then is settled; it never sinks."""
        self.rows(
            "UPDATE {keyspace}.ingest_progress USING TIMESTAMP ? SET settled_until = ? "
            "WHERE topic_id = ?",
            (to_micros(until), until, topic_id),
        )

    def write_topic_state(self, topic_id: str, state: TopicState) -> None:
        """Remember what can still come from a topic."""
        self.rows(
            "UPDATE {keyspace}.ingest_progress SET state = ? WHERE topic_id = ?",
            (state.value, topic_id),
        )
