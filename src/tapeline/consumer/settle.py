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
from typing import Final

import structlog
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.bar import Bar, Interval
from tapeline.conditions import ConditionPolicy
from tapeline.consumer.coverage import Coverage
from tapeline.consumer.feed_view import FeedView
from tapeline.consumer.final_bars import has_expired, reconcile
from tapeline.consumer.gap_marks import GapMarks
from tapeline.consumer.horizon import Horizon, frontier, horizon, newest_receipt, unread_messages
from tapeline.consumer.sinks import read_table
from tapeline.consumer.spark_processor import hour_bars
from tapeline.consumer.transformations import calculate_ohlcv
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.rows import WINDOW_BUCKET_OFFSETS, PartitionProgress, StoredBar, WindowState

log = structlog.get_logger()

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIMES: Final = (
    *("window_start", "window_end", "first_trade_time", "last_trade_time"),
    "first_received_at",
)

WindowKey = tuple[str, datetime]


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
        self._session = session
        self._client = client
        self._feed = feed
        self._topic_id = topic_id
        self._keyspace = keyspace
        self._policy = policy
        self._delay = delay
        self._max_windows = max_windows
        self._silver_ttl = silver_ttl
        self._rereads = rereads
        self._now = now
        self._gap_marks = GapMarks(client, now)
        self._coverage = Coverage((), ())

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

    def _settle_windows(self, states: Sequence[WindowState], reach: Horizon) -> _Outcome:
        due: dict[WindowKey, list[WindowState]] = defaultdict(list)
        length = Interval.FIVE_MINUTES.duration
        for s in states:
            if s.dirty_offset > s.settled_offset and reach.covers(s.window_start + length):
                due[s.symbol, s.window_start].append(s)
        chosen = sorted(due, key=lambda key: key[1])[: self._max_windows]
        outcome = self._write_final(Interval.FIVE_MINUTES, chosen, self._bars_from_silver)
        done = [s for key in chosen for s in due[key]]
        self._client.mark_settled(done, Interval.FIVE_MINUTES)
        fresh = set(done)
        outcome.remaining = [
            replace(s, settled_offset=s.dirty_offset) if s in fresh else s for s in states
        ]
        return outcome

    def _settle_hours(self, states: Sequence[WindowState], reach: Horizon) -> _Outcome:
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
        outcome = self._write_final(
            Interval.ONE_HOUR,
            chosen,
            lambda keys: hour_bars(self._keys(keys, "hour"), self._keyspace),
        )
        done = {s for key in chosen for s in due[key]}
        self._client.mark_settled(done, Interval.ONE_HOUR)
        outcome.remaining = [s for s in states if s not in done]
        return outcome

    def _write_final(
        self,
        interval: Interval,
        keys: Sequence[WindowKey],
        compute: Callable[[Sequence[WindowKey]], DataFrame],
    ) -> _Outcome:
        outcome = _Outcome()
        if not keys:
            return outcome
        # Read before the trades are: of two settlers, the one that read less writes earlier.
        stored, now = self._client.stored_bars(interval, keys), self._now()
        if interval is Interval.FIVE_MINUTES:
            keys = self._without_expired(keys, stored, now)
        bars = compute(keys)
        for column in _TIMES:
            # As numbers: PySpark hands timestamps over in the machine's own time zone.
            bars = bars.withColumn(column, F.unix_micros(column))
        computed = [_bar(row, self._policy) for row in bars.collect()]
        writes = []
        for bar in computed:
            before = stored.get((bar.symbol, bar.window_start))
            outcome.count(before, bar)
            is_complete = self._coverage.is_complete(bar.symbol, bar.window_start, bar.window_end)
            write = reconcile(before, replace(bar, is_complete=is_complete), now)
            if write is not None:
                writes.append(write)
        self._client.write_bars(interval, writes)
        return outcome

    def _without_expired(
        self, keys: Sequence[WindowKey], stored: Mapping[WindowKey, StoredBar], now: datetime
    ) -> list[WindowKey]:
        """Leave out windows of which silver has a fragment at most; their bars stay as they are."""
        kept = []
        for symbol, start in keys:
            if has_expired(stored.get((symbol, start)), self._silver_ttl, now):
                log.error("window_expired", symbol=symbol, window_start=start.isoformat())
            else:
                kept.append((symbol, start))
        return kept

    def _bars_from_silver(self, keys: Sequence[WindowKey]) -> DataFrame:
        windows = self._keys(keys, "bucket")
        silver = read_table(windows, self._keyspace, "trades_silver")
        return calculate_ohlcv(windows.join(silver, ["symbol", "bucket"]), self._policy)

    def _keys(self, keys: Sequence[WindowKey], time_column: str) -> DataFrame:
        return self._session.createDataFrame(list(keys), f"symbol string, {time_column} timestamp")


@dataclass(slots=True)
class _Outcome:
    settled: int = 0
    revised: int = 0
    differs: int = 0
    stream_incomplete: int = 0
    remaining: Sequence[WindowState] = ()

    def count(self, before: StoredBar | None, computed: Bar) -> None:
        """Count a settled bar, and how the stream's preview compares with it."""
        self.settled += 1
        if before is not None and before.bar.is_final:
            self.revised += not before.bar.same_values(computed)
        elif before is None or before.bar.trade_count != computed.trade_count:
            self.stream_incomplete += 1
        elif not before.bar.same_values(computed):
            self.differs += 1
            log.error(
                "preview_differs",
                symbol=computed.symbol,
                window_start=computed.window_start.isoformat(),
            )


def _bar(row: Row, policy: ConditionPolicy) -> Bar:
    fields = row.asDict()
    for name in _TIMES:
        fields[name] = _EPOCH + timedelta(microseconds=fields[name])
    return Bar(**fields, policy=policy.value)
