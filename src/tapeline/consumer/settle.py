"""Settle: make the bars of due windows anew and mark them final.

A window is due when trades touched it since it was last settled, and no more can be on
their way. There is no clock in that but for a quiet market: the frontier is event time that
is committed to silver. Settling is the only writer of final bars; doing it again changes
nothing, so it may be stopped and started anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Final

import structlog
from pyspark.sql import SparkSession

from tapeline.bar import Bar, Interval, WindowKey
from tapeline.conditions import ConditionPolicy
from tapeline.consumer.bar_writer import (
    BarWriter,
    Outcome,
    first_receipts,
)
from tapeline.consumer.coverage import Coverage
from tapeline.consumer.feed_view import FeedView
from tapeline.consumer.gap_marks import GapMarks
from tapeline.consumer.horizon import (
    frontier,
    horizon,
    newest_receipt,
    newest_trade,
    settled_until,
    unread_messages,
)
from tapeline.consumer.open_windows import OpenWindows, in_chunks
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.rows import StatesOfWindows

log = structlog.get_logger()

ROUND_S: Final = 20.0
"""After this long the rest is left to the next round: the job looks after its queries between."""


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
        max_windows: how many windows are computed, written and marked at once.
        silver_ttl: how long trades stay in silver; 0 is for ever.
        stores_1m: keep bars of one minute too.
        now: the wall clock, UTC.
        is_stopping: asked between chunks; a round that is to stop leaves the rest to the next.
        remembered: given the states of windows, returns the bars of those of which the stream knows
            every trade that the states tell of.
        round_s: after this long a round begins no further chunk.
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
        is_stopping: Callable[[], bool] = lambda: False,
        remembered: Callable[[StatesOfWindows], Mapping[WindowKey, Bar]] = lambda _: {},
        round_s: float = ROUND_S,
    ) -> None:
        self._client = client
        self._feed = feed
        self._topic_id = topic_id
        self._delay = delay
        self._max_windows = max_windows
        self._stores_1m = stores_1m
        self._now = now
        self._is_stopping = is_stopping
        self._round_s = round_s
        self._states = OpenWindows(client, topic_id)
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
        self._remembered = remembered

    def round(self) -> RoundResult:
        """Settle what is due, oldest first, in chunks of `max_windows` windows.

        Each chunk is written and marked before the next.
        """
        began = time.monotonic()
        now = self._now()
        feed = self._feed.snapshot(now)
        progress = self._client.progress(self._topic_id)
        reach = horizon(progress, feed, now, self._delay)
        self._coverage = self._coverage.renewed(
            feed.producers, feed.gaps, is_readable=feed.is_readable
        )
        self._states.read(progress)

        windows = self._in_chunks(self._states.due_windows(reach), self._settle_windows, began)
        hours = self._in_chunks(self._states.due_hours(reach), self._settle_hours, began)
        left = self._states.one_of_each_start()
        self._write_until(settled_until(reach, left, newest_trade(progress), now))
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
            is_finished=reach.everything and not left and self._gap_marks.is_done,
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

    def _in_chunks(
        self, due: StatesOfWindows, settle: Callable[[StatesOfWindows], Outcome], began: float
    ) -> Outcome:
        """Settle chunk by chunk until told to stop; when the time is up, no second one."""
        outcome = Outcome()
        for chunk in in_chunks(due, self._max_windows):
            if self._is_stopping():
                break
            outcome.add(settle(chunk))
            if time.monotonic() - began > self._round_s:
                break
        return outcome

    def _settle_windows(self, due: StatesOfWindows) -> Outcome:
        states = [s for group in due.values() for s in group]
        received = first_receipts(states)
        outcome = self._writer.write(
            Interval.FIVE_MINUTES,
            list(due),
            received,
            lambda windows: self._remembered({window: due[window] for window in windows}),
        )
        if self._stores_1m:
            self._writer.write(Interval.ONE_MINUTE, list(due), received)
        settled = [
            replace(
                s,
                settled_offset=s.dirty_offset,
                first_received_at=outcome.received.get(key, s.first_received_at),
            )
            for key, group in due.items()
            for s in group
        ]
        self._client.mark_settled(settled, Interval.FIVE_MINUTES)
        self._states.update(settled)
        return outcome

    def _settle_hours(self, due: StatesOfWindows) -> Outcome:
        outcome = self._writer.write(Interval.ONE_HOUR, list(due))
        states = [s for group in due.values() for s in group]
        self._client.mark_settled(states, Interval.ONE_HOUR)
        self._states.remove(states)
        return outcome

    def _write_until(self, until: datetime | None) -> None:
        if until is not None and until != self._settled_until:
            self._client.write_settled_until(self._topic_id, until)
            self._settled_until = until
