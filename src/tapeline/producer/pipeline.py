"""The orchestrator: feed → frames → identities → Kafka, and an orderly end."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
import structlog

from tapeline.metrics import (
    CONNECTED,
    DEAD_LETTERS,
    FRAMES,
    NEWEST_RECEIPT,
    PENDING,
    PRODUCER_METRICS,
    TRADES,
    UNKNOWN_CONDITIONS,
    Metrics,
)
from tapeline.producer.feed_status import FeedStatus
from tapeline.producer.finnhub_client import FinnhubClient, Frame
from tapeline.producer.gap_reporter import GapReporter
from tapeline.producer.identity import TradeIdentity
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.unknown_conditions import UnknownConditions
from tapeline.producer.validation import (
    FeedMessage,
    Ping,
    Reason,
    Reject,
    TradeFrame,
    parse_frame,
)
from tapeline.settings import Settings
from tapeline.trade import encode_trade

log = structlog.get_logger()

_STATUS_INTERVAL_S: Final = 1.0
_MICROS_PER_S: Final = 1_000_000


@dataclass(slots=True)
class PipelineCounts:
    """What went through since the start."""

    frames: int = 0
    trades: int = 0
    rejects: Counter[str] = field(default_factory=Counter)


class ProducerPipeline:
    """Moves trades from one client to one topic until the tape ends or it is cancelled.

    A frame with anything that is no trade goes to the dead-letter topic once: its bytes, the
    first reason in header `reason`, and in `rejects` a JSON list of [index in the frame or
    null for the whole frame, reason]. Without `gaps` the feed is a tape, whose holes do not
    lie in the present. `speed` is the feed's, as `TradeIdentity` takes it.
    """

    def __init__(
        self,
        settings: Settings,
        client: FinnhubClient,
        producer: KafkaProducer,
        *,
        source: str,
        topic_id: str,
        producer_id: str,
        gaps: GapReporter | None = None,
        metrics: Metrics | None = None,
        speed: float | None = 1.0,
    ) -> None:
        self._settings = settings
        self._client = client
        self._producer = producer
        self._source = source
        self._topic_id = topic_id
        self._producer_id = producer_id
        self._connection = -1
        self._speed = speed
        self._metrics = metrics or Metrics(PRODUCER_METRICS)
        self._memory = FrameMemory(settings.finnhub.redelivery_memory_s, self._metrics)
        self._identity = self._new_identity()
        self._newest_receipt_us: int | None = None
        self._end_of_tape = False
        self._gaps = gaps
        # Receipts whose trades are not all acknowledged yet: trades until then, time in µs.
        self._heard: deque[tuple[int, int]] = deque()
        self._acknowledged_us: int | None = None
        self.counts = PipelineCounts()
        self._unknown_conditions = UnknownConditions()
        # What each frame counts is looked up once.
        self._frames = self._metrics[FRAMES]
        self._accepted = self._metrics[TRADES].labels(outcome="accepted")
        self._metrics[CONNECTED].set_function(lambda: self._client.connected)
        self._metrics[PENDING].set_function(lambda: self._pending)
        self._metrics[NEWEST_RECEIPT].set_function(self._newest_receipt_s)

    async def run(self) -> None:
        """Run until the tape ends or the task is cancelled; flush in either case.

        Raises:
            FeedError: the feed refuses us for good.
            DeliveryError: Kafka refuses a message.
        """
        if self._gaps is not None:
            self._client.on_loss = self._gaps.lost
            self._gaps.started()
        status = asyncio.create_task(self._report_status())
        try:
            async for frame in self._client.frames():
                await self._handle(frame)
                if status.done():
                    status.result()
            self._end_of_tape = True
        finally:
            status.cancel()
            await asyncio.wait([status])
            if self._gaps is not None:
                await self._gaps.report()
            self._producer.flush()
            await self._send_status()  # after the flush: it tells what is acknowledged
            self._producer.flush()
            log.info("producer_stopped", **self._summary())

    async def _handle(self, frame: Frame) -> None:
        self.counts.frames += 1
        self._frames.inc()
        if frame.connection != self._connection:
            self._connection = frame.connection
            self._identity = self._new_identity()
        message = _read(frame)
        self._watch_for_gaps(frame, message)
        if isinstance(message, TradeFrame):
            await self._handle_trades(frame, message)
        elif isinstance(message, FeedMessage):
            log.warning("feed_error", message=message.text)
            self._client.slots.told(message.text)
        else:
            assert isinstance(message, Ping)  # noqa: S101 - for the type checker; no other kind
        self._producer.serve()

    def _watch_for_gaps(self, frame: Frame, message: TradeFrame | Ping | FeedMessage) -> None:
        if self._gaps is None or frame.is_too_large:
            return  # the connection is gone with such a frame, and that gap goes on
        trades = message.trades if isinstance(message, TradeFrame) else ()
        rejects = message.rejects if isinstance(message, TradeFrame) else ()
        if any(reject.index is None for reject in rejects):
            self._gaps.dropped(frame.received_at_us)
        symbols = {trade.symbol for trade in trades}
        self._heard.append((self.counts.trades + len(trades), frame.received_at_us))
        self._gaps.heard(frame.received_at_us, frame.monotonic_s, symbols)

    async def _handle_trades(self, frame: Frame, message: TradeFrame) -> None:
        if message.rejects:
            await self._send_dead_letter(frame, message.rejects)
        trades = self._identity.assign(
            message.trades, frame.received_at_us, frame.monotonic_s, frame.data
        )
        if trades:
            # Counted before they are sent: what waits for room in the queue is pending too.
            self.counts.trades += len(trades)
            self._newest_receipt_us = frame.received_at_us
            self._accepted.inc(len(trades))
            if unknown := self._unknown_conditions.count(message.trades):
                self._metrics[UNKNOWN_CONDITIONS].inc(unknown)
            await self._producer.send_all((t.symbol, encode_trade(t)) for t in trades)

    async def _send_dead_letter(self, frame: Frame, rejects: Sequence[Reject]) -> None:
        """Send the frame's bytes once, with what is wrong with which of its trades."""
        self.counts.rejects.update(reject.reason.value for reject in rejects)
        for reject in rejects:
            self._metrics[DEAD_LETTERS].labels(reason=reject.reason.value).inc()
            if reject.index is not None:
                self._metrics[TRADES].labels(outcome="rejected").inc()
        data = frame.data if isinstance(frame.data, bytes) else frame.data.encode()
        reasons = [(reject.index, reject.reason.value) for reject in rejects]
        headers = [
            ("reason", rejects[0].reason.value),
            ("rejects", orjson.dumps(reasons)),
            ("topic", self._settings.kafka.topic),
            ("source", self._source),
            ("received_at_us", str(frame.received_at_us)),
        ]
        await self._producer.send_to(
            self._settings.kafka.dead_letter_topic, self._producer_id, data, headers
        )

    async def _report_status(self) -> None:
        while True:
            if self._gaps is not None:
                await self._gaps.report()
            await self._client.ask_again()
            await self._send_status()
            self._producer.serve()
            await asyncio.sleep(_STATUS_INTERVAL_S)

    async def _send_status(self) -> None:
        gaps = self._gaps
        status = FeedStatus(
            producer_id=self._producer_id,
            topic=self._settings.kafka.topic,
            topic_id=self._topic_id,
            connected=self._client.connected,
            pending=self._pending,
            last_offsets=dict(self._producer.last_offsets),
            newest_receipt_us=self._newest_receipt_us,
            symbols=self._client.symbols,
            without_slot=dict(self._client.slots.spans),
            is_live=gaps is not None,
            started_us=gaps.started_us if gaps else None,
            last_message_us=self._acknowledged_until_us() if gaps else None,
            end_of_tape=self._end_of_tape,
            frames=self.counts.frames,
            trades=self.counts.trades,
            dead_letters=sum(self.counts.rejects.values()),
        )
        await self._producer.send_to(
            self._settings.kafka.status_topic, status.key, status.to_bytes()
        )

    def _acknowledged_until_us(self) -> int | None:
        """Return the last receipt before which nothing can be lost by a crash of ours."""
        while self._heard and self._heard[0][0] <= self._producer.acknowledged:
            self._acknowledged_us = self._heard.popleft()[1]
        return self._acknowledged_us

    @property
    def _pending(self) -> int:
        return self.counts.trades - self._producer.acknowledged

    def _newest_receipt_s(self) -> float:
        received_us = self._newest_receipt_us
        return math.nan if received_us is None else received_us / _MICROS_PER_S

    def _new_identity(self) -> TradeIdentity:
        within_s = self._settings.finnhub.same_millisecond_s
        return TradeIdentity(self._source, within_s, self._memory, self._speed)

    def _summary(self) -> dict[str, object]:
        return {
            "frames": self.counts.frames,
            "trades": self.counts.trades,
            "acknowledged": self._producer.acknowledged,
            "suspect_duplicates": self._memory.suspects,
            "redelivered": self._memory.redelivered,
            "dead_letters": dict(self.counts.rejects),
        }


def _read(frame: Frame) -> TradeFrame | Ping | FeedMessage:
    if frame.is_too_large:
        return TradeFrame((), (Reject(Reason.FRAME_TOO_LARGE),))
    return parse_frame(frame.data, frame.received_at_us // 1000)
