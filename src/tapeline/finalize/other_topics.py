"""Look after the topics of a keyspace that no stream works on any more.

A topic that has stopped for good must not hold back the longer bars of one that goes on, and what
one leaves behind that was deleted must become final.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final

from confluent_kafka.admin import AdminClient

from tapeline.finalize.gone_topics import GoneTopics
from tapeline.finalize.topic_standing import state_of
from tapeline.kafka.feed_view import FeedView
from tapeline.kafka.topics import living_topics
from tapeline.model.coverage import Coverage
from tapeline.storage.topics import TopicStanding, TopicState

_EVERY_S: Final = 60.0
_EVER: Final = datetime.min.replace(year=1970, tzinfo=timezone.utc)


class OtherTopics:
    """Keeps the standings of all topics but our own; finalizes those that are gone.

    Args:
        admin: of Kafka.
        feed: has read what all producers report.
        gone: finalizes topics that no longer exist.
        topic_id: of our own.
    """

    def __init__(
        self,
        admin: AdminClient,
        feed: FeedView,
        gone: GoneTopics,
        topic_id: str,
    ) -> None:
        self._client = gone.client
        self._admin = admin
        self._feed = feed
        self._gone = gone
        self._topic_id = topic_id
        self._delay = gone.rules.delay
        self._next_s = 0.0

    def look_after(self, now: datetime) -> int:
        """Do it, once a minute at most; return how many bars were finalized."""
        if time.monotonic() < self._next_s:
            return 0
        others = [t for t in self._client.topic_standings() if t.topic_id != self._topic_id]
        finalized = 0
        if others:
            living = living_topics(self._admin)
            for topic in others:
                if topic.topic_id in living:
                    finalized += self._look_after(topic, *living[topic.topic_id], now)
            finalized += self._gone.finalize(living.keys(), now)
        self._next_s = time.monotonic() + _EVERY_S
        return finalized

    def _look_after(
        self, topic: TopicStanding, name: str, partitions: Sequence[int], now: datetime
    ) -> int:
        """Write what can come of a topic that exists; finalize it where that is nothing."""
        feed = self._feed.snapshot_of(topic.topic_id, name, partitions, now)
        progress = self._client.progress(topic.topic_id)
        state = state_of(progress, feed, now, self._delay, is_finalized=True)
        if state is None or state is topic.state:
            return 0
        if state is not TopicState.OVER:
            self._client.write_topic_state(topic.topic_id, state, now)
            return 0
        gaps = self._client.gaps(_EVER, now)
        of_topic = [gap for gap in gaps if gap.topic_id == topic.topic_id]
        coverage = Coverage(feed.producers, of_topic, is_readable=feed.is_readable)
        return self._gone.finalize_left(topic.topic_id, coverage, now)
