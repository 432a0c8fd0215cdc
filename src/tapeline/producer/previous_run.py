"""What producers last reported, before they were stopped or killed."""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from tapeline.kafka.offsets import offsets_of
from tapeline.model.errors import ServiceUnavailableError
from tapeline.model.feed_status import FeedStatus
from tapeline.model.reports import UnreadableReportError

_READ_MESSAGES: Final = 1000
_READ_WAIT_S: Final = 1.0
_READ_TIMEOUT_S: Final = 60.0


def last_statuses(
    bootstrap_servers: str, status_topic: str, topic_id: str
) -> dict[str, FeedStatus]:
    """Return the newest status of each producer for one topic, by the producer's name.

    Raises:
        ServiceUnavailableError: Kafka did not hand over the topic in time.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"tapeline-{topic_id}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    found: dict[str, FeedStatus] = {}
    try:
        next_offset, end = offsets_of(consumer, status_topic, 0)
        consumer.assign([TopicPartition(status_topic, 0, next_offset)])
        deadline = time.monotonic() + _READ_TIMEOUT_S
        while next_offset < end:
            if time.monotonic() > deadline:
                text = f"Kafka does not hand over topic {status_topic}: try again."
                raise ServiceUnavailableError(text)
            for message in consumer.consume(_READ_MESSAGES, _READ_WAIT_S):
                next_offset = max(next_offset, (message.offset() or 0) + 1)
                status = _status_in(message.value())
                if status and status.topic_id == topic_id:
                    found[status.producer_id] = status
    finally:
        consumer.close()
    return found


def _status_in(value: bytes | None) -> FeedStatus | None:
    try:
        return FeedStatus.from_bytes(value or b"")
    except UnreadableReportError:
        return None
