"""Write to Kafka: idempotent, acknowledged, and never dropping silently."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tapeline.kafka.client import IN_THE_CLEAR, client_options
from tapeline.model.errors import DeliveryError
from tapeline.model.texts import counted
from tapeline.producer.spool_file import SpooledMessage
from tapeline.program.service_settings import KafkaSettings

_BACK_PRESSURE_WAIT_S: Final = 0.01
_FLUSH_TIMEOUT_S: Final = 60.0
_QUEUE_MESSAGES: Final = 50_000
_NEVER_EXPIRE_MS: Final = 0
_LINGER_MS: Final = 5
"""How long a trade may wait for others to travel with."""

OnDelivery = Callable[[KafkaError | None, Message], None]


class KafkaProducer:
    """Delivers messages of one topic at least once, in order within a key.

    Delivery: idempotent, all replicas acknowledge, no time-out drops a message. When the
    local queue is full `send` waits and `try_send` says so. A message that Kafka refuses for
    good raises DeliveryError at the next `serve`.
    """

    def __init__(
        self, bootstrap_servers: str, topic: str, access: KafkaSettings = IN_THE_CLEAR
    ) -> None:
        self._topic = topic
        self._error: KafkaError | None = None
        self._refused: str | None = None
        self._has_latest_under_way = False
        self.acknowledged = 0
        """Messages of the topic that all replicas have."""
        self.last_offsets: dict[int, int] = {}
        """The highest acknowledged offset of each partition of the topic."""
        self._producer = Producer(
            {
                **client_options(bootstrap_servers, access),
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
        await self.send_to(self._topic, key, value)

    async def send_to(self, topic: str, key: str, value: bytes) -> None:
        """Hand over one message of any topic, as `send` does."""
        message = SpooledMessage(topic, key.encode(), value)
        while not self.try_send(message, self.note):
            self.serve()
            await asyncio.sleep(_BACK_PRESSURE_WAIT_S)

    def try_send(self, message: SpooledMessage, on_delivery: OnDelivery) -> bool:
        """Hand over one message without waiting; return False while the queue is full.

        Args:
            message: what to send, and where to.
            on_delivery: called by `serve` when its fate is known; it must call `note`.

        Raises:
            DeliveryError: it is larger than Kafka takes.
        """
        topic, key, value, headers = message
        try:
            if headers:
                self._producer.produce(
                    topic, value, key, headers=list(headers), on_delivery=on_delivery
                )
            else:
                self._producer.produce(topic, value, key, on_delivery=on_delivery)
        except BufferError:
            return False
        except KafkaException as error:
            raise self._refusal(topic, error.args[0]) from None
        return True

    def note(self, error: KafkaError | None, message: Message) -> None:
        """Note the fate of one message."""
        topic = message.topic()
        if error is not None:
            self._error, self._refused = error, topic
        elif topic == self._topic:
            self.acknowledged += 1
            # Acknowledgements of one partition come in the order of its offsets.
            partition, offset = message.partition(), message.offset()
            if partition is not None and offset is not None:
                self.last_offsets[partition] = offset

    def send_latest(self, topic: str, key: bytes, value: bytes) -> None:
        """Hand over one message, unless the one before has not been acknowledged yet."""
        if self._has_latest_under_way:
            return
        message = SpooledMessage(topic, key, value)
        self._has_latest_under_way = self.try_send(message, self._note_latest)

    async def flush_within(self, timeout_s: float) -> None:
        """Wait for acknowledgements, but not for long.

        Raises:
            DeliveryError: Kafka refused a message.
        """
        deadline_s = time.monotonic() + timeout_s
        while self._has_latest_under_way and time.monotonic() < deadline_s:
            self.serve()
            await asyncio.sleep(_BACK_PRESSURE_WAIT_S)

    def serve(self) -> None:
        """Handle the acknowledgements that have arrived.

        Raises:
            DeliveryError: Kafka refused a message.
        """
        self._producer.poll(0)
        if self._error is not None:
            raise self._refusal(self._refused, self._error)

    def flush(self) -> None:
        """Wait until everything is acknowledged; for programs that have no spool.

        Raises:
            DeliveryError: Kafka refused a message, or some are still unacknowledged.
        """
        remaining = self._producer.flush(_FLUSH_TIMEOUT_S)
        self.serve()
        if remaining:
            messages = counted(remaining, "message was", "messages were")
            message = (
                f"{messages} not acknowledged within {_FLUSH_TIMEOUT_S:.0f} s: check that Kafka "
                "runs. What was not acknowledged is not in the topic."
            )
            raise DeliveryError(message)

    @staticmethod
    def _refusal(topic: str | None, error: KafkaError) -> DeliveryError:
        message = (
            f"Kafka refuses a message for topic {topic}: {error.str()}. Nothing "
            "was dropped unseen: remove the cause and start the producer again."
        )
        return DeliveryError(message)

    def _note_latest(self, error: KafkaError | None, message: Message) -> None:
        self._has_latest_under_way = False
        self.note(error, message)
