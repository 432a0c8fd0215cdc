"""Settle: recompute due windows from silver and mark their bars final.

A window is due when trades touched it since it was last settled, and no more can be on
their way. There is no clock in that but for a quiet market: the frontier is event time that
is committed to silver. Settling is the only writer of final bars; doing it again changes
nothing, so it may be stopped and started anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import structlog
from pyspark.sql import SparkSession

from tapeline.bar import Interval, WindowKey
from tapeline.conditions import ConditionPolicy
from tapeline.consumer.bar_writer import BarWriter, Outcome, first_receipts
from tapeline.consumer.coverage import Coverage
from tapeline.consumer.feed_view import FeedView
from tapeline.consumer.gap_marks import GapMarks
from tapeline.consumer.horizon import (
    Horizon,
    frontier,
    horizon,
    newest_receipt,
    newest_trade,
    settled_until,
    unread_messages,
)
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.rows import WINDOW_BUCKET_OFFSETS, PartitionProgress, WindowState

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What one round did, and whether anything is left."""

    settled_5m: int
    settled_1h: int
    revised: int
    differs: int
    stream_incomplete: int
    unread: Mapping[int, int]
    """Messages of each Kafka partition that were not in silver yet."""
    frontier: datetime | None
    newest_receipt: datetime | None
    """When Kafka received the newest valid trade that is in silver."""
    is_finished: bool
    """The feed has ended, all of it is in silver, and every bar is final."""

    @property
    def settled(self) -> int:
        """Bars of every interval."""
        return self.settled_5m + self.settled_1h


