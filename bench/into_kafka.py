"""Put a load into Kafka, once, as the producer would: Avro, keyed by symbol, acknowledged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException, Message, Producer

from bench.load import Load
from bench.truth import Truth
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.model.feed_status import FeedStatus
from tapeline.model.times import now_us
from tapeline.model.trade import Trade, encode_trade

STATUS_TOPIC: Final = "feed_status"
_POLL_EVERY: Final = 1000
_FULL_WAIT_S: Final = 0.1
_FLUSH_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A load that is in Kafka, and the truth about it."""

    name: str
    topic: str
    topic_id: str
    truth: Truth
    offsets: dict[int, int]
    """The last offset of each partition."""


def fill(bootstrap_servers: str, topic: str, load: Load, *, ends: bool = True) -> Loaded:
    """Write a load to an existing topic; work out the truth on the way.

    Args:
        bootstrap_servers: Kafka's address.
        topic: the topic, made by `tapeline init`.
        load: the trades.
        ends: also say that the tape has ended, so that every bar becomes final.
    """
    offsets: dict[int, int] = {}

    def acknowledged(error: object, message: Message) -> None:
        if error is not None:
            raise KafkaException(error)
        offsets[message.partition() or 0] = message.offset() or 0

    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 50,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 500_000,
        }
    )
    truth = Truth()
    # Now, since what was received long ago counts as expired.
    received_us = now_us()
    for number, trade in enumerate(load.trades()):
        truth.take(trade)
        value = encode_trade(
            Trade(
                trade.symbol,
                trade.price,
                trade.volume,
                trade.event_time_ms,
                trade.conditions,
                trade.trade_id,
                received_us + number,
                trade.sequence,
                "bench",
            )
        )
        while True:
            try:
                producer.produce(topic, value, trade.symbol, on_delivery=acknowledged)
                break
            except BufferError:
                producer.poll(_FULL_WAIT_S)
        if number % _POLL_EVERY == 0:
            producer.poll(0)
    truth.forget_ids()
    _flush(producer)
    topic_id = topic_id_of(topic_admin(bootstrap_servers), topic)
    if ends:
        status = _end_of_tape(topic, topic_id, offsets, truth.messages)
        producer.produce(STATUS_TOPIC, status.to_bytes(), status.key)
        _flush(producer)
    return Loaded(load.name, topic, topic_id, truth, offsets)


def _flush(producer: Producer) -> None:
    if producer.flush(_FLUSH_S):
        message = "Kafka did not acknowledge the whole load"
        raise TimeoutError(message)


def _end_of_tape(topic: str, topic_id: str, offsets: dict[int, int], messages: int) -> FeedStatus:
    return FeedStatus(
        producer_id="bench",
        topic=topic,
        topic_id=topic_id,
        connected=False,
        pending=0,
        last_offsets=offsets,
        newest_receipt_us=now_us(),
        end_of_tape=True,
        frames=0,
        trades=messages,
        dead_letters=0,
    )
