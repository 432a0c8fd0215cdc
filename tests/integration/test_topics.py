"""Topics that are there already, on a real Kafka."""

from __future__ import annotations

import time
import uuid

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from structlog.testing import capture_logs

from tapeline.kafka.topics import create_topics, delete_topic, topic_admin
from tapeline.local.discovery import Endpoints
from tapeline.program.service_settings import KafkaSettings
from tapeline.program.settings import load_settings


@pytest.fixture
def kafka() -> KafkaSettings:
    name = f"t{uuid.uuid4().hex[:12]}"
    settings = load_settings().with_target(topic=name)
    return settings.kafka.model_copy(
        update={"status_topic": f"{name}_fs", "gaps_topic": f"{name}_fg"}
    )


@pytest.mark.parametrize("is_there", [False, True])
def test_the_broker_dates_statuses_also_in_a_topic_that_was_there_already(
    stack: Endpoints, kafka: KafkaSettings, *, is_there: bool
) -> None:
    admin = topic_admin(stack.bootstrap_servers)
    if is_there:
        make(admin, kafka.status_topic)

    with capture_logs() as logs:
        create_topics(admin, kafka)
        create_topics(admin, kafka)
    an_hour_ago_ms = round((time.time() - 3600) * 1000)
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    producer.produce(kafka.status_topic, b"status", b"key", timestamp=an_hour_ago_ms)
    assert producer.flush(120) == 0
    kind, at_ms = timestamp_in(stack, kafka.status_topic)

    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert abs(at_ms / 1000 - time.time()) < 60
    assert [line["topic"] for line in logs] == [kafka.status_topic] * is_there
    for topic in (kafka.topic, kafka.status_topic, kafka.gaps_topic):
        delete_topic(admin, topic)


def make(admin: AdminClient, topic: str) -> None:
    """Make a topic as Kafka does when it is not told how."""
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()


def timestamp_in(stack: Endpoints, topic: str) -> tuple[int, int]:
    """Return the kind and value, in ms, of the time of a topic's only message."""
    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "test"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(60)
    consumer.close()
    assert message is not None
    kind, at_ms = message.timestamp()
    return kind, at_ms
