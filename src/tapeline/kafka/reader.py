"""Read what Kafka holds of one topic, without a consumer group's commits."""

from __future__ import annotations

import time
from bisect import bisect_left
from operator import itemgetter
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tapeline.kafka.client import IN_THE_CLEAR, client_options
from tapeline.kafka.offsets import offsets_of
from tapeline.kafka.topics import partitions_of
from tapeline.model.errors import ServiceUnavailableError
from tapeline.program.service_settings import KafkaSettings

_TIMEOUT_S: Final = 10.0
_READ_MESSAGES: Final = 10_000
_READ_WAIT_S: Final = 1.0
_SILENCE_S: Final = 60.0

RawMessage = tuple[int, int, bytes | None, bytes | None]
"""Offset, time by the broker's clock in ms, key and value: there are many, so without names."""


class TopicReader:
    """Reads ranges of offsets, fastest in order."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        topic_id: str,
        access: KafkaSettings = IN_THE_CLEAR,
    ) -> None:
        self.topic_id = topic_id
        self._topic = topic
        self._consumer = Consumer(
            {
                **client_options(bootstrap_servers, access),
                "group.id": f"tapeline-audit-{topic_id}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        self._position: tuple[int, int] | None = None
        self._ahead: list[RawMessage] = []
        self._is_at_end = False

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def offsets(self) -> dict[int, tuple[int, int]]:
        """Return each partition's oldest and next offset.

        Raises:
            SchemaError: there is no such topic.
        """
        metadata = self._consumer.list_topics(self._topic, timeout=_TIMEOUT_S)
        return {
            p: offsets_of(self._consumer, self._topic, p)
            for p in partitions_of(metadata, self._topic)
        }

    def oldest(self, partition: int) -> int:
        """Return the oldest offset that Kafka still holds of a partition."""
        return offsets_of(self._consumer, self._topic, partition)[0]

    def read(self, partition: int, start: int, stop: int) -> list[RawMessage]:
        """Return the messages with start <= offset < stop that Kafka holds, in order.

        Raises:
            ServiceUnavailableError: Kafka is silent for a minute.
            KafkaException: it reports an error.
        """
        if self._position != (partition, start):
            self._consumer.assign([TopicPartition(self._topic, partition, start)])
            self._ahead = []
            self._is_at_end = False
        found = self._ahead
        heard_at_s = time.monotonic()
        while not self._is_at_end and (not found or found[-1][0] < stop - 1):
            some = self._consume(partition)
            found += some
            if some:
                heard_at_s = time.monotonic()
            elif time.monotonic() - heard_at_s > _SILENCE_S:
                message = f"Kafka gave no message of {self._topic} for {_SILENCE_S:.0f} s."
                raise ServiceUnavailableError(message)
        self._position = (partition, stop)
        end = bisect_left(found, stop, key=itemgetter(0))
        self._ahead = found[end:]
        return found[:end]

    def _consume(self, partition: int) -> list[RawMessage]:
        some: list[RawMessage] = []
        for message in self._consumer.consume(_READ_MESSAGES, _READ_WAIT_S):
            error, offset = message.error(), message.offset()
            if message.partition() != partition:
                continue  # of the range before
            if error is None and offset is not None:
                some.append((offset, message.timestamp()[1], message.key(), message.value()))
            elif error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                self._is_at_end = True
            elif error is not None and not error.retriable():
                raise KafkaException(error)
        return some
