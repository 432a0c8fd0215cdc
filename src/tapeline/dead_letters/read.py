"""Read all dead letters of a topic: frames from Kafka, messages from quarantine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tapeline.dead_letters.letter import Letter, Origin, read_refusals
from tapeline.kafka.client import client_options
from tapeline.kafka.offsets import offsets_of
from tapeline.kafka.topics import partitions_of
from tapeline.model.errors import ServiceUnavailableError
from tapeline.program.service_settings import KafkaSettings
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.messages import BUCKET_OFFSETS

_TIMEOUT_S: Final = 10.0
_SILENCE_S: Final = 60.0
_MESSAGES: Final = 500
_US_PER_MS: Final = 1000
_OFFSETS: Final = 5_000


def frames_of_feed(bootstrap_servers: str, settings: KafkaSettings) -> Iterator[Letter]:
    """Yield the refused frames of the topic's producers that Kafka still has, oldest first.

    Raises:
        SchemaError: there is no topic of dead letters.
        ServiceUnavailableError: Kafka is silent for a minute.
    """
    topic = settings.dead_letter_topic
    consumer = Consumer(
        {
            **client_options(bootstrap_servers, settings),
            "group.id": f"tapeline-{topic}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        for partition in partitions_of(consumer.list_topics(timeout=_TIMEOUT_S), topic):
            for found in _messages(consumer, topic, partition):
                if _header(found, "topic") in {"", settings.topic}:
                    yield _frame(found)
    finally:
        consumer.close()


def _messages(consumer: Consumer, topic: str, partition: int) -> Iterator[Message]:
    first, end = offsets_of(consumer, topic, partition)
    consumer.assign([TopicPartition(topic, partition, first)])
    heard_s = time.monotonic()
    position = first
    while position < end:
        for message in consumer.consume(_MESSAGES, 1.0):
            error, offset = message.error(), message.offset()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                return
            if error is not None:
                raise KafkaException(error)
            heard_s = time.monotonic()
            position = (offset or 0) + 1
            if position <= end:
                yield message
        if time.monotonic() - heard_s > _SILENCE_S:
            text = f"Kafka gave no message of {topic} for {_SILENCE_S:.0f} s: try again."
            raise ServiceUnavailableError(text)


def _frame(message: Message) -> Letter:
    received = _header(message, "received_at_us")
    rejects = _header(message, "rejects")
    return Letter(
        Origin.FEED,
        f"{message.topic()}/{message.partition()}/{message.offset()}",
        int(received) if received.isdecimal() else message.timestamp()[1] * _US_PER_MS,
        message.value() or b"",
        read_refusals(rejects.encode(), _header(message, "reason") or "unknown"),
        source=_header(message, "source"),
    )


def _header(message: Message, name: str) -> str:
    headers: list[tuple[str, bytes | None]] = list(message.headers() or ())  # type: ignore[arg-type]
    return next(((v or b"").decode(errors="replace") for key, v in headers if key == name), "")


def messages_of_topic(client: CassandraClient) -> Iterator[Letter]:
    """Yield the messages in quarantine, of every topic of the keyspace, by partition and offset."""
    for topic_id, partition, bucket in client.quarantine_buckets():
        first, stop = bucket * BUCKET_OFFSETS, (bucket + 1) * BUCKET_OFFSETS
        ranges = ((start, start + _OFFSETS) for start in range(first, stop, _OFFSETS))
        for rows in client.quarantine(topic_id, partition, ranges):
            for offset, timestamp_ms, reason, key, message in rows:
                yield Letter(
                    Origin.TOPIC,
                    f"{topic_id}/{partition}/{offset}",
                    timestamp_ms * _US_PER_MS,
                    message or b"",
                    ((None, reason),),
                    key=(key or b"").decode(errors="replace"),
                )
