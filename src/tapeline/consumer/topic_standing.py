"""What can still come from a topic, as its readers shall know it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from tapeline.consumer.feed_view import FeedSnapshot
from tapeline.consumer.horizon import is_caught_up, newest_receipt
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.rows import PartitionProgress
from tapeline.storage.topic_tables import TopicState


def state_of(
    progress: Mapping[int, PartitionProgress],
    feed: FeedSnapshot,
    now: datetime,
    delay: timedelta,
    *,
    is_settled: bool,
) -> TopicState:
    """Return what can still come from a topic.

    Nothing does when all of it is in silver and its tape has ended, or its producers report no more
    and nothing was received for the delay.

    Args:
        progress: of its Kafka partitions.
        feed: what Kafka knows of it.
        now: the clock.
        delay: how late a trade may be.
        is_settled: whether all its windows are settled.
    """
    if not is_caught_up(progress, feed) or feed.is_pending:
        return TopicState.MOVING
    received = newest_receipt(progress)
    is_quiet = received is None or received + delay <= now
    is_left = is_quiet and all(p.is_gone for p in feed.producers)
    if not feed.has_ended and not is_left:
        return TopicState.MOVING
    if is_settled:
        return TopicState.OVER
    return TopicState.ENDED if feed.has_ended else TopicState.MOVING


class OwnTopic:
    """The standing of the topic that a settler works on: written when it changes.

    Args:
        client: of the keyspace.
        topic_id: of the topic.
    """

    def __init__(self, client: CassandraClient, topic_id: str) -> None:
        self._client = client
        self._topic_id = topic_id
        self._state: TopicState | None = None
        self.settled_until: datetime | None = None
        """Up to when its windows are settled; None before anything is known."""

    def read(self) -> None:
        """Read what is known of it, which settlers of other topics may have written too."""
        for t in self._client.topic_standings():
            if t.topic_id == self._topic_id:
                self.settled_until, self._state = t.settled_until, t.state

    def write_state(self, state: TopicState) -> None:
        """Say what can still come."""
        if state is not self._state:
            self._client.write_topic_state(self._topic_id, state)
            self._state = state

    def write_until(self, until: datetime | None) -> None:
        """Say up to when its windows are settled; that never sinks."""
        if until is not None and (self.settled_until is None or until > self.settled_until):
            self._client.write_settled_until(self._topic_id, until)
            self.settled_until = until
