"""How far each topic of a keyspace is finalized, and whether more can come from it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from tapeline.model.times import as_utc, to_micros
from tapeline.storage.connection import Connection


class TopicState(str, Enum):
    """What can still come from a topic."""

    MOVING = "moving"
    """Trades may come at any time."""
    ENDED = "ended"
    """Its tape has ended and all of it is in silver; some windows are not finalized yet."""
    OVER = "over"
    """Nothing more comes, and every window is finalized."""


@dataclass(frozen=True, slots=True)
class TopicStanding:
    """One topic of a keyspace: every window of it that ends by `final_until` is finalized."""

    topic_id: str
    final_until: datetime | None
    state: TopicState
    moves_since: datetime | None = None
    """When it began to move, or to move again after it was over."""
    final_before: datetime | None = None
    """Up to when longer bars were final without it then."""


def final_until(topics: Collection[TopicStanding]) -> datetime | None:
    """Return up to when all that topics can bring is finalized; None when nothing is.

    The slowest of those that move on decides: it may bring trades to any time that it has not
    passed. One that is over holds nothing back. When all are, the furthest decides.
    """
    moving = [t.final_until for t in topics if t.state is not TopicState.OVER]
    if moving:
        known = [until for until in moving if until is not None]
        return min(known) if len(known) == len(moving) else None
    return max((t.final_until for t in topics if t.final_until is not None), default=None)


class TopicTable(Connection):
    """Reads and writes the standing of topics: the static columns of `ingest_progress`."""

    def topic_standings(self) -> list[TopicStanding]:
        """Return every topic of which something is in silver."""
        query = (
            "SELECT DISTINCT topic_id, final_until, state, moves_since, final_before "
            "FROM {keyspace}.ingest_progress"
        )
        return [
            TopicStanding(
                row.topic_id,
                row.final_until and as_utc(row.final_until),
                TopicState(row.state or TopicState.MOVING),
                row.moves_since and as_utc(row.moves_since),
                row.final_before and as_utc(row.final_before),
            )
            for row in self.rows(query)
        ]

    def final_until(self) -> datetime | None:
        """Return up to when the windows of the keyspace are finalized, as `final_until` says."""
        return final_until(self.topic_standings())

    def write_final_until(self, topic_id: str, until: datetime) -> None:
        """Remember that every window of a topic that ends by then is finalized; it never sinks."""
        self.rows(
            "UPDATE {keyspace}.ingest_progress USING TIMESTAMP ? SET final_until = ? "
            "WHERE topic_id = ?",
            (to_micros(until), until, topic_id),
        )

    def write_topic_state(self, topic_id: str, state: TopicState, now: datetime) -> None:
        """Remember what can still come from a topic, and what was final before any of it came.

        Args:
            topic_id: of the topic.
            state: of the topic from now on.
            now: the clock.
        """
        standings = {t.topic_id: t for t in self.topic_standings()}
        topic = standings.pop(topic_id, TopicStanding(topic_id, None, TopicState.OVER))
        is_new = topic.moves_since is None or topic.state is TopicState.OVER
        if state is TopicState.OVER or not is_new:
            self.rows(
                "UPDATE {keyspace}.ingest_progress SET state = ? WHERE topic_id = ?",
                (state.value, topic_id),
            )
            return
        known = (topic.final_before, final_until(standings.values()))
        final_before = max((until for until in known if until is not None), default=None)
        self.rows(
            "UPDATE {keyspace}.ingest_progress SET state = ?, moves_since = ?, final_before = ? "
            "WHERE topic_id = ?",
            (state.value, now, final_before, topic_id),
        )
