"""Write to Kafka: idempotent, acknowledged, and never dropping silently."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from confluent_kafka import KafkaError, Message, Producer

from tapeline.errors import DeliveryError

_BACK_PRESSURE_WAIT_S: Final = 0.01
_FLUSH_TIMEOUT_S: Final = 60.0
_QUEUE_MESSAGES: Final = 50_000
_NEVER_EXPIRE_MS: Final = 0
_LINGER_MS: Final = 5
"""How long a trade may wait for others to travel with."""

Headers = Sequence[tuple[str, str | bytes]]


class KafkaProducer:
    """Delivers messages of one topic at least once, in order within a key.

    Delivery: idempotent, all replicas acknowledge, no time-out drops a message. When the
    local queue is full `send` waits, which in the end holds back the feed. A message that
    Kafka refuses for good raises DeliveryError at the next call.
    """

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._error: KafkaError | None = None
        self._refused: str | None = None
        self.acknowledged = 0
        """Messages of the topic that all replicas have."""
        self.last_offsets: dict[int, int] = {}
        """The highest acknowledged offset of each partition of the topic."""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": _LINGER_MS,
                "partitioner": "murmur2_random",
                "message.timeout.ms": _NEVER_EXPIRE_MS,
                "queue.buffering.max.messages": _QUEUE_MESSAGES,
                "message.max.bytes": 16 * 1024 * 1024,
            }
        )

    async def send(self, key: str, value: bytes) -> None:
        """Hand over one message of the topic, waiting while the queue is full.

        Raises:
            DeliveryError: Kafka refused an earlier message.
        """
        await self.send_all([(key, value)])

    async def send_all(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Hand over messages of the topic, each with its key first, as `send` does one.

        Raises:
            DeliveryError: Kafka refused an earlier message.
        """
        produce, topic, on_delivery = self._producer.produce, self._topic, self._on_delivery
        for key, value in messages:
            while True:
                try:
                    produce(topic, value, key, on_delivery=on_delivery)
                except BufferError:
                    await self._make_room()
                else:
                    break

    async def send_to(self, topic: str, key: str, value: bytes, headers: Headers = ()) -> None:
        """Hand over one message of another topic (dead letters, status)."""
        on_delivery = self._on_other_delivery
        while True:
            try:
                self._producer.produce(
                    topic, value, key, headers=list(headers), on_delivery=on_delivery
                )
            except BufferError:
                await self._make_room()
            else:
                return

    def serve(self) -> None:
        """Handle the acknowledgements that have arrived.

        Raises:
            DeliveryError: Kafka refused a message.
        """
        self._producer.poll(0)
        if self._error is not None:
            message = (
                f"Kafka refuses a message for topic {self._refused}: {self._error.str()}. Nothing "
                "was dropped unseen: mend the cause and start the producer again."
            )
            raise DeliveryError(message)

    def flush(self) -> None:
        """Wait until everything is acknowledged.

        Raises:
            DeliveryError: Kafka refused a message, or some are still unacknowledged.
        """
        remaining = self._producer.flush(_FLUSH_TIMEOUT_S)
        self.serve()
        if remaining:
            message = (
                f"{remaining} messages were not acknowledged within {_FLUSH_TIMEOUT_S:.0f} s: "
                "check that Kafka runs. They are not in the topic."
            )
            raise DeliveryError(message)

    async def _make_room(self) -> None:
        self.serve()
        await asyncio.sleep(_BACK_PRESSURE_WAIT_S)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._error, self._refused = error, message.topic()
            return
        self.acknowledged += 1
        # Acknowledgements of one partition come in the order of its offsets.
        partition, offset = message.partition(), message.offset()
        if partition is not None and offset is not None:
            self.last_offsets[partition] = offset

    def _on_other_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._error, self._refused = error, message.topic()