class Settler:
    """Rounds of settling for one topic and keyspace.

    Args:
        session: recomputes bars.
        client: reads state, writes bars.
        feed: what Kafka knows.
        topic_id: of the topic whose windows are settled.
        keyspace: of the tables.
        policy: which trades set prices.
        delay: how late a trade may be before it means a revision.
        max_windows: bound on the windows of one round.
        silver_ttl: how long trades stay in silver; 0 is for ever.
        stores_1m: keep bars of one minute too.
        now: the wall clock, UTC.
    """

    def __init__(
        self,
        session: SparkSession,
        client: CassandraClient,
        feed: FeedView,
        *,
        topic_id: str,
        keyspace: str,
        policy: ConditionPolicy,
        delay: timedelta,
        max_windows: int,
        silver_ttl: timedelta = timedelta(0),
        stores_1m: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._client = client
        self._feed = feed
        self._topic_id = topic_id
        self._delay = delay
        self._max_windows = max_windows
        self._stores_1m = stores_1m
        self._now = now
        self._open: dict[_StateKey, WindowState] = {}
        self._read_from: dict[int, int] = {}
        self._settled_until: datetime | None = None
        self._gap_marks = GapMarks(client, now)
        self._coverage = Coverage((), ())
        self._writer = BarWriter(
            session,
            client,
            keyspace=keyspace,
            policy=policy,
            silver_ttl=silver_ttl,
            is_complete=lambda bar, _: self._coverage.is_complete(
                bar.symbol, bar.window_start, bar.window_end
            ),
            now=now,
        )

    def round(self) -> RoundResult:
        """Settle what is due, at most `max_windows` windows, oldest first."""
        now = self._now()
        feed = self._feed.snapshot(now)
        progress = self._client.progress(self._topic_id)
        reach = horizon(progress, feed, now, self._delay)
        self._coverage = Coverage(feed.producers, feed.gaps)
        states = self._unsettled(progress)
        windows = self._settle_windows(states, reach)
        hours = self._settle_hours(windows.remaining, reach)
        self._open = {_key_of(state): state for state in hours.remaining}
        until = settled_until(reach, hours.remaining, newest_trade(progress), now)
        if until is not None and until != self._settled_until:
            self._client.write_settled_until(self._topic_id, until)
            self._settled_until = until
        marked = self._gap_marks.update(feed.gaps, self._coverage)
        result = RoundResult(
            settled_5m=windows.settled,
            settled_1h=hours.settled,
            revised=windows.revised + hours.revised + marked,
            differs=windows.differs,
            stream_incomplete=windows.stream_incomplete,
            unread=unread_messages(progress, feed),
            frontier=frontier(progress, feed, now),
            newest_receipt=newest_receipt(progress),
            is_finished=reach.everything and not hours.remaining and self._gap_marks.is_done,
        )
        if result.settled or marked:
            log.info(
                "settled",
                bars=result.settled,
                revised=result.revised,
                differs=result.differs,
                stream_incomplete=result.stream_incomplete,
            )
        return result

    def _unsettled(self, progress: Mapping[int, PartitionProgress]) -> list[WindowState]:
        """Return the windows whose bar or hour is not settled; move each partition's start on.

        A bucket of offsets is read until all of it is committed, and remembered afterwards, so
        that a round reads what is new and not what is open. While a topic is read again, what
        lies above its reader may become open once more.
        """
        for p in progress.values():
            head = p.committed_offset // WINDOW_BUCKET_OFFSETS
            start = self._read_from.get(p.kafka_partition, p.settled_bucket)
            if p.read_bucket < start:
                start = 0
            buckets = range(start, head + 1)
            for state in self._client.window_states(self._topic_id, p.kafka_partition, buckets):
                self._open[_key_of(state)] = state
            self._read_from[p.kafka_partition] = p.read_bucket
        self._open = {k: s for k, s in self._open.items() if s.is_open}
        for p in progress.values():
            partition = p.kafka_partition
            open_buckets = (s.bucket for s in self._open.values() if s.kafka_partition == partition)
            settled = min([*open_buckets, p.read_bucket])
            if settled != p.settled_bucket:
                self._client.write_settled_bucket(self._topic_id, partition, settled)
        return list(self._open.values())

    def _settle_windows(self, states: Sequence[WindowState], reach: Horizon) -> Outcome:
        due: dict[WindowKey, list[WindowState]] = defaultdict(list)
        length = Interval.FIVE_MINUTES.duration
        for s in states:
            if s.dirty_offset > s.settled_offset and reach.covers(s.window_start + length):
                due[_window_of(s)].append(s)
        chosen = sorted(due, key=lambda key: key[1])[: self._max_windows]
        done = [s for key in chosen for s in due[key]]
        received = first_receipts(done)
        outcome = self._writer.write(Interval.FIVE_MINUTES, chosen, received)
        if self._stores_1m:
            self._writer.write(Interval.ONE_MINUTE, chosen, received)
        settled = {
            s: replace(
                s,
                settled_offset=s.dirty_offset,
                first_received_at=outcome.received.get(_window_of(s), s.first_received_at),
            )
            for s in done
        }
        self._client.mark_settled(settled.values(), Interval.FIVE_MINUTES)
        outcome.remaining = [settled.get(s, s) for s in states]
        return outcome

    def _settle_hours(self, states: Sequence[WindowState], reach: Horizon) -> Outcome:
        by_hour: dict[WindowKey, list[WindowState]] = defaultdict(list)
        for s in states:
            hour = s.window_start.replace(minute=0)
            by_hour[s.symbol, hour].append(s)
        length = Interval.ONE_HOUR.duration
        due = {
            key: group
            for key, group in by_hour.items()
            if reach.covers(key[1] + length)
            and all(s.settled_offset >= s.dirty_offset for s in group)
        }
        chosen = sorted(due, key=lambda key: key[1])[: self._max_windows]
        outcome = self._writer.write(Interval.ONE_HOUR, chosen)
        done = {s for key in chosen for s in due[key]}
        self._client.mark_settled(done, Interval.ONE_HOUR)
        outcome.remaining = [s for s in states if s not in done]
        return outcome


_StateKey = tuple[int, int, datetime, str]


def _key_of(state: WindowState) -> _StateKey:
    return state.kafka_partition, state.bucket, state.window_start, state.symbol


def _window_of(state: WindowState) -> WindowKey:
    return state.symbol, state.window_start
