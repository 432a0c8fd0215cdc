"""Which windows can be finalized: how far event time is committed to silver.

Three things say that no more trades come to a window:

- The frontier: trades that follow it by the delay are in silver.
- In a quiet market, where nothing moves the frontier, the clock: everything that Kafka has is in
  silver, no producer holds anything, and nothing was received for the delay.
- The end of a tape.

The first two hold only for what a producer vouches for. While Kafka is away it keeps trades in its
spool and cannot say so; when Kafka is back, all that Kafka has is in silver at once, nothing was
received for as long as the outage took, and the spool has not begun to drain. So neither frontier
nor clock passes what any producer last said: its oldest trade that Kafka lacks, or else the time
when it made its report::

    trades    ──────────┐  kept in the spool  ┌──────────
    reports   ──────────┤     Kafka away      ├──────────
    horizon   ───┤ delay ├ stands still ───────┤ goes on with the oldest unsent trade

A producer that has died for good must not hold bars back forever. It is lost when it has not
reported for ten minutes, and Kafka has answered us for a minute of them: an outage of Kafka is
nobody's silence. What a lost producer may have missed is a gap from its last acknowledged message
on, so that bars no other producer covers are incomplete (`coverage.py`). If it comes back with a
spool after all, they are revised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tapeline.kafka.feed_view import FeedSnapshot
from tapeline.model.bar import Interval
from tapeline.model.times import floor_to
from tapeline.storage.windows import PartitionProgress, WindowState

_DAY: Final = timedelta(days=1)
_RECENT_RECEIPT: Final = timedelta(seconds=60)
"""A partition without unread offsets holds the frontier back for this long after a trade."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """Up to where windows can be finalized: all of them, or those that end by `until`."""

    everything: bool
    until: datetime | None

    def covers(self, window_end: datetime) -> bool:
        """Return whether a window with this end can be finalized."""
        return self.everything or (self.until is not None and window_end <= self.until)


def final_until(
    reach: Horizon, remaining: Iterable[WindowState], newest: datetime | None, now: datetime
) -> datetime | None:
    """Return up to when every window is finalized, those without a trade too.

    Args:
        reach: of the round that has just ended.
        remaining: windows that it left open, one of each start at least: without its bar where
            one is.
        newest: event time of the newest trade in silver.
        now: the clock.
    """
    until = reach.until
    if reach.everything and newest is not None:
        # Nothing follows a tape that has ended, so its last day is over.
        until = min(now, floor_to(_DAY, newest) + _DAY)
    if until is None:
        return None
    for state in remaining:
        if state.window_start >= until:
            continue
        hour = floor_to(Interval.ONE_HOUR.duration, state.window_start)
        if reach.covers(hour + Interval.ONE_HOUR.duration):
            until = min(until, hour)
        elif state.affected_offset > state.finalized_offset:
            until = min(until, state.window_start)
    return until


def is_caught_up(progress: Mapping[int, PartitionProgress], feed: FeedSnapshot) -> bool:
    """Return whether every message of the topic is committed to silver."""
    return not any(unread_messages(progress, feed).values())


def unread_messages(
    progress: Mapping[int, PartitionProgress], feed: FeedSnapshot
) -> dict[int, int]:
    """Return how many messages Kafka still holds that are not committed to silver."""
    unread = {}
    for partition, end in feed.end_offsets.items():
        committed = progress[partition].committed_offset if partition in progress else -1
        first = feed.first_offsets.get(partition, 0)
        unread[partition] = max(0, end - max(first, committed + 1))
    return unread


def newest_receipt(progress: Mapping[int, PartitionProgress]) -> datetime | None:
    """Return when Kafka received the newest valid trade that is committed to silver."""
    received = (p.newest_received_at for p in progress.values())
    return max((r for r in received if r is not None), default=None)


def newest_trade(progress: Mapping[int, PartitionProgress]) -> datetime | None:
    """Return the newest event time of a valid trade that is committed to silver."""
    times = (p.newest_event_time for p in progress.values())
    return max((t for t in times if t is not None), default=None)


def frontier(
    progress: Mapping[int, PartitionProgress], feed: FeedSnapshot, now: datetime
) -> datetime | None:
    """Return the event time up to which every partition that matters has been committed.

    A partition matters while it has unread offsets or got a trade lately. None when one of
    them has committed nothing yet, or none matters. It is never past what a producer vouches for.
    """
    newest = []
    for partition, unread in unread_messages(progress, feed).items():
        p = progress.get(partition)
        received = None if p is None else p.newest_received_at
        is_recent = received is not None and now - received < _RECENT_RECEIPT
        if unread or is_recent:
            newest.append(None if p is None else p.newest_event_time)
    times = [t for t in newest if t is not None]
    if not times or len(times) < len(newest):
        return None
    return min([*times, *_vouched(feed)])


def _vouched(feed: FeedSnapshot) -> list[datetime]:
    """Return up to which event time Kafka has the trades of each producer that may have more."""
    return [p.vouches_until for p in feed.producers if p.vouches_until is not None]


def horizon(
    progress: Mapping[int, PartitionProgress],
    feed: FeedSnapshot,
    now: datetime,
    delay: timedelta,
) -> Horizon:
    """Return which windows can be finalized.

    Those behind the frontier by the delay; in a quiet market, where everything is in silver
    and nothing was received for the delay, those behind now by the delay, or behind what a
    producer vouches for; and all of them once the tape has ended and everything is in silver.
    """
    is_all_in = is_caught_up(progress, feed) and not feed.is_pending
    if is_all_in and feed.has_ended:
        return Horizon(everything=True, until=None)
    limits = []
    front = frontier(progress, feed, now)
    if front is not None:
        limits.append(front - delay)
    received = newest_receipt(progress)
    if is_all_in and received is not None and now >= received + delay:
        limits.append(min([now, *_vouched(feed)]) - delay)
    return Horizon(everything=False, until=max(limits) if limits else None)
