"""What producers report, for tests of those who read it."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Producer

from tapeline.model.feed_status import FeedStatus
from tests.pipeline import Pipeline


def a_status(producer_id: str = "p", **changes: Any) -> FeedStatus:
    """Make the status of a producer that is connected and has nothing to tell."""
    fields: dict[str, Any] = {
        "topic": "trades_raw",
        "topic_id": "id",
        "connected": True,
        "pending": 0,
        "last_offsets": {},
        "newest_receipt_us": None,
        "end_of_tape": False,
        "frames": 0,
        "trades": 0,
        "dead_letters": 0,
    }
    return FeedStatus(producer_id, **{**fields, **changes})


def send_status(pipeline: Pipeline, producer_id: str, **changes: Any) -> None:
    """Report as a producer of a pipeline's topic."""
    kafka = pipeline.settings.kafka
    status = a_status(producer_id, topic=kafka.topic, topic_id=pipeline.topic_id, **changes)
    producer = Producer({"bootstrap.servers": pipeline.endpoints.bootstrap_servers})
    producer.produce(kafka.status_topic, status.to_bytes(), status.key)
    assert producer.flush(120) == 0
