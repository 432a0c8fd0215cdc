"""Which offsets a Kafka partition holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

_TIMEOUT_S: Final = 10.0
_LEARN_S: Final = 2.0
_POLL_S: Final = 0.1
_WITHOUT_LEADER: Final = frozenset(
    {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
)
"""What a broker says of a partition that is new or moves to another broker."""


_T = TypeVar("_T")


def offsets_of(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Return a partition's oldest and next offset; its leader may take a while to be there.

    Raises:
        KafkaException: there is no answer.
    """
    asked = TopicPartition(topic, partition)
    return _once_led(consumer, lambda: consumer.get_watermark_offsets(asked, timeout=_TIMEOUT_S))


def next_offsets(
    consumer: Consumer, partitions: Collection[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    """Return the next offset of many partitions of topics, by one request to each broker.

    Raises:
        KafkaException: there is no answer.
    """
    return _once_led(consumer, lambda: _offsets_at(consumer, partitions, OFFSET_END))


def oldest_offsets(
    consumer: Consumer, partitions: Collection[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    """Return the oldest offset of many partitions of topics, as `next_offsets`."""
    return _once_led(consumer, lambda: _offsets_at(consumer, partitions, OFFSET_BEGINNING))


def _offsets_at(
    consumer: Consumer, partitions: Collection[tuple[str, int]], where: int
) -> dict[tuple[str, int], int]:
    # Kafka takes the names of the two ends for times.
    wanted = [TopicPartition(topic, partition, where) for topic, partition in partitions]
    found = {}
    for answer in consumer.offsets_for_times(wanted, _TIMEOUT_S):
        if answer.error is not None:
            raise KafkaException(answer.error)
        found[answer.topic, answer.partition] = answer.offset
    return found


def _once_led(consumer: Consumer, ask: Callable[[], _T]) -> _T:
    """Ask until the partitions have a leader."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            _learn_who_leads(consumer)
            if error.args[0].code() not in _WITHOUT_LEADER or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _learn_who_leads(consumer: Consumer) -> None:
    """Have a consumer forget who led, or that nobody did, which it remembers for a quarter hour."""
    with suppress(KafkaException):
        consumer.list_topics(timeout=_LEARN_S)
