"""Finalize: make the bars of due windows again and mark them final.

A window is due when trades affected it since it was last finalized, and no more can be on
their way. There is no clock in that but for a quiet market: the frontier is event time that
is committed to silver. Finalizing is the only writer of final bars; doing it again changes
nothing, so it may be stopped and started anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

import structlog
from pyspark.sql import SparkSession

from tapeline.consumer.recently_affected import RecentlyAffected
from tapeline.finalize.bar_rules import BarRules
from tapeline.finalize.bar_writer import BarWriter, Written
from tapeline.finalize.counted_empty import counted_empty
from tapeline.finalize.due_bars import DueBars
from tapeline.finalize.gap_marks import GapMarks
from tapeline.finalize.healed_gaps import HealedGaps
from tapeline.finalize.horizon import (
    final_until,
    frontier,
    horizon,
    newest_receipt,
    newest_trade,
    unread_messages,
)
from tapeline.finalize.open_windows import OpenWindows, in_chunks
from tapeline.finalize.recent_gaps import RecentGaps
from tapeline.finalize.topic_standing import OwnTopic, state_of
from tapeline.kafka.feed_view import FeedSnapshot, FeedView
from tapeline.model.bar import Bar, WindowKey
from tapeline.model.coverage import Coverage
from tapeline.model.gap import Gap
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import PartitionProgress, StatesOfWindows

log = structlog.get_logger()

ROUND_S: Final = 20.0
"""After this long the rest is left to the next round: the job looks after its queries between."""


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What one round did, and whether anything is left."""

    finalized_5m: int
    finalized_1h: int
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
    def finalized(self) -> int:
        """Bars of every interval."""
        return self.finalized_5m + self.finalized_1h


@dataclass(frozen=True, slots=True)
class StreamKnowledge:
    """What a stream in the same process knows, so that it need not be read again.

    Args:
        remembered: given the states of windows, returns the bars of those of which the stream knows
            every trade that the states tell of.
        affected: the windows that its batches touch.
    """

    remembered: Callable[[StatesOfWindows], Mapping[WindowKey, Bar]] = lambda _: {}
    affected: RecentlyAffected | None = None


NO_STREAM: Final = StreamKnowledge()


class Finalizer:
    """Rounds of finalizing for one topic and keyspace.

    Args:
        session: recomputes bars.
        client: reads state, writes bars.
        feed: what Kafka knows.
        topic_id: of the topic whose windows are finalized.
        rules: how bars are made.
        stream: what the stream of this process knows, where there is one.
        others: looks after the other topics of the keyspace; returns how many bars it finalized.
        is_stopping: asked between chunks; a round that is to stop leaves the rest to the next.
        now: the wall clock, UTC.
        round_s: after this long a round begins no further chunk.
    """

    def __init__(
        self,
        session: SparkSession,
        client: CassandraClient,
        feed: FeedView,
        *,
        topic_id: str,
        rules: BarRules,
        stream: StreamKnowledge = NO_STREAM,
        others: Callable[[datetime], int] = lambda _: 0,
        is_stopping: Callable[[], bool] = lambda: False,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        round_s: float = ROUND_S,
    ) -> None:
        self._client = client
        self._feed = feed
        self._topic_id = topic_id
        self._delay = rules.delay
        self._max_windows = rules.max_windows
        self._now = now
        self._is_stopping = is_stopping
        self._round_s = round_s
        self._others = others
        self._generation = client.generation()
        self._states = OpenWindows(client, topic_id, stream.affected)
        self._gap_marks = GapMarks(client, now)
        self._healed_gaps = HealedGaps()
        self._recent_gaps = RecentGaps(rules.silver_ttl)
        self._coverage = Coverage((), ())
        self._writer = BarWriter(
            session,
            client,
            rules,
            is_complete=lambda bar, _: self._coverage.is_complete(
                bar.symbol, bar.window_start, bar.window_end
            ),
            now=now,
            counted_empty=lambda interval, bars: counted_empty(
                client, self._topic.standing, interval, bars
            ),
        )
        self._bars = DueBars(
            client,
            self._writer,
            self._states,
            stores_1m=rules.stores_1m,
            remembered=stream.remembered,
        )
        self._topic = OwnTopic(client, topic_id)

    def round(self) -> RoundResult:
        """Finalize what is due, oldest first, in chunks of `max_windows` windows.

        Each chunk is written and marked before the next.
        """
        began = time.monotonic()
        now = self._now()
        self._forget_after_a_restart()
        feed = self._feed.snapshot(now)
        progress = self._client.progress(self._topic_id)
        reach = horizon(progress, feed, now, self._delay)
        self._states.read(progress)
        self._topic.read()
        self._read_gaps(feed, progress, now)

        # Before any bar of it is final: readers shall wait for the topic from now on.
        self._write_state(progress, feed, now)
        windows = self._in_chunks(
            self._states.due_windows(reach), self._bars.finalize_windows, began
        )
        hours = self._in_chunks(self._states.due_hours(reach), self._bars.finalize_hours, began)
        left = self._states.one_of_each_start()
        self._topic.write_until(final_until(reach, left, newest_trade(progress), now))
        self._write_state(progress, feed, now)
        of_others = self._others(now)
        marked = self._gap_marks.update(self._read_gaps(feed, progress, now), self._coverage)
        result = RoundResult(
            finalized_5m=windows.finalized + of_others,
            finalized_1h=hours.finalized,
            revised=windows.revised + hours.revised + marked,
            differs=windows.differs,
            stream_incomplete=windows.stream_incomplete,
            unread=unread_messages(progress, feed),
            frontier=frontier(progress, feed, now),
            newest_receipt=newest_receipt(progress),
            is_finished=reach.everything and not left and self._gap_marks.is_done,
        )
        if result.finalized or marked:
            log.info(
                "finalized",
                bars=result.finalized,
                revised=result.revised,
                differs=result.differs,
                stream_incomplete=result.stream_incomplete,
            )
        return result

    def _read_gaps(
        self,
        feed: FeedSnapshot,
        progress: Mapping[int, PartitionProgress],
        now: datetime,
    ) -> Sequence[Gap]:
        """Return the gaps that mark bars now, which coverage goes by from here on."""
        standing = self._topic.standing
        until = standing.final_until if standing else None
        gaps = self._healed_gaps.of(feed.gaps, progress, lambda: self._states.late_symbols(until))
        gaps = self._recent_gaps.of(gaps, now)
        self._coverage = self._coverage.renewed(
            feed.producers, gaps, self._recent_gaps.known_from_us, is_readable=feed.is_readable
        )
        return gaps

    def _forget_after_a_restart(self) -> None:
        """Read again what is done where Cassandra may have forgotten that it was."""
        generation = self._client.generation()
        if generation != self._generation:
            self._states.forget()
            self._gap_marks = GapMarks(self._client, self._now)
            self._generation = generation

    def _write_state(
        self, progress: Mapping[int, PartitionProgress], feed: FeedSnapshot, now: datetime
    ) -> None:
        if progress:
            is_finalized = not self._states.one_of_each_start()
            state = state_of(progress, feed, now, self._delay, is_finalized=is_finalized)
            self._topic.write_state(state, now)

    def _in_chunks(
        self, due: StatesOfWindows, finalize: Callable[[StatesOfWindows], Written], began: float
    ) -> Written:
        """Finalize chunk by chunk until told to stop; when the time is up, no second one."""
        outcome = Written()
        for chunk in in_chunks(due, self._max_windows):
            if self._is_stopping():
                break
            outcome.add(finalize(chunk))
            if time.monotonic() - began > self._round_s:
                break
        return outcome
