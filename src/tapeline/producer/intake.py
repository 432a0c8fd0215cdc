"""Turn frames into messages for Kafka: trades with their identity, dead letters, gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import orjson
import structlog

from tapeline.model.reasons import Reason
from tapeline.model.trade import encode_trade
from tapeline.producer.finnhub_client import Frame
from tapeline.producer.gap_reporter import GapReporter
from tapeline.producer.identity import TradeIdentity
from tapeline.producer.outbox import Outbox
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.symbol_slots import SymbolSlots
from tapeline.producer.unknown_conditions import UnknownConditions
from tapeline.producer.validation import FeedMessage, Ping, Reject, TradeFrame, parse_frame
from tapeline.program.metrics import DEAD_LETTERS, FRAMES, TRADES, UNKNOWN_CONDITIONS, Metrics
from tapeline.program.settings import Settings

log = structlog.get_logger()

_MOST_REJECTS: Final = 20_000
"""Named one by one in a dead letter, which with the largest frame must be one that Kafka takes."""

Parsed = TradeFrame | Ping | FeedMessage


def read_frame(frame: Frame, received_at_ms: int) -> Parsed:
    """Read a frame as if it had come at `received_at_ms`, ms since the epoch.

    One with a great many mistakes is refused as a whole.
    """
    if frame.is_too_large:
        return TradeFrame((), (Reject(Reason.FRAME_TOO_LARGE),))
    message = parse_frame(frame.data, received_at_ms)
    if isinstance(message, TradeFrame) and len(message.rejects) > _MOST_REJECTS:
        return TradeFrame((), (Reject(message.rejects[0].reason),))
    return message


class Intake:
    """Takes the frames of one client in their order and never waits.

    A frame with anything that is no trade goes to the dead-letter topic once: its bytes, the
    first reason in header `reason`, and in `rejects` a JSON list of [index in the frame or
    null for the whole frame, reason].

    Args:
        settings: topics, and how long trades of one millisecond are in order.
        outbox: where messages go.
        source: name that goes into each trade.
        producer_id: key of the dead letters.
        gaps: what tells the holes of a live feed; None for a tape.
        slots: which symbols the feed takes.
        memory: of the frames that came lately, on any connection.
        speed: the feed's, as `TradeIdentity` takes it.
        metrics: where things are counted.
    """

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        *,
        source: str,
        producer_id: str,
        gaps: GapReporter | None,
        slots: SymbolSlots,
        memory: FrameMemory,
        speed: float | None,
        metrics: Metrics,
        kept_up_us: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._topic = settings.kafka.topic
        self._source = source
        self._producer_id = producer_id
        self._gaps = gaps
        self._kept_up_us = kept_up_us
        self._slots = slots
        self._memory = memory
        self._speed = speed
        self._connection = -1
        self._identity = self._new_identity()
        self._unknown_conditions = UnknownConditions()
        self._keys: dict[str, bytes] = {}
        self._metrics = metrics
        # What each frame counts is looked up once.
        self._frames = metrics[FRAMES]
        self._accepted = metrics[TRADES].labels(outcome="accepted")
        self.lost_connection = -1
        """The newest connection that was lost; a frame of it that waited ends no gap."""
        self.newest_receipt_us: int | None = None
        """When the newest frame with an accepted trade came, µs since the epoch."""

    def take(self, frame: Frame, message: Parsed) -> None:
        """Take one frame and what was read in it."""
        self._frames.inc()
        if frame.connection != self._connection:
            self._connection = frame.connection
            self._identity = self._new_identity()
        if isinstance(message, TradeFrame):
            self._take_trades(frame, message)
        elif isinstance(message, FeedMessage):
            log.warning("feed_error", message=message.text)
            # A lost connection's refusals are not of what was asked since.
            if frame.connection > self.lost_connection:
                self._slots.told(message.text)
        self._watch_for_gaps(frame, message)

    def _watch_for_gaps(self, frame: Frame, message: Parsed) -> None:
        if self._gaps is None or frame.is_too_large:
            return  # the connection is gone with such a frame, and that gap goes on
        kept_up_us = self._kept_up_us()
        trades = message.trades if isinstance(message, TradeFrame) else ()
        rejects = message.rejects if isinstance(message, TradeFrame) else ()
        if any(reject.index is None for reject in rejects):
            self._gaps.dropped(frame.received_at_us, kept_up_us)
        symbols = {trade.symbol for trade in trades}
        if frame.connection > self.lost_connection:
            self._gaps.on_message(frame.received_at_us, frame.monotonic_s, symbols)
        # After its messages: whoever reads this on disk has those too. A frame that is read late
        # may have others behind it in the socket, which a stop would lose.
        received_us = frame.received_at_us
        self._outbox.on_message(received_us if kept_up_us is None else min(received_us, kept_up_us))

    def _take_trades(self, frame: Frame, message: TradeFrame) -> None:
        if message.rejects:
            self._add_dead_letter(frame, message.rejects)
        if not message.trades:
            return
        self.newest_receipt_us = frame.received_at_us
        self._accepted.inc(len(message.trades))
        if unknown := self._unknown_conditions.count(message.trades):
            self._metrics[UNKNOWN_CONDITIONS].inc(unknown)
        self._outbox.dated(min(trade.event_time_ms for trade in message.trades) * 1000)
        add, topic, keys = self._outbox.add, self._topic, self._keys
        for trade in self._identity.assign(
            message.trades, frame.received_at_us, frame.monotonic_s, frame.data
        ):
            key = keys.get(trade.symbol)
            if key is None:
                key = keys[trade.symbol] = trade.symbol.encode()
            add(topic, key, encode_trade(trade))

    def _add_dead_letter(self, frame: Frame, rejects: Sequence[Reject]) -> None:
        """Add the frame's bytes once, with what is wrong with which of its trades."""
        for reject in rejects:
            self._metrics[DEAD_LETTERS].labels(reason=reject.reason.value).inc()
            if reject.index is not None:
                self._metrics[TRADES].labels(outcome="rejected").inc()
        data = frame.data if isinstance(frame.data, bytes) else frame.data.encode()
        reasons = [(reject.index, reject.reason.value) for reject in rejects]
        headers = (
            ("reason", rejects[0].reason.value),
            ("rejects", orjson.dumps(reasons).decode()),
            ("topic", self._topic),
            ("source", self._source),
            ("received_at_us", str(frame.received_at_us)),
        )
        topic = self._settings.kafka.dead_letter_topic
        self._outbox.add(topic, self._producer_id.encode(), data, headers)

    def _new_identity(self) -> TradeIdentity:
        within_s = self._settings.finnhub.same_millisecond_s
        return TradeIdentity(self._source, within_s, self._memory, self._speed)
