"""The orchestrator: feed → frames → messages → spool → Kafka, and an orderly end.

Each step is a task of its own, so that reading the socket waits for nothing behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from typing import Final

import structlog

from tapeline.model.errors import TapelineError
from tapeline.model.feed_status import FeedStatus
from tapeline.model.gap import Gap, GapKind
from tapeline.model.reasons import LATEST_AHEAD_MS, Reason
from tapeline.producer.attention import TICK_S, Attention
from tapeline.producer.clock import ClockCheck, ClockWarning, FeedClock
from tapeline.producer.finnhub_client import FinnhubClient, Frame
from tapeline.producer.gap_reporter import GapReporter
from tapeline.producer.intake import Intake, read_frame
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.left_spools import LeftSpools
from tapeline.producer.outbox import Outbox
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.spool import Hole, Spool
from tapeline.producer.spool_folder import LeftSpool
from tapeline.producer.validation import TradeFrame
from tapeline.program.metrics import (
    CLOCK_OFFSET,
    CLOCK_WRONG,
    CONNECTED,
    DEAD_LETTERS,
    FRAMES,
    NEWEST_RECEIPT,
    PENDING,
    PRODUCER_METRICS,
    REDELIVERED,
    SPOOL_BYTES,
    SPOOL_HOLES,
    SUSPECT_DUPLICATES,
    TRADES,
    Metrics,
)
from tapeline.program.settings import Settings
from tapeline.program.tasks import cancel, first_end

log = structlog.get_logger()

_STATUS_INTERVAL_S: Final = 1.0
_MICROS_PER_S: Final = 1_000_000
_ANY_TIME_MS: Final = 1 << 62
_TAPE_AHEAD: Final = 20_000
"""Messages of a tape that Kafka may lack while more is read; a tape can wait, a feed cannot."""
# With half a second for the socket, the sum is what a stop may take.
_WRITE_BEFORE_STOP_S: Final = 2.0
_SEND_BEFORE_STOP_S: Final = 4.0
_REPORT_BEFORE_STOP_S: Final = 1.0
_CLOSE_BEFORE_STOP_S: Final = 1.0


class ProducerPipeline:
    """Moves trades from one client to one topic until the tape ends or it is cancelled.

    Without `gaps` the feed is a tape, whose holes and times do not lie in the present, and which
    waits while Kafka does not keep up. `left` is what producers of other names have left to send.
    `speed` is the feed's, as `TradeIdentity` takes it.
    """

    def __init__(
        self,
        settings: Settings,
        client: FinnhubClient,
        producer: KafkaProducer,
        spool: Spool,
        *,
        source: str,
        topic_id: str,
        producer_id: str,
        left: Sequence[LeftSpool] = (),
        gaps: GapReporter | None = None,
        clock: FeedClock | None = None,
        metrics: Metrics | None = None,
        speed: float | None = 1.0,
    ) -> None:
        self._settings = settings
        self._client = client
        self._producer = producer
        self._spool = spool
        self._topic_id = topic_id
        self._producer_id = producer_id
        self._gaps = gaps
        self._clock = clock or FeedClock()
        self._check = ClockCheck(self._clock)
        self._warning = ClockWarning(self._clock)
        self._attention = Attention(self._clock.steady_s())
        self._outbox = Outbox(producer, spool, settings.spool)
        self._left = LeftSpools(producer, left, settings.spool)
        self.metrics = metrics = metrics or Metrics(PRODUCER_METRICS)
        """What went through since the start."""
        self._holes = metrics[SPOOL_HOLES]
        self._memory = FrameMemory(settings.finnhub.redelivery_memory_s, metrics)
        self._intake = Intake(
            settings,
            self._outbox,
            source=source,
            producer_id=producer_id,
            gaps=gaps,
            slots=client.slots,
            memory=self._memory,
            speed=speed,
            metrics=metrics,
            kept_up_us=self._kept_up_us,
        )
        self._end_of_tape = False
        client.stamp_us = self._clock.at_us
        if gaps is not None:
            client.on_loss = self._on_disconnect
            self._outbox.on_hole = self._lost_on_disk
            gaps.send = self._send_gap
            gaps.now_us = self._clock.now_us
        metrics[CONNECTED].set_function(lambda: self._client.connected)
        metrics[PENDING].set_function(lambda: self._pending)
        metrics[NEWEST_RECEIPT].set_function(self._newest_receipt_s)
        metrics[SPOOL_BYTES].set_function(lambda: self._spool.size)
        metrics[CLOCK_WRONG].set_function(lambda: self._warning.is_wrong)
        metrics[CLOCK_OFFSET].set_function(self._host_ahead_s)

    async def run(self) -> None:
        """Run until the tape ends or the task is cancelled; then send, for a while, what is left.

        Raises:
            FeedError: the feed refuses us for good.
            DeliveryError: Kafka refuses a message.
            SpoolError: the spool or its disk is full, or the disk fails or does not answer.
        """
        if self._gaps is not None:
            # Before the first status, which must not outrun what it leaves out.
            self._holes.inc(len(self._spool.holes))
            self._gaps.started(self._spool.holes)
            self._left.tell(self._lost_by_another)
        writing = asyncio.create_task(self._outbox.write())
        sending = asyncio.create_task(self._send_all())
        looking = asyncio.create_task(self._look_after_all())
        reading = asyncio.create_task(self._read_all())
        background = [writing, sending, looking]
        try:
            await first_end(reading, background)
            await first_end(asyncio.create_task(self._acknowledged()), background)
            self._end_of_tape = True
        finally:
            await cancel(reading, looking)
            with contextlib.suppress(TapelineError):  # it is raised already, or kept on disk
                await self._stop(writing, sending)
            await cancel(writing, sending)
            closing = asyncio.create_task(self._left.close())
            try:
                await self._outbox.close(_CLOSE_BEFORE_STOP_S)
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
        ticking = asyncio.create_task(self._tick())
        attention, now_s = self._attention, self._clock.steady_s
        try:
            attention.waits(now_s())
            async for frame in self._client.frames():
                attention.reads(frame.monotonic_s)
                if self._gaps is None:
                    received_ms = frame.received_at_us // 1000
                    self._intake.take(frame, read_frame(frame, received_ms))
                    await self._outbox.wait_for_room(_TAPE_AHEAD)
                else:
                    self._take(frame)
                attention.waits(now_s())
        finally:
            self._take_all(self._check.release())
            ticking.cancel()

    def _take(self, frame: Frame) -> None:
        """Take a frame of the present, unless it shall wait until the clock is known."""
        message = read_frame(frame, _ANY_TIME_MS)
        newest_ms = None
        if isinstance(message, TradeFrame) and message.trades:
            newest_ms = max(trade.event_time_ms for trade in message.trades)
        ready = self._check.admit(frame, newest_ms)
        if ready and ready[-1] is frame:
            latest_ms = frame.received_at_us // 1000 + LATEST_AHEAD_MS
            if newest_ms is None or newest_ms <= latest_ms:
                self._take_all(ready[:-1])
                self._intake.take(frame, message)
                return
        self._take_all(ready)

    def _take_all(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self._intake.take(frame, read_frame(frame, frame.received_at_us // 1000))

    async def _tick(self) -> None:
        while True:
            self._attention.tick(self._clock.steady_s())
            await asyncio.sleep(TICK_S)

    async def _look_after_all(self) -> None:
        while True:
            if self._gaps is not None:
                self._take_all(self._check.expire())
                self._warning.check()
                self._gaps.check()
            await self._client.ask_again()
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

    def _on_disconnect(self, kind: GapKind) -> None:
        assert self._gaps is not None  # noqa: S101 - for the type checker
        self._intake.lost_connection = self._client.connection
        self._gaps.on_disconnect(kind, self._kept_up_us())

    def _kept_up_us(self) -> int | None:
        """Return when messages were last read as soon as they came; None if they are now."""
        behind_s = self._attention.last_kept_up_s(self._clock.steady_s())
        return None if behind_s is None else self._clock.at_us(behind_s)

    def _lost_on_disk(self, hole: Hole) -> None:
        assert self._gaps is not None  # noqa: S101 - for the type checker
        self._holes.inc()
        self._gaps.damaged(hole)

    def _lost_by_another(self, producer_id: str, hole: Hole) -> None:
        assert self._gaps is not None  # noqa: S101 - for the type checker
        self._holes.inc()
        self._gaps.damaged_of(producer_id, hole)

    def _send_gap(self, gap: Gap) -> None:
        if gap.kind.marks_bars:
            self._outbox.dated(gap.started_us)
        self._outbox.add(self._settings.kafka.gaps_topic, gap.key.encode(), gap.to_bytes())

    def _send_status(self, *, has_stopped: bool = False) -> None:
        gaps, intake = self._gaps, self._intake
        status = FeedStatus(
            producer_id=self._producer_id,
            topic=self._settings.kafka.topic,
            topic_id=self._topic_id,
            connected=self._client.connected,
            pending=self._pending,
            last_offsets=dict(self._producer.last_offsets),
            newest_receipt_us=intake.newest_receipt_us,
            symbols=self._client.symbols,
            without_slot=dict(self._client.slots.spans),
            is_live=gaps is not None,
            started_us=gaps.started_us if gaps else None,
            last_message_us=self._acknowledged_until_us(),
            end_of_tape=self._end_of_tape,
            frames=self.metrics.total(FRAMES),
            trades=self.metrics.total(TRADES, outcome="accepted"),
            dead_letters=self.metrics.total(DEAD_LETTERS),
            clock_offset_s=self._clock.host_ahead_s() if gaps else None,
            oldest_unsent_us=self._oldest_unsent_us(),
            has_stopped=has_stopped,
            made_us=self._clock.now_us(),
        )
        self._producer.send_latest(
            self._settings.kafka.status_topic, status.key.encode(), status.to_bytes()
        )

    def _acknowledged_until_us(self) -> int | None:
        """Return the last receipt before which Kafka has everything, of this life or an earlier."""
        if self._gaps is None:
            return None
        known = (self._outbox.acknowledged_us, self._gaps.earlier_us)
        return max((us for us in known if us is not None), default=None)

    def _oldest_unsent_us(self) -> int | None:
        known = (self._outbox.oldest_unsent_us, self._left.oldest_unsent_us)
        return min((us for us in known if us is not None), default=None)

    def _newest_receipt_s(self) -> float:
        received_us = self._intake.newest_receipt_us
        return math.nan if received_us is None else received_us / _MICROS_PER_S

    def _host_ahead_s(self) -> float:
        ahead_s = self._clock.host_ahead_s()
        return math.nan if ahead_s is None or self._gaps is None else ahead_s

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
