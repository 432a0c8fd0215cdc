"""What leaves the producer: collected, written to the spool, sent to Kafka, each by itself.

::

    add ─▶ a group in memory ─▶ spool ─▶ Kafka's client ─▶ acknowledged
           (one every group_ms)    └─ read again when Kafka is far behind

Whoever adds never waits. What is on disk outlives this process.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

import structlog
from confluent_kafka import KafkaError, Message

from tapeline.model.errors import SpoolError
from tapeline.producer.disk_thread import DiskThread
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.spool import Spool
from tapeline.producer.spool_file import Group, SpooledMessage
from tapeline.producer.unsent_times import NO_TIME
from tapeline.producer.written_groups import WrittenGroups
from tapeline.program.settings import SpoolSettings

log = structlog.get_logger()

_MOST_UNWRITTEN: Final = 500_000
"""Messages that may wait for a disk that does not answer."""
_ROOM_WAIT_S: Final = 0.01
_ACKNOWLEDGED_POLL_S: Final = 0.02
_SENT_AT_ONCE: Final = 500
_SYNC_AFTER_S: Final = 1.0
_FILL_TO_BEGIN: Final = 0.5
"""How full a spool may be for more to come from the feed after a start."""


class _Sent:
    """A group that Kafka's client has, and how many of its messages are not acknowledged."""

    __slots__ = ("_outbox", "is_whole", "number", "receipt_us", "remaining")

    def __init__(self, outbox: Outbox, group: Group) -> None:
        self._outbox = outbox
        self.number = group.number
        self.receipt_us = group.receipt_us
        self.remaining = len(group.messages)
        self.is_whole = False

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Note what has become of one message."""
        self._outbox.producer.note(error, message)
        if error is None:
            self.remaining -= 1
            self._outbox.pending -= 1


class Outbox:
    """Brings messages to Kafka in their order, at least once, by way of a spool.

    Delivery: what the spool has is sent until Kafka has it, by this process or the next. A crash
    loses what was added since the last group, which is `group_ms` old at most.
    """

    def __init__(self, producer: KafkaProducer, spool: Spool, settings: SpoolSettings) -> None:
        self.producer = producer
        """Kafka's client."""
        self._spool = spool
        self._group_s = settings.group_ms / 1000
        self._disk = DiskThread()
        self._open: list[SpooledMessage] = []
        self._open_since_us = NO_TIME
        self.last_receipt_us: int | None = None
        """The newest receipt up to which everything was added, µs since the epoch."""
        self._has_more = asyncio.Event()
        self._is_closing = False
        self._writing: list[SpooledMessage] | None = None
        self._writing_since_us = NO_TIME
        self._written_times = spool.unsent_times
        self.groups = WrittenGroups(spool, self._disk, self._count_pending)
        """What is on disk and not handed on; tells what of it is damaged."""
        self._in_flight: deque[_Sent] = deque()
        self.pending = spool.unsent
        """Messages that Kafka has not acknowledged."""
        self.added = 0
        """Messages that were added."""
        self.written = 0
        """Those of them that are on disk, the first ones."""
        self._last_group = 0
        self.acknowledged_us: int | None = None
        """The newest receipt up to which Kafka has everything, µs since the epoch."""

    def add(
        self, topic: str, key: bytes, value: bytes, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Take one message; return at once.

        Raises:
            SpoolError: the disk does not answer.
        """
        self._open.append(SpooledMessage(topic, key, value, headers))
        self.pending += 1
        self.added += 1
        self._has_more.set()
        if len(self._open) > _MOST_UNWRITTEN:
            raise self._disk_is_silent()

    def dated(self, oldest_us: int) -> None:
        """Note a time that nothing is older than of what is added in this step, µs since 1970."""
        self._open_since_us = min(self._open_since_us, oldest_us)

    @property
    def oldest_unsent_us(self) -> int | None:
        """A time that nothing is older than of what Kafka lacks, µs since 1970; None for none."""
        found = min(self._open_since_us, self._writing_since_us, self._written_times.oldest_us)
        return None if found == NO_TIME else found

    def on_message(self, receipt_us: int) -> None:
        """Note that everything received until then has been added."""
        self.last_receipt_us = receipt_us
        self._has_more.set()

    async def write(self) -> None:
        """Write a group when there is something, one every `group_ms` at most, until closed.

        Raises:
            SpoolError: the spool or the disk is full, or the disk fails.
        """
        while not self._is_closing or self._open:
            await self._has_more.wait()
            self._has_more.clear()
            started_s = time.monotonic()
            await self._write_group()
            left_s = self._group_s - (time.monotonic() - started_s)
            if left_s > 0:
                await asyncio.sleep(left_s)

    async def send(self) -> None:
        """Hand group after group to Kafka's client, waiting while it has no room.

        Raises:
            DeliveryError: Kafka refuses a message for good.
            SpoolError: the disk fails, or what it has of a tape is damaged.
        """
        while True:
            await self._hand_over(await self.groups.next())

    async def look_after(self) -> None:
        """Handle acknowledgements, and sync what has waited for Kafka longer than a second.

        Raises:
            DeliveryError: Kafka refuses a message for good.
            SpoolError: the disk fails.
        """
        self._serve()
        await self._disk.do(lambda: self._spool.sync(_SYNC_AFTER_S))

    async def wait_for_room(self, most_pending: int | None = None) -> None:
        """Wait until the spool may take more: at the start, or for a source that can wait."""
        while self._spool.fill > _FILL_TO_BEGIN or (
            most_pending is not None and self.pending > most_pending
        ):
            self._serve()
            await asyncio.sleep(_ROOM_WAIT_S)

    async def acknowledged(self) -> None:
        """Wait until Kafka has everything.

        Raises:
            DeliveryError: Kafka refuses a message for good.
        """
        while True:
            self._serve()
            is_written = not self._open and self._writing is None
            if is_written and self.groups.are_handed_on and not self._in_flight:
                return
            await asyncio.sleep(_ACKNOWLEDGED_POLL_S)

    async def delivered(self) -> None:
        """Wait until Kafka has everything that was added so far.

        Raises:
            DeliveryError: Kafka refuses a message for good.
        """
        added, last_group = self.added, None
        while last_group is None or self._spool.acknowledged < last_group:
            if last_group is None and self.written >= added:
                last_group = self._last_group
            self._serve()
            await asyncio.sleep(_ACKNOWLEDGED_POLL_S)

    def close_input(self) -> None:
        """Let `write` end after what is open."""
        self._is_closing = True
        self._has_more.set()

    async def close(self, within_s: float) -> None:
        """Bring the spool to the disk and let go of it; nothing else may be running.

        Args:
            within_s: how long the disk may take.

        Raises:
            SpoolError: something that was added is not on the disk, or the disk fails.
        """
        # Not `wait_for`: before Python 3.12 it forgets a cancellation that meets the result.
        letting_go = asyncio.create_task(self._disk.do(self._let_go))
        try:
            await asyncio.wait([letting_go], timeout=within_s)
            if not letting_go.done():
                raise self._disk_is_silent()
            letting_go.result()
        finally:
            letting_go.cancel()
            self._disk.end()
        if self._open:
            raise self._disk_is_silent()

    def _let_go(self) -> None:
        try:
            self._spool.sync(0.0)
        finally:
            self._spool.close()

    def _disk_is_silent(self) -> SpoolError:
        unwritten = len(self._open) + len(self._writing or ())
        log.error("spool_disk_hangs", unwritten=unwritten)
        text = "The spool's disk does not answer. Mend it and start again."
        return SpoolError(text)

    async def _write_group(self) -> None:
        messages, self._open = self._open, []
        oldest_us, self._open_since_us = self._open_since_us, NO_TIME
        receipt_us = self.last_receipt_us
        self._writing, self._writing_since_us = messages, oldest_us
        group = await self._disk.do(lambda: self._spool.append(messages, receipt_us, oldest_us))
        self.written += len(messages)
        self._last_group = group.number
        self._written_times.add(group.number, oldest_us)
        self._writing, self._writing_since_us = None, NO_TIME
        self.groups.add(group)

    def _count_pending(self) -> None:
        """Count again, now that all that is written is handed on: damaged groups still counted."""
        unsent = len(self._open) + len(self._writing or ())
        self.pending = unsent + sum(sent.remaining for sent in self._in_flight)

    async def _hand_over(self, group: Group) -> None:
        sent = _Sent(self, group)
        self._in_flight.append(sent)
        hand_over, delivered = self.producer.try_send, sent.delivered
        for count, message in enumerate(group.messages, start=1):
            while not hand_over(message, delivered):
                self._serve()
                await asyncio.sleep(_ROOM_WAIT_S)
            if count % _SENT_AT_ONCE == 0:
                self._serve()
                await asyncio.sleep(0)
        sent.is_whole = True
        self.groups.handed_on(group)
        self._serve()

    def _serve(self) -> None:
        self.producer.serve()
        while self._in_flight and self._in_flight[0].is_whole and not self._in_flight[0].remaining:
            done = self._in_flight.popleft()
            self._spool.acknowledged = done.number
            self._written_times.acknowledged(done.number)
            self.acknowledged_us = done.receipt_us or self.acknowledged_us
