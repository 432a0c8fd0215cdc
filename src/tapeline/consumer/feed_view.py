"""What Kafka knows about a topic: its ends, and what its producers report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Final

import structlog
from confluent_kafka import Consumer, Message, TopicPartition

from tapeline.producer.feed_status import FeedStatus

log = structlog.get_logger()

_TIMEOUT_S: Final = 10.0
_READ_MESSAGES: Final = 500
_READ_WAIT_S: Final = 0.5
_STATUS_IS_OLD_AFTER: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class FeedSnapshot:
    """The topic at one instant.

    `end_offsets` holds each partition's next offset, `first_offsets` the oldest one that has
    not expired. `is_pending` tells whether a living
    producer still holds trades; `has_ended` whether every producer's tape has ended.
    """

    end_offsets: dict[int, int]
    is_pending: bool
    has_ended: bool
    first_offsets: dict[int, int] = field(default_factory=dict)


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
        self._status = TopicPartition(status_topic, 0, 0)
        self._next_status = 0
        self._consumer.assign([self._status])

    def snapshot(self, now: datetime) -> FeedSnapshot:
        """Read what is new and return the present state.

        The statuses are read before the ends, so that every trade that a status calls
        acknowledged lies below them.
        """
        self._read_statuses()
        statuses = list(self._statuses.values())
        offsets = self.offsets()
        return FeedSnapshot(
            {p: end for p, (_, end) in offsets.items()},
            first_offsets={p: first for p, (first, _) in offsets.items()},
            # A producer that reports no more is gone, and holds nothing that could still come.
            is_pending=any(s.pending > 0 and now - at < _STATUS_IS_OLD_AFTER for s, at in statuses),
            has_ended=bool(statuses) and all(s.end_of_tape for s, _ in statuses),
        )

    def offsets(self) -> dict[int, tuple[int, int]]:
        """Return each partition's oldest and next offset."""
        return {
            p: self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, p), timeout=_TIMEOUT_S
            )
            for p in self._partitions
        }

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _read_statuses(self) -> None:
        """Read to the end that the topic has now; how long that takes is Kafka's affair."""
        end = self._consumer.get_watermark_offsets(self._status, timeout=_TIMEOUT_S)[1]
        deadline = time.monotonic() + _TIMEOUT_S
        while self._next_status < end and time.monotonic() < deadline:
            for message in self._consumer.consume(_READ_MESSAGES, _READ_WAIT_S):
                value, offset = message.value(), message.offset()
                if message.error() is not None or offset is None:
                    continue
                self._next_status = offset + 1
                if value is not None:
                    self._remember(value, message)

    def _remember(self, value: bytes, message: Message) -> None:
        try:
            status = FeedStatus.from_bytes(value)
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("unreadable_feed_status", offset=message.offset())
            return
        if status.topic_id == self._topic_id:
            at = datetime.fromtimestamp(message.timestamp()[1] / 1000, timezone.utc)
            self._statuses[status.producer_id] = (status, at)
