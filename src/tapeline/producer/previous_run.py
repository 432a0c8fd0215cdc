"""What producers last reported, before they were stopped or killed."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timezone

from confluent_kafka import KafkaException

from tapeline.kafka.feed_view import FeedView
from tapeline.model.errors import ServiceUnavailableError
from tapeline.model.feed_status import FeedStatus
from tapeline.program.service_settings import KafkaSettings


def last_statuses(
    bootstrap_servers: str, settings: KafkaSettings, topic_id: str
) -> dict[str, FeedStatus]:
    """Return the newest status of each producer for one topic, by the producer's name.

    Raises:
        SchemaError: a topic is missing.
        ServiceUnavailableError: Kafka did not hand over the topic of statuses in time.
    """
    try:
        with closing(FeedView(bootstrap_servers, settings, topic_id)) as view:
            producers = view.snapshot(datetime.now(timezone.utc)).producers
    except KafkaException as error:
        text = f"Kafka does not hand over topic {settings.status_topic} ({error}): try again."
        raise ServiceUnavailableError(text) from error
    return {p.status.producer_id: p.status for p in producers}
