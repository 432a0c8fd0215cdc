"""The orchestrator: feed → frames → messages → spool → Kafka, and an orderly end.

Each step is a task of its own, so that reading the socket waits for nothing behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Final

import structlog

from tapeline.model.errors import TapelineError
from tapeline.model.feed_status import FeedStatus
from tapeline.model.reasons import Reason
from tapeline.producer.clock import FeedClock
from tapeline.producer.feed_address import history_url_of
from tapeline.producer.feed_client import FeedClient
from tapeline.producer.gap_reporter import GapReporter
from tapeline.producer.history import HistoryClient
from tapeline.producer.intake import Intake, read_frame
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.left_spools import LeftSpools
from tapeline.producer.live_feed import LiveFeed
from tapeline.producer.origin import Origin
from tapeline.producer.outbox import Outbox
from tapeline.producer.spool_folder import Spools
from tapeline.producer.symbol_control import SymbolControl
from tapeline.program.metrics import (
    CLOCK_WRONG,
    CONNECTED,
    DEAD_LETTERS,
    FRAMES,
    NEWEST_RECEIPT,
    PENDING,
    PRODUCER_METRICS,
    REDELIVERED,
    SPOOL_BYTES,
    SPOOL_LIMIT,
    SUSPECT_DUPLICATES,
    TRADES,
    Metrics,
)
from tapeline.program.settings import Settings
from tapeline.program.tasks import cancel, first_end

log = structlog.get_logger()

_STATUS_INTERVAL_S: Final = 1.0
_MICROS_PER_S: Final = 1_000_000
_TAPE_AHEAD: Final = 20_000
"""Messages of a tape that Kafka may lack while more is read; a tape can wait, a feed cannot."""
# With half a second for the socket, the sum is what a stop may take.
_WRITE_BEFORE_STOP_S: Final = 2.0
_SEND_BEFORE_STOP_S: Final = 4.0
_REPORT_BEFORE_STOP_S: Final = 1.0
_CLOSE_BEFORE_STOP_S: Final = 1.0


class ProducerPipeline:
    """Moves trades from one client to one topic until the tape ends or it is cancelled.

    Args:
        settings: topics, spool and time-outs.
        origin: names the producer and what it reads.
        client: the feed's.
        producer: Kafka's client.
        spools: its own, and what producers of other names have left to send.
        gaps: reports what is missed; without it the feed is a tape, which waits while Kafka does
            not keep up.
        metrics: where everything is counted.
    """

    def __init__(
        self,
        settings: Settings,
        origin: Origin,
        client: FeedClient,
        producer: KafkaProducer,
        spools: Spools,
        gaps: GapReporter | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._kafka = settings.kafka
        self._origin = origin
        self._client = client
        self._producer = producer
        self._spool = spools.own
        self._outbox = Outbox(producer, spools.own, settings.spool)
        self._left = LeftSpools(producer, spools.left, settings.spool)
        self.metrics = metrics = metrics or Metrics(PRODUCER_METRICS)
        """What went through since the start."""
        self._intake = Intake(settings, origin, client, self._outbox, metrics)
        self._clock = gaps.clock if gaps else FeedClock()
        client.stamp_us = self._clock.at_us
        self._end_of_tape = False
        metrics[CONNECTED].set_function(lambda: self._client.connected)
        metrics[PENDING].set_function(lambda: self._pending)
        metrics[NEWEST_RECEIPT].set_function(self._newest_receipt_s)
        metrics[SPOOL_BYTES].set_function(lambda: self._spool.size)
        metrics[SPOOL_LIMIT].set(self._spool.max_bytes)
        metrics[CLOCK_WRONG].set(0)
        self._live: LiveFeed | None = None
        if gaps is not None:
            url = history_url_of(client.feed, settings)
            history = HistoryClient(client.feed, url) if url else None
            self._live = LiveFeed(
                client, gaps, self._intake, self._outbox, metrics, history, spools.numbers
            )

    async def run(self, control: SymbolControl | None = None) -> None:
        """Run until the tape ends or the task is cancelled; then send, for a while, what is left.

        Args:
            control: what users change of the symbols of a live feed.

        Raises:
            FeedError: the feed refuses us for good.
            DeliveryError: Kafka refuses a message.
            SpoolError: the spool or its disk is full, or the disk fails or does not answer.
        """
        if self._live is not None:
            # Before the first status, which must not outrun what it leaves out.
            self._live.start(self._spool.holes, self._left)
        writing = asyncio.create_task(self._outbox.write())
        sending = asyncio.create_task(self._send_all())
        looking = asyncio.create_task(self._look_after_all())
        reading = asyncio.create_task(self._read_all())
        beside = [looking]
        if self._live is not None:
            beside.append(asyncio.create_task(self._live.heal()))
            if control is not None:
                following = control.follow(self._client, self._live.change)
                beside.append(asyncio.create_task(following))
        background = [writing, sending, *beside]
        try:
            await first_end(reading, background)
            await first_end(asyncio.create_task(self._acknowledged()), background)
            self._end_of_tape = True
        finally:
            await cancel(reading, *beside)
            with contextlib.suppress(TapelineError):  # it is raised already, or kept on disk
                await self._stop(writing, sending)
            await cancel(writing, sending)
            closing = asyncio.create_task(self._left.close())
            try:
                await self._outbox.close(_CLOSE_BEFORE_STOP_S)
                if self._live is not None:
                    self._live.keep_last_numbers()
            finally:
                await closing
                log.info("producer_stopped", **self._summary())
                if not writing.cancelled():
                    writing.result()  # what was open at the end may have found the disk full

    @property
    def _pending(self) -> int:
        return self._outbox.pending + self._left.pending

    async def _send_all(self) -> None:
        await self._left.send()
        await self._outbox.send()

    async def _acknowledged(self) -> None:
        """Wait until Kafka has everything, what others have left too."""
        await self._left.all_sent.wait()
        await self._outbox.acknowledged()

    async def _read_all(self) -> None:
        await self._outbox.wait_for_room()
        if self._live is not None:
            await self._live.read()
            return
        async for frame in self._client.frames():
            self._intake.take(frame, read_frame(frame, frame.received_at_us // 1000))
            await self._outbox.wait_for_room(_TAPE_AHEAD)

    async def _look_after_all(self) -> None:
        while True:
            if self._live is not None:
                self._live.look_after()
                self._live.keep_numbers()
            await self._client.look_after()
            self._send_status()
            await self._left.look_after()
            await self._outbox.look_after()
            await asyncio.sleep(_STATUS_INTERVAL_S)

    async def _stop(self, writing: asyncio.Task[None], sending: asyncio.Task[None]) -> None:
        """Write what is open, send what Kafka takes within seconds, and say how far we are."""
        self._outbox.close_input()
        await asyncio.wait([writing], timeout=_WRITE_BEFORE_STOP_S)
        with contextlib.suppress(TapelineError):
            done = asyncio.create_task(self._acknowledged())
            if not sending.done():
                await asyncio.wait(
                    [done, sending],
                    timeout=_SEND_BEFORE_STOP_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            await cancel(done)
        if self._pending:
            log.warning("spool_keeps_messages", messages=self._pending)
        # The one before it must have gone, and the rest: it tells what is acknowledged.
        await self._producer.flush_within(_REPORT_BEFORE_STOP_S / 2)
        self._send_status(has_stopped=True)
        await self._producer.flush_within(_REPORT_BEFORE_STOP_S / 2)

    def _send_status(self, *, has_stopped: bool = False) -> None:
        live, slots, counted = self._live, self._client.slots, self.metrics.total
        status = FeedStatus(
            producer_id=self._origin.producer_id,
            topic=self._kafka.topic,
            topic_id=self._origin.topic_id,
            connected=self._client.connected,
            pending=self._pending,
            last_offsets=dict(self._producer.last_offsets),
            newest_receipt_us=self._intake.newest_receipt_us,
            symbols=(*self._client.symbols, *slots.removed),
            removed=slots.removed,
            without_slot=slots.spans,
            is_live=live is not None,
            started_us=live.gaps.watch.started_us if live else None,
            last_message_us=self._acknowledged_until_us(),
            late_us=live.gaps.watch.late_us if live else 0,
            end_of_tape=self._end_of_tape,
            frames=counted(FRAMES),
            trades=counted(TRADES, outcome="accepted"),
            dead_letters=counted(DEAD_LETTERS),
            clock_offset_s=self._clock.host_ahead_s() if live else None,
            oldest_unsent_us=self._oldest_unsent_us(),
            has_stopped=has_stopped,
            source=self._origin.source,
            made_us=self._clock.now_us(),
        )
        self._producer.send_latest(self._kafka.status_topic, status.key.encode(), status.to_bytes())

    def _acknowledged_until_us(self) -> int | None:
        """Return the last receipt before which Kafka has everything, of this life or an earlier."""
        if self._live is None:
            return None
        known = (self._outbox.acknowledged_us, self._live.gaps.earlier_us)
        return max((us for us in known if us is not None), default=None)

    def _oldest_unsent_us(self) -> int | None:
        known = (self._outbox.oldest_unsent_us, self._left.oldest_unsent_us)
        return min((us for us in known if us is not None), default=None)

    def _newest_receipt_s(self) -> float:
        received_us = self._intake.newest_receipt_us
        return math.nan if received_us is None else received_us / _MICROS_PER_S

    def _summary(self) -> dict[str, object]:
        counted = self.metrics.total
        letters = {reason.value: counted(DEAD_LETTERS, reason=reason.value) for reason in Reason}
        return {
            "frames": counted(FRAMES),
            "trades": counted(TRADES, outcome="accepted"),
            "acknowledged": self._producer.acknowledged,
            "pending": self._pending,
            "suspect_duplicates": counted(SUSPECT_DUPLICATES),
            "redelivered": counted(REDELIVERED),
            "dead_letters": {reason: number for reason, number in letters.items() if number},
        }
