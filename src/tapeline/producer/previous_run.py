"""What producers last reported: before they were stopped or killed, or as they still run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime, timezone
from typing import NamedTuple

from confluent_kafka import KafkaException

from tapeline.feeds.known import feed_of
from tapeline.kafka.feed_view import FeedView
from tapeline.model.coverage import ProducerView
from tapeline.model.errors import ServiceUnavailableError, UsageError
from tapeline.model.feed_status import FeedStatus
from tapeline.model.gap import Gap
from tapeline.program.service_settings import KafkaSettings


class LastReports(NamedTuple):
    """What the producers of one topic have reported."""

    views: dict[str, ProducerView]
    """What each last said, by its name."""
    gaps: tuple[Gap, ...]
    """All that they ever missed."""


def last_reports(bootstrap_servers: str, settings: KafkaSettings, topic_id: str) -> LastReports:
    """Return what the producers of one topic have reported.

    Raises:
        SchemaError: a topic is missing.
        ServiceUnavailableError: Kafka did not hand over the topics of reports in time.
    """
    try:
        with closing(FeedView(bootstrap_servers, settings, topic_id)) as view:
            found = view.snapshot(datetime.now(timezone.utc))
    except KafkaException as error:
        text = f"Kafka does not hand over topic {settings.status_topic} ({error}): try again."
        raise ServiceUnavailableError(text) from error
    return LastReports({p.status.producer_id: p for p in found.producers}, found.gaps)


def by_another_feed(
    producers: Iterable[ProducerView], source: str, symbols: Iterable[str]
) -> dict[str, FeedStatus]:
    """Return those symbols that another feed brings now, each with what its producer reports."""
    wanted = set(symbols)
    found: dict[str, FeedStatus] = {}
    for producer in producers:
        status = producer.status
        if producer.is_running and feed_of(status.source) is not feed_of(source):
            found.update(dict.fromkeys(wanted.intersection(status.subscribed), status))
    return found


def require_one_feed_each(
    reported: Mapping[str, ProducerView], source: str, symbols: Iterable[str]
) -> None:
    """Check that no symbol comes by another feed now: each would name its trades in its own way.

    Raises:
        UsageError: one does, so all its trades would count twice.
    """
    for symbol, status in sorted(by_another_feed(reported.values(), source, symbols).items()):
        message = (
            f"{symbol} comes by {status.source_name} already, from producer "
            f"{status.producer_id}, and its trades would count twice: stop that one, or leave it "
            "out."
        )
        raise UsageError(message)
