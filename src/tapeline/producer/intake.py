"""Turn frames into messages for Kafka: trades with their identity, and dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson
import structlog

from tapeline.feeds.feed import Feed, FeedMessage, Ping
from tapeline.feeds.finnhub import FINNHUB
from tapeline.feeds.known import BACKFILL
from tapeline.model.reasons import Reason
from tapeline.model.trade import encode_trade
from tapeline.producer.feed_client import FeedClient, Frame
from tapeline.producer.identity import GivenIdentity, TradeIdentity
from tapeline.producer.origin import Origin
from tapeline.producer.outbox import Outbox
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.unknown_conditions import UnknownConditions
from tapeline.producer.validation import Reject, TradeFrame, WireTrade, parse_frame
from tapeline.program.metrics import (
    DEAD_LETTERS,
    FRAMES,
    HEALED,
    TRADES,
    UNKNOWN_CONDITIONS,
    Metrics,
)
from tapeline.program.settings import Settings

log = structlog.get_logger()

_MOST_REJECTS: Final = 20_000
"""Named one by one in a dead letter, which with the largest frame must be one that Kafka takes."""

Parsed = TradeFrame | Ping | FeedMessage


def read_frame(frame: Frame, received_at_ms: int, feed: Feed = FINNHUB) -> Parsed:
    """Read a feed's frame as if it had come at `received_at_ms`, ms since the epoch.

    One with a great many mistakes is refused as a whole.
    """
    if frame.is_too_large:
        return TradeFrame((), (Reject(Reason.FRAME_TOO_LARGE),))
    message = parse_frame(frame.data, received_at_ms, feed)
    if isinstance(message, TradeFrame) and len(message.rejects) > _MOST_REJECTS:
        return TradeFrame((), (Reject(message.rejects[0].reason),))
    return message


class Intake:
    """Takes the frames of one client in their order and never waits.

    A frame with anything that is no trade goes to the dead-letter topic once: its bytes, the
    first reason in header `reason`, and in `rejects` a JSON list of [index in the frame or
    null for the whole frame, reason].

    Args:
        settings: topics, how long trades of one millisecond are in order and frames remembered.
        origin: goes into trades and dead letters.
        client: whose frames they are.
        outbox: where messages go.
        metrics: where things are counted.
    """

    def __init__(
        self,
        settings: Settings,
        origin: Origin,
        client: FeedClient,
        outbox: Outbox,
        metrics: Metrics,
    ) -> None:
        self._kafka = settings.kafka
        self._finnhub = settings.finnhub
        self._origin = origin
        self._client = client
        self._outbox = outbox
        self._memory = FrameMemory(settings.finnhub.redelivery_memory_s, metrics)
        self._connection = -1
        self._identity = self._new_identity()
        self._unknown_conditions = UnknownConditions(settings.stream.policy.conditions)
        self._keys: dict[str, bytes] = {}
        self._metrics = metrics
        # What each frame counts is looked up once.
        self._frames = metrics[FRAMES]
        self._accepted = metrics[TRADES].labels(outcome="accepted")
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
            self._client.on_error(frame.connection, message)

    def take_history(self, trades: Sequence[WireTrade], received_at_us: int) -> None:
        """Take trades that were fetched later, whose feed numbers them.

        Args:
            trades: of one symbol.
            received_at_us: when they were, µs since the epoch.
        """
        self._metrics[HEALED].inc(len(trades))
        self._outbox.dated(min(trade.event_time_ms for trade in trades) * 1000)
        identity = GivenIdentity(f"{self._origin.source}{BACKFILL}")
        for trade in identity.assign(trades, received_at_us, 0.0):
            self._outbox.add(self._kafka.topic, trade.symbol.encode(), encode_trade(trade))

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
        add, topic, keys = self._outbox.add, self._kafka.topic, self._keys
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
            ("topic", self._kafka.topic),
            ("source", self._origin.source),
            ("received_at_us", str(frame.received_at_us)),
        )
        key = self._origin.producer_id.encode()
        self._outbox.add(self._kafka.dead_letter_topic, key, data, headers)

    def _new_identity(self) -> TradeIdentity | GivenIdentity:
        source, speed = self._origin.source, self._origin.speed
        if self._client.feed.has_ids:
            return GivenIdentity(source)
        return TradeIdentity(source, self._finnhub.same_millisecond_s, self._memory, speed)
