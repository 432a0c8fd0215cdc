"""The hours before the demo: the simulated market, played at full speed into an empty topic.

Its trades go the way of live ones: validated, given an identity, encoded, acknowledged by Kafka,
and then through Spark. At the end a status says that a producer heard the market just so long: the
bars of that time count as complete, and what lies between it and the live producer's first message
does not.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Final

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException

from tapeline.kafka.client import client_options
from tapeline.kafka.offsets import offsets_of
from tapeline.model.feed_status import FeedStatus
from tapeline.model.times import floor_to, to_millis
from tapeline.model.trade import encode_trade
from tapeline.producer.identity import TradeIdentity
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.validation import TradeFrame, parse_frame
from tapeline.program.settings import Settings
from tapeline.simulator.market import INSTRUMENTS
from tapeline.simulator.past import past_frames

PRODUCER_ID: Final = "simulator-history"
"""Its name in feed_status."""

_UNKNOWN: Final = frozenset(
    {
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - the client's own codes
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
_KNOWN_WITHIN_S: Final = 20.0
_POLL_S: Final = 0.1
_LENGTH: Final = timedelta(hours=3)
_HOUR: Final = timedelta(hours=1)
_SEED: Final = 1
_MICROS: Final = 1000
"""In a millisecond."""


def is_empty(settings: Settings, servers: str) -> bool:
    """Return whether no trade was ever written to the settings' topic; it may have just been made.

    Raises:
        KafkaException: the topic does not come to be known.
    """
    consumer = Consumer({**client_options(servers, settings.kafka), "group.id": PRODUCER_ID})
    topic, partitions = settings.kafka.topic, range(settings.kafka.partitions)
    deadline = time.monotonic() + _KNOWN_WITHIN_S
    try:
        while True:
            try:
                return all(offsets_of(consumer, topic, p)[1] == 0 for p in partitions)
            except KafkaException as error:
                if error.args[0].code() not in _UNKNOWN or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)
    finally:
        consumer.close()


def play_history(settings: Settings, servers: str, topic_id: str, now: datetime) -> int:
    """Send the market's last hours to the settings' topic; return how many trades they have.

    Raises:
        DeliveryError: Kafka refuses a message.
    """
    return asyncio.run(_play(settings, servers, topic_id, now))


async def _play(settings: Settings, servers: str, topic_id: str, now: datetime) -> int:
    start = floor_to(_HOUR, now - _LENGTH)
    producer = KafkaProducer(servers, settings.kafka.topic, settings.kafka)
    identity = TradeIdentity("simulator", settings.finnhub.same_millisecond_s)
    trades_sent, heard_us = 0, to_millis(start) * _MICROS
    for frame in past_frames(_SEED, start, now):
        heard_us = frame.due_ms * _MICROS
        text = orjson.dumps({"data": frame.trades, "type": "trade"})
        message = parse_frame(text, frame.due_ms)
        assert isinstance(message, TradeFrame)  # noqa: S101 - for the type checker
        for trade in identity.assign(message.trades, heard_us, frame.due_ms / 1000):
            await producer.send(trade.symbol, encode_trade(trade))
            trades_sent += 1
        producer.serve()
    producer.flush()
    status = FeedStatus(
        producer_id=PRODUCER_ID,
        topic=settings.kafka.topic,
        topic_id=topic_id,
        connected=False,
        pending=0,
        last_offsets=dict(producer.last_offsets),
        newest_receipt_us=heard_us,
        end_of_tape=False,  # the market goes on
        has_stopped=True,
        frames=0,
        trades=trades_sent,
        dead_letters=0,
        symbols=tuple(i.symbol for i in INSTRUMENTS),
        is_live=True,
        started_us=to_millis(start) * _MICROS,
        last_message_us=heard_us,
    )
    await producer.send_to(settings.kafka.status_topic, status.key, status.to_bytes())
    producer.flush()
    return trades_sent
