"""What can still come from a topic, as its readers shall know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from tapeline.finalize.horizon import is_caught_up, newest_receipt
from tapeline.kafka.feed_view import LOST_AFTER, FeedSnapshot
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.topics import TopicStanding, TopicState
from tapeline.storage.windows import PartitionProgress


def state_of(
    progress: Mapping[int, PartitionProgress],
    feed: FeedSnapshot,
    now: datetime,
    delay: timedelta,
    *,
    is_finalized: bool,
) -> TopicState | None:
    """Return what can still come from a topic; None while that cannot be told.

    Nothing does when all of it is in silver and its tape has ended, or its producers are lost
    and nothing was received for the delay. One that has not reported for long may be lost or not
    until we have listened for a while.

    Args:
        progress: of its Kafka partitions.
        feed: what Kafka knows of it.
        now: the clock.
        delay: how late a trade may be.
        is_finalized: whether all its windows are finalized.
    """
    if not is_caught_up(progress, feed):
        return TopicState.MOVING
    holding = [p for p in feed.producers if p.status.pending > 0 and not p.is_lost]
    if holding:
        is_heard = any(now - p.reported_at < LOST_AFTER for p in holding)
        return TopicState.MOVING if is_heard else None
    if feed.has_ended:
        return TopicState.OVER if is_finalized else TopicState.ENDED
    received = newest_receipt(progress)
    is_quiet = received is None or received + delay <= now
    expected = [p for p in feed.producers if p.vouches_until is not None]
    report = any(now - p.reported_at < LOST_AFTER for p in expected)
    if report or not is_finalized or not is_quiet:
        return TopicState.MOVING
    return None if expected else TopicState.OVER


class OwnTopic:
    """The standing of the topic that a finalizer works on: written when it changes.

    Args:
        client: of the keyspace.
        topic_id: of the topic.
    """

    def __init__(self, client: CassandraClient, topic_id: str) -> None:
        self._client = client
        self._topic_id = topic_id
        self.standing: TopicStanding | None = None
        """None before anything of it is in silver."""

    def read(self) -> None:
        """Read what is known of it, which finalizers of other topics may have written too."""
        standings = self._client.topic_standings()
        self.standing = next((t for t in standings if t.topic_id == self._topic_id), None)

    def write_state(self, state: TopicState | None, now: datetime) -> None:
        """Say what can still come; None leaves what was said."""
        known = self.standing
        if state is None or (
            known is not None
            and state is known.state
            and (known.moves_since is not None or state is TopicState.OVER)
        ):
            return
        self._client.write_topic_state(self._topic_id, state, now)
        self.read()

    def write_until(self, until: datetime | None) -> None:
        """Say up to when its windows are finalized; that never sinks."""
        known = self.standing
        if known is None or until is None:
            return
        if known.final_until is None or until > known.final_until:
            self._client.write_final_until(self._topic_id, until)
            self.standing = replace(known, final_until=until)
