"""Settle: recompute due windows from silver and mark their bars final.

A window is due when trades touched it since it was last settled, and no more can be on
their way. There is no clock in that but for a quiet market: the frontier is event time that
is committed to silver. Settling is the only writer of final bars; doing it again changes
nothing, so it may be stopped and started anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import structlog
from pyspark.sql import SparkSession

from tapeline.bar import Interval
from tapeline.conditions import ConditionPolicy
from tapeline.consumer.bar_writer import BarWriter, Outcome, WindowKey, first_receipts
from tapeline.consumer.coverage import Coverage
from tapeline.consumer.feed_view import FeedView
from tapeline.consumer.gap_marks import GapMarks
from tapeline.consumer.horizon import Horizon, frontier, horizon, newest_receipt, unread_messages
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
        rereads: the topic is read anew, so windows long settled may become due again.
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
        rereads: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._client = client
        self._feed = feed
        self._topic_id = topic_id
        self._delay = delay
        self._max_windows = max_windows
        self._rereads = rereads
        self._now = now
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
        states = list(self._unsettled(progress))
        windows = self._settle_windows(states, reach)
        hours = self._settle_hours(windows.remaining, reach)
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

    def _unsettled(self, progress: Mapping[int, PartitionProgress]) -> Iterable[WindowState]:
        """Yield windows whose bar or hour is not settled; move each partition's start on."""
        for p in progress.values():
            head = p.committed_offset // WINDOW_BUCKET_OFFSETS
            first_open = head
            start = 0 if self._rereads else p.settled_bucket
            for state in self._client.window_states(
                self._topic_id, p.kafka_partition, range(start, head + 1)
            ):
                if state.dirty_offset > min(state.settled_offset, state.hour_settled_offset):
                    first_open = min(first_open, state.bucket)
                    yield state
            if first_open > p.settled_bucket:
                self._client.write_settled_bucket(self._topic_id, p.kafka_partition, first_open)

    def _settle_windows(self, states: Sequence[WindowState], reach: Horizon) -> Outcome:
        due: dict[WindowKey, list[WindowState]] = defaultdict(list)
        length = Interval.FIVE_MINUTES.duration
        for s in states:
            if s.dirty_offset > s.settled_offset and reach.covers(s.window_start + length):
                due[_key(s)].append(s)
        chosen = sorted(due, key=lambda key: key[1])[: self._max_windows]
        done = [s for key in chosen for s in due[key]]
        outcome = self._writer.write(Interval.FIVE_MINUTES, chosen, first_receipts(done))
        self._client.mark_settled(
            [replace(s, first_received_at=outcome.received.get(_key(s))) for s in done],
            Interval.FIVE_MINUTES,
        )
        fresh = set(done)
        outcome.remaining = [
            replace(s, settled_offset=s.dirty_offset) if s in fresh else s for s in states
        ]
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


def _key(state: WindowState) -> WindowKey:
    return state.symbol, state.window_start
