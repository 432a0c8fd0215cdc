"""What Kafka knows about a topic: its ends, and what its producers report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tapeline.kafka.client import client_options
from tapeline.kafka.feed_reports import FeedReports, Report
from tapeline.kafka.listening import Listening
from tapeline.kafka.offsets import next_offsets, oldest_offsets
from tapeline.kafka.topics import partitions_of
from tapeline.model.coverage import ProducerView
from tapeline.model.errors import SchemaError
from tapeline.model.gap import Gap
from tapeline.model.times import to_millis
from tapeline.program.service_settings import KafkaSettings

_TIMEOUT_S: Final = 10.0
_READ_WAIT_S: Final = 0.5
_GONE_AFTER: Final = timedelta(seconds=30)
LOST_AFTER: Final = timedelta(minutes=10)
"""A producer that has not reported for so long is lost, unless Kafka was away meanwhile."""
_LISTENED: Final = timedelta(minutes=1)
"""Once Kafka is back, a producer reports within this time."""
_AT_END: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - the client's own codes
_SILENT: Final = KafkaError(KafkaError._TIMED_OUT, "Reports of producers cannot be read")  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class FeedSnapshot:
    """The topic at one instant.

    `end_offsets` holds each partition's next offset, `first_offsets` the oldest one that has
    not expired. `has_ended` tells whether every producer's tape has ended. `gaps` holds every gap
    that was ever reported, and is the same object while no more are; `producers` every producer.
    It `is_readable` unless the newest report under some key cannot be read, so that it is not
    known what its producer missed.
    """

    end_offsets: dict[int, int]
    has_ended: bool
    first_offsets: dict[int, int] = field(default_factory=dict)
    producers: tuple[ProducerView, ...] = ()
    gaps: tuple[Gap, ...] = ()
    is_readable: bool = True

    @property
    def is_pending(self) -> bool:
        """Whether a producer that is not lost still holds trades."""
        return any(p.status.pending > 0 and not p.is_lost for p in self.producers)


class FeedView:
    """Follows a topic's producers, gaps and ends, without a consumer group's commits.

    Raises:
        SchemaError: a topic is missing.
    """

    def __init__(self, bootstrap_servers: str, settings: KafkaSettings, topic_id: str) -> None:
        self._topic = settings.topic
        self._status_topic = settings.status_topic
        self._topic_id = topic_id
        self._reports = FeedReports(settings.topic, topic_id)
        self._listening = Listening()
        configuration = {
            **client_options(bootstrap_servers, settings),
            "group.id": f"tapeline-{topic_id}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
        self._consumer = Consumer({**configuration, "enable.partition.eof": True})
        # What is asked on the connection of one that reads waits for the read's answer.
        self._asker = Consumer(configuration)
        metadata = self._asker.list_topics(timeout=_TIMEOUT_S)
        self._partitions = partitions_of(metadata, self._topic)
        for name in (settings.status_topic, settings.gaps_topic):
            if name not in metadata.topics:
                message = f"There is no topic {name}: create it with `tapeline init`."
                raise SchemaError(message)
        self._next = {settings.status_topic: 0, settings.gaps_topic: 0}
        self._consumer.assign([TopicPartition(name, 0, 0) for name in self._next])

    def snapshot(self, now: datetime) -> FeedSnapshot:
        """Read what is new and return the present state.

        The statuses are read before the ends, so that every trade that a status calls
        acknowledged lies below them.

        Raises:
            KafkaException: there is no answer.
        """
        self._read_reports(now)
        own = self.snapshot_of(self._topic_id, self._topic, self._partitions, now)
        return replace(own, gaps=self._reports.gaps)

    def snapshot_of(
        self, topic_id: str, topic: str, partitions: Sequence[int], now: datetime
    ) -> FeedSnapshot:
        """Return the state of any topic, as far as reports were read, without its gaps."""
        producers = tuple(self._view(r, now) for r in self._reports.statuses_of(topic_id))
        is_readable = self._reports.is_readable_of(topic_id, topic)
        offsets = self._offsets(topic, partitions)
        return FeedSnapshot(
            {p: end for p, (_, end) in offsets.items()},
            first_offsets={p: first for p, (first, _) in offsets.items()},
            has_ended=is_readable
            and bool(producers)
            and all(p.status.end_of_tape for p in producers),
            producers=producers,
            is_readable=is_readable,
        )

    def offsets(self) -> dict[int, tuple[int, int]]:
        """Return each partition's oldest and next offset."""
        return self._offsets(self._topic, self._partitions)

    def offsets_at(self, instant: datetime) -> dict[int, int]:
        """Return each partition's first offset that Kafka received at an instant or later."""
        ms = to_millis(instant)
        wanted = [TopicPartition(self._topic, p, ms) for p in self._partitions]
        ends = {p: end for p, (_, end) in self.offsets().items()}
        found = self._asker.offsets_for_times(wanted, _TIMEOUT_S)
        return {f.partition: f.offset if f.offset >= 0 else ends[f.partition] for f in found}

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()
        self._asker.close()

    def _offsets(self, topic: str, numbers: Sequence[int]) -> dict[int, tuple[int, int]]:
        partitions = [(topic, p) for p in numbers]
        oldest = oldest_offsets(self._asker, partitions)
        following = next_offsets(self._asker, partitions)
        return {key[1]: (oldest[key], following[key]) for key in partitions}

    def _view(self, report: Report, now: datetime) -> ProducerView:
        silent = now - report.at
        listened = self._listening.total - report.listened
        return ProducerView(
            report.status,
            is_gone=silent >= _GONE_AFTER,
            reported_at=min(report.at, now),
            is_lost=silent >= LOST_AFTER and listened >= _LISTENED,
        )

    def _read_reports(self, now: datetime) -> None:
        """Read to the ends that the topics have now: one that is not read may tell of a gap."""
        answered_at = self._listening.asks()
        asked = next_offsets(self._asker, [(name, 0) for name in self._next])
        self._listening.answered(answered_at, now)
        ends = {name: end for (name, _), end in asked.items()}
        deadline = time.monotonic() + _TIMEOUT_S
        while any(self._next[n] < ends[n] for n in ends):
            if time.monotonic() > deadline:
                raise KafkaException(_SILENT)
            message = self._consumer.poll(_READ_WAIT_S)
            topic, offset = (message.topic(), message.offset()) if message else (None, None)
            if message is None or topic is None or offset is None:
                continue
            error = message.error()
            if error is None:
                self._next[topic] = offset + 1
                self._remember(message)
            elif error.code() == _AT_END:  # what was last may have been withdrawn and removed
                self._next[topic] = offset
            else:
                continue
            deadline = time.monotonic() + _TIMEOUT_S

    def _remember(self, message: Message) -> None:
        key, value = bytes(message.key() or b""), bytes(message.value() or b"")
        if message.topic() == self._status_topic:
            at = datetime.fromtimestamp(message.timestamp()[1] / 1000, timezone.utc)
            self._reports.take_status(key, value, at, self._listening.total)
        else:
            self._reports.take_gap(key, value)
