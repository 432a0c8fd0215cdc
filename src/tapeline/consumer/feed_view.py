"""What Kafka knows about a topic: its ends, and what its producers report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

import structlog
from confluent_kafka import Consumer, TopicPartition

from tapeline.producer.feed_status import FeedStatus

log = structlog.get_logger()

_TIMEOUT_S: Final = 10.0
_READ_MESSAGES: Final = 500
_READ_WAIT_S: Final = 0.05
_STATUS_IS_OLD_AFTER: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class FeedSnapshot:
    """The topic at one instant.

    `end_offsets` holds each partition's next offset. `is_pending` tells whether a living
    producer still holds trades; `has_ended` whether every producer's tape has ended.
    """

    end_offsets: dict[int, int]
    is_pending: bool
    has_ended: bool


class FeedView:
    """Follows `feed_status` and the ends of one topic, without a consumer group's commits."""

    def __init__(
        self, bootstrap_servers: str, topic: str, topic_id: str, status_topic: str
    ) -> None:
        self._topic = topic
        self._topic_id = topic_id
        self._statuses: dict[str, tuple[FeedStatus, datetime]] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": f"tapeline-{topic_id}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        metadata = self._consumer.list_topics(topic, timeout=_TIMEOUT_S)
        self._partitions = sorted(metadata.topics[topic].partitions)
        self._consumer.assign([TopicPartition(status_topic, 0, 0)])

    def snapshot(self, now: datetime) -> FeedSnapshot:
        """Read what is new and return the present state.

        The statuses are read before the ends, so that every trade that a status calls
        acknowledged lies below them.
        """
        self._read_statuses()
        statuses = list(self._statuses.values())
        ends = {
            p: self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, p), timeout=_TIMEOUT_S
            )[1]
            for p in self._partitions
        }
        return FeedSnapshot(
            ends,
            # A producer that reports no more is gone, and holds nothing that could still come.
            is_pending=any(s.pending > 0 and now - at < _STATUS_IS_OLD_AFTER for s, at in statuses),
            has_ended=bool(statuses) and all(s.end_of_tape for s, _ in statuses),
        )

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _read_statuses(self) -> None:
        while messages := self._consumer.consume(_READ_MESSAGES, _READ_WAIT_S):
            for message in messages:
                value = message.value()
                if message.error() is not None or value is None:
                    continue
                try:
                    status = FeedStatus.from_bytes(value)
                except (ValueError, KeyError, TypeError, AttributeError):
                    log.warning("unreadable_feed_status", offset=message.offset())
                    continue
                if status.topic_id == self._topic_id:
                    at = datetime.fromtimestamp(message.timestamp()[1] / 1000, timezone.utc)
                    self._statuses[status.producer_id] = (status, at)
