"""Which offsets a Kafka partition holds."""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.1
_WITHOUT_LEADER: Final = frozenset(
    {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
)
"""What a broker says of a partition that is new or moves to another broker."""


def offsets_of(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Return a partition's oldest and next offset; its leader may take a while to be there.

    Raises:
        KafkaException: there is no answer.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            oldest, following = consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_TIMEOUT_S
            )
        except KafkaException as error:
            if error.args[0].code() not in _WITHOUT_LEADER or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return oldest, following
