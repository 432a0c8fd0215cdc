"""A topic's messages from Kafka, without a group's commits: from its end on, and from before."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tapeline.kafka.client import IN_THE_CLEAR, client_options
from tapeline.kafka.offsets import offsets_of
from tapeline.kafka.topics import partitions_of
from tapeline.program.service_settings import KafkaSettings

_TIMEOUT_S: Final = 10.0
_ASK_S: Final = 0.5
_MESSAGES: Final = 2_000
_STEP_S: Final = 0.01
_DOWN: Final = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT})  # noqa: SLF001
"""The broker is away: what was read holds, and reading goes on when it is back."""

Ranges = dict[int, tuple[int, int]]
"""By partition: the first offset, and the one after the last."""


class TopicLog:
    """All partitions of a topic, from the end that they have now on.

    Args:
        bootstrap_servers: of Kafka.
        topic: an existing one.
        access: how to get into Kafka.

    Raises:
        KafkaException: Kafka does not answer.
        SchemaError: there is no such topic.
    """

    def __init__(
        self, bootstrap_servers: str, topic: str, access: KafkaSettings = IN_THE_CLEAR
    ) -> None:
        self.topic = topic
        self._servers = bootstrap_servers
        self._access = access
        self._consumer = self._make_consumer()
        self._earlier: Consumer | None = None
        self._is_down = False
        metadata = self._consumer.list_topics(topic, timeout=_TIMEOUT_S)
        partitions = partitions_of(metadata, topic)
        self.positions = {p: offsets_of(self._consumer, topic, p)[1] for p in partitions}
        """The offset that is read next, by partition."""
        self._consumer.assign([TopicPartition(topic, p, at) for p, at in self.positions.items()])
        self._at_end_s = time.monotonic()

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()
        if self._earlier is not None:
            self._earlier.close()

    def read(self, wait_s: float) -> list[Message]:
        """Return what has come, waiting for the first message only.

        Raises:
            KafkaException: reading cannot go on where it was.
        """
        # A wait for many messages would last to its end, however few are there.
        first = self._consumer.poll(wait_s)
        messages = [] if first is None else [first, *self._consumer.consume(_MESSAGES, 0)]
        good = [message for message in messages if _is_good(message)]
        for message in good:
            self.positions[_partition(message)] = _offset(message) + 1
        if good:
            self._is_down = False
        if all(at >= self._known_end(p) for p, at in self.positions.items()):
            self._at_end_s = time.monotonic()
        return good

    @property
    def behind_s(self) -> float:
        """For how long there have been messages that are not read yet."""
        return time.monotonic() - self._at_end_s

    def is_down(self) -> bool:
        """Return whether the broker was lost; asks it again, for half a second at most."""
        if self._is_down:
            try:
                partition = next(iter(self.positions))
                where = TopicPartition(self.topic, partition)
                self._consumer.get_watermark_offsets(where, timeout=_ASK_S)
            except KafkaException:
                return True
            self._is_down = False
        return False

    def since(self, start_ms: int) -> Earlier:
        """Return what the broker has received from `start_ms` on, up to where reading is now.

        Raises:
            KafkaException: Kafka does not answer.
        """
        if self._earlier is None:
            self._earlier = self._make_consumer({"enable.partition.eof": True})
        wanted = [TopicPartition(self.topic, p, start_ms) for p in self.positions]
        ranges, cut = {}, set()
        for found in self._earlier.offsets_for_times(wanted, _TIMEOUT_S):
            end = self.positions[found.partition]
            start = min(found.offset, end) if found.offset >= 0 else end
            oldest = offsets_of(self._earlier, self.topic, found.partition)[0]
            if 0 < oldest >= start:
                cut.add(found.partition)
                start = oldest
            ranges[found.partition] = start, end
        return Earlier(self._earlier, self.topic, ranges, frozenset(cut))

    def _known_end(self, partition: int) -> int:
        """Return the end as of the last answer to a read; asks nothing of the network."""
        where = TopicPartition(self.topic, partition)
        end: int = self._consumer.get_watermark_offsets(where, cached=True)[1]
        return end

    def _make_consumer(self, more: Mapping[str, bool] | None = None) -> Consumer:
        return Consumer(
            {
                **(more or {}),
                **client_options(self._servers, self._access),
                "group.id": f"tapeline-live-{self.topic}",
                "enable.auto.commit": False,
                # A place that is gone is an error: the topic is another one, or we were too slow.
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 16_384,
                "fetch.queue.backoff.ms": 20,
                "reconnect.backoff.max.ms": 1_000,
                "error_cb": self._on_error,
                "log_level": 0,
            }
        )

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _DOWN:
            self._is_down = True


class Earlier:
    """Messages of before, read step by step beside the newest.

    Args:
        consumer: to read with.
        topic: to read.
        ranges: offsets by partition.
        cut: partitions whose messages before the range have been deleted.
    """

    def __init__(self, consumer: Consumer, topic: str, ranges: Ranges, cut: frozenset[int]) -> None:
        self._consumer = consumer
        self._left = {p: end for p, (start, end) in ranges.items() if start < end}
        self._cut = set(cut)
        self.oldest_ms: int | None = None
        """When the broker received the first message after those that have been deleted."""
        if cut - self._left.keys():
            self.oldest_ms = int(time.time() * 1000)  # nothing is left that could say
        where = [TopicPartition(topic, p, ranges[p][0]) for p in self._left]
        consumer.assign(where)

    @property
    def is_done(self) -> bool:
        """Whether all has been read."""
        return not self._left

    def read(self) -> list[Message]:
        """Return some more, if there is some.

        Raises:
            KafkaException: reading cannot go on.
        """
        found = []
        for message in self._consumer.consume(_MESSAGES, _STEP_S):
            partition = _partition(message)
            if partition not in self._left:
                continue
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                del self._left[partition]
            elif _is_good(message):
                if partition in self._cut:
                    self._cut.discard(partition)
                    self.oldest_ms = max(self.oldest_ms or 0, message.timestamp()[1])
                if _offset(message) < self._left[partition]:
                    found.append(message)
                if _offset(message) >= self._left[partition] - 1:
                    del self._left[partition]
        if self.is_done:
            self._consumer.unassign()
        return found


def _is_good(message: Message) -> bool:
    """Tell a message from a notice of Kafka's.

    Raises:
        KafkaException: the notice says that reading cannot go on.
    """
    error = message.error()
    if error is None:
        return True
    if not error.retriable() and error.code() not in _DOWN:
        raise KafkaException(error)
    return False


def _partition(message: Message) -> int:
    partition = message.partition()
    return -1 if partition is None else partition


def _offset(message: Message) -> int:
    offset = message.offset()
    return -1 if offset is None else offset
