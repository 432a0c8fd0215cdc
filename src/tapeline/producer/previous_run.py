"""What producers last reported: before they were stopped or killed, or as they still run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime, timezone

from confluent_kafka import KafkaException

from tapeline.feeds.known import feed_of
from tapeline.kafka.feed_view import FeedView
from tapeline.model.coverage import ProducerView
from tapeline.model.errors import ServiceUnavailableError, UsageError
from tapeline.program.service_settings import KafkaSettings


def last_statuses(
    bootstrap_servers: str, settings: KafkaSettings, topic_id: str
) -> dict[str, ProducerView]:
    """Return what each producer last said of one topic, by the producer's name.

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
    return {p.status.producer_id: p for p in producers}


def require_one_feed_each(
    reported: Mapping[str, ProducerView], source: str, symbols: Iterable[str]
) -> None:
    """Check that no symbol comes by another feed at this time: each would name its trades anew.

    Raises:
        UsageError: one does, so all its trades would count twice.
    """
    wanted = set(symbols)
    for name, producer in reported.items():
        status = producer.status
        is_running = status.is_live and not (producer.is_gone or status.has_stopped)
        if not is_running or feed_of(status.source) is feed_of(source):
            continue
        if shared := wanted.intersection(status.symbols):
            message = (
                f"{min(shared)} comes by {status.source or 'finnhub'} already, from producer "
                f"{name}, and its trades would count twice: stop that one, or leave it out."
            )
            raise UsageError(message)
