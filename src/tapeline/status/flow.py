"""How a topic's trades flow: what its producers say, and how far silver is behind Kafka.

Worked out here once, for the screen of `tapeline status` and for the API's `/v1/status`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from tapeline.finalize.horizon import frontier, newest_receipt, newest_trade, unread_messages
from tapeline.kafka.feed_view import LOST_AFTER, FeedSnapshot
from tapeline.model.coverage import ProducerView
from tapeline.model.feed_status import MOST_OFF_S
from tapeline.model.gap import ends_of_all
from tapeline.model.times import from_micros
from tapeline.storage.windows import PartitionProgress


@dataclass(frozen=True, slots=True)
class Producer:
    """What one producer last reported."""

    name: str
    symbols: int
    connected: bool
    is_gone: bool
    has_ended: bool
    pending: int
    without_slot: tuple[str, ...] = ()
    clock_offset_s: float | None = None
    """How far its host's clock is ahead of the feed's time, in seconds."""


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A time without a feed that lasts."""

    producer: str
    kind: str
    since: datetime
    symbols: int


class FeedState(str, Enum):
    """The feed in one word."""

    LIVE = "live"
    DOWN = "down"
    """No producer that reports has a connection."""
    STALE = "stale"
    """No producer reports."""
    ENDED = "ended"
    """It was a tape, which has ended; not known while a report cannot be read."""
    UNKNOWN = "unknown"
    """Kafka does not say."""


@dataclass(frozen=True, slots=True)
class Flow:
    """How far the topic's trades are: None where nothing has come yet.

    `freshness_s` is the age of the newest receipt. What takes longer to find is left to whoever
    wants to know: `stuck` counts the messages that have been unread for a minute, `overdue` the
    windows that could have been finalized a minute ago.
    """

    producers: tuple[Producer, ...] = ()
    gaps: tuple[OpenGap, ...] = ()
    messages: int = 0
    unread: int = 0
    stuck: int = 0
    newest_trade: datetime | None = None
    newest_receipt: datetime | None = None
    freshness_s: float | None = None
    frontier: datetime | None = None
    open_windows: int = 0
    overdue: int = 0

    @property
    def state(self) -> FeedState:
        """The feed in one word; of a producer whose tape has ended nothing more is expected."""
        if self.producers and all(p.has_ended for p in self.producers):
            return FeedState.ENDED
        expected = [p for p in self.living if not p.has_ended]
        if not expected:
            return FeedState.STALE
        return FeedState.LIVE if any(p.connected for p in expected) else FeedState.DOWN

    @property
    def living(self) -> tuple[Producer, ...]:
        """The producers that report."""
        return tuple(p for p in self.producers if not p.is_gone)

    @property
    def pending(self) -> int:
        """Trades on their way to Kafka."""
        return sum(p.pending for p in self.living)


def flow_of(feed: FeedSnapshot, progress: Mapping[int, PartitionProgress], now: datetime) -> Flow:
    """Return how a topic's trades flow.

    Args:
        feed: what Kafka knows.
        progress: how far each partition is in silver.
        now: the clock.
    """
    return Flow(
        producers=tuple(_producer(p, feed) for p in feed.producers),
        gaps=tuple(_open_gaps(feed)),
        messages=sum(feed.end_offsets.values()),
        unread=sum(unread_messages(progress, feed).values()),
        newest_trade=newest_trade(progress),
        newest_receipt=newest_receipt(progress),
        freshness_s=freshness_s(progress, now),
        frontier=frontier(progress, without_lost(feed, now), now),
    )


def freshness_s(progress: Mapping[int, PartitionProgress], now: datetime) -> float | None:
    """Return how long ago Kafka received the newest trade that is in silver, in seconds."""
    received = newest_receipt(progress)
    return None if received is None else max(0.0, (now - received).total_seconds())


def without_lost(feed: FeedSnapshot, now: datetime) -> FeedSnapshot:
    """Return the feed as a stream that has listened for a while sees it: it waits for no others."""
    return replace(
        feed, producers=tuple(p for p in feed.producers if now - p.reported_at < LOST_AFTER)
    )


def problems_of_feed(flow: Flow) -> Iterator[str]:
    """Yield what is wrong with the feed, each with what to do about it."""
    if flow.state is FeedState.STALE:
        yield "No producer reports: start one with `tapeline produce`."
    for p in flow.living:
        if not p.connected and not p.has_ended:
            yield f"Producer {p.name} has no connection to the feed: see its log."
        if p.without_slot:
            refused = ", ".join(p.without_slot)
            yield f"The feed refuses symbols of producer {p.name}: {refused}. Subscribe fewer."
        if p.clock_offset_s is not None and abs(p.clock_offset_s) > MOST_OFF_S:
            where = "ahead of" if p.clock_offset_s > 0 else "behind"
            yield (
                f"The clock of producer {p.name}'s host is {abs(p.clock_offset_s):,.0f} s {where} "
                "the feed's time: set it right, it is corrected for meanwhile."
            )
    connected = {p.name for p in flow.living if p.connected}
    for gap in flow.gaps:
        if gap.producer in connected:
            since = f"{gap.since:%Y-%m-%d %H:%M:%S} UTC"
            yield f"Producer {gap.producer} hears no trades since {since} ({gap.kind})."


def _producer(view: ProducerView, feed: FeedSnapshot) -> Producer:
    s = view.status
    return Producer(
        s.producer_id,
        len(s.subscribed),
        s.connected,
        view.is_gone,
        s.end_of_tape and feed.is_readable,
        s.pending,
        s.waiting,
        s.clock_offset_s,
    )


def _open_gaps(feed: FeedSnapshot) -> Iterator[OpenGap]:
    for gap, ended_us in ends_of_all(feed.gaps):
        if gap.kind.marks_bars and ended_us is None:
            since = from_micros(gap.started_us)
            yield OpenGap(gap.producer_id, gap.kind.value, since, len(gap.symbols))
