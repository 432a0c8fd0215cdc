"""Gold's preview: bars that appear while they form, provisional."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from pyspark.sql import SparkSession

from tapeline.consumer.bars_in_memory import BarsInMemory
from tapeline.consumer.batch_summary import BatchSummary
from tapeline.consumer.longer_bars import LongerBars
from tapeline.consumer.silver_bars import bars_from_silver
from tapeline.consumer.sinks import Sink
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.times import floor_to, to_micros
from tapeline.program.settings import Settings
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import PartitionProgress, StatesOfWindows


class Previews:
    """Writes the bars of open windows as they change, and those of the longer intervals.

    A window that is over when its batch is stored gets none where the same process makes it final:
    its final bar comes at once.

    Delivery: at least once. The write time is the window's start plus the trade count, so a
    preview of fewer trades never replaces one of more, and none ever replaces a final bar.

    Args:
        session: makes doubtful windows again.
        settings: of the stream and the keyspace.
        sink: where bars go.
        client: of the keyspace; None with a console sink, which prints what needs no silver.
        topic_id: of the stream's topic.
    """

    def __init__(
        self,
        session: SparkSession,
        settings: Settings,
        sink: Sink,
        client: CassandraClient | None,
        topic_id: str,
    ) -> None:
        self._session = session
        self._settings = settings
        self._sink = sink
        self._client = client
        self._interval = settings.stream.shortest_interval
        self._windows = BarsInMemory(None)
        self._longer = LongerBars(client, self._interval, self._windows)
        self._topic_id = topic_id
        self._doubtful: set[WindowKey] = set()
        self._over_by: datetime | None = None
        """Windows that end by then get their final bar at once."""
        self._others_at_begin: dict[str, dict[int, PartitionProgress]] = {}
        self._owns_silver = False
        self._added: dict[int, int] = {}
        """The highest offset of each Kafka partition that is in memory."""

    def begin(self, *, owns_silver: bool) -> None:
        """Begin with nothing in memory; to be called before the first batch.

        Args:
            owns_silver: whether the same query writes silver, so that silver has all that was
                added once a batch is written.
        """
        self._owns_silver = owns_silver
        self._others_at_begin = self._progress_of_others()
        self._added = {}
        stored_until = None if self._client is None else self._client.newest_stored_trade()
        self._windows = BarsInMemory(stored_until)
        self._longer = LongerBars(self._client, self._interval, self._windows)

    def add(self, batch: BatchSummary) -> None:
        """Add the bars of a batch's own trades and write what is certain."""
        self._doubtful = self._windows.add(batch.bars)
        self._added.update((p.kafka_partition, p.committed_offset) for p in batch.progress)
        self._over_by = self._over_after(batch)
        affected = {(bar.symbol, bar.window_start) for bar in batch.bars}
        self._write(affected - self._doubtful)

    def repair(self) -> None:
        """Make the windows again that the batch left doubtful; silver has its trades now.

        Once more when the batch is written again: silver may have lacked some of them.
        """
        if self._client is not None and self._doubtful:
            length = Interval.FIVE_MINUTES.duration
            buckets = {(symbol, floor_to(length, start)) for symbol, start in self._doubtful}
            made = bars_from_silver(
                self._session,
                self._client.keyspace,
                self._interval,
                sorted(buckets),
                self._settings.stream.policy,
            )
            self._windows.put(self._better(made), is_exact=self._owns_silver)
        self._write(self._doubtful)
        self._windows.forget()

    def seen(self, states: StatesOfWindows) -> dict[WindowKey, Bar]:
        """Return the bars of those five minutes of which every trade was seen here, in order.

        Only where nobody else brings trades: no window for which somebody else has read the topic
        further, and none at all while another topic moves on in the keyspace.
        """
        is_five = self._interval is Interval.FIVE_MINUTES
        is_alone = self._others_at_begin == self._progress_of_others()
        if not (is_five and self._owns_silver and is_alone):
            return {}
        return self._windows.seen(
            window
            for window, some in states.items()
            if all(s.affected_offset <= self._added.get(s.kafka_partition, -1) for s in some)
        )

    def _better(self, made: Iterable[Bar]) -> list[Bar]:
        """Return the bars of doubtful windows; a silver of others may be behind what is known."""
        doubted = [b for b in made if (b.symbol, b.window_start) in self._doubtful]
        if self._owns_silver:
            return doubted
        known = {(b.symbol, b.window_start): b for b in self._windows.bars(self._doubtful)}
        return [b for b in doubted if b.trade_count >= known[b.symbol, b.window_start].trade_count]

    def _progress_of_others(self) -> dict[str, dict[int, PartitionProgress]]:
        if self._client is None:
            return {}
        progress = self._client.progress_of_topics()
        progress.pop(self._topic_id, None)
        return progress

    def _over_after(self, batch: BatchSummary) -> datetime | None:
        """Return up to when windows are over once a batch is stored, so that no preview is due.

        Only where the same process makes them final; the horizon is that of `horizon.py`, as far
        as the batch tells.
        """
        newest = [p.newest_event_time for p in batch.progress]
        times = [time for time in newest if time is not None]
        # Without a client nobody makes them final: what is printed are previews alone.
        finalizes = self._owns_silver and self._client is not None
        if not (finalizes and times and len(times) == len(newest)):
            return None
        return min(times) - timedelta(seconds=self._settings.stream.watermark_s)

    def _write(self, windows: Collection[WindowKey]) -> None:
        if not windows:
            return
        now = datetime.now(timezone.utc)
        self._write_open(self._interval, self._windows.bars(windows), now)
        for interval, bars in self._longer.changed(windows):
            self._write_open(interval, bars, now)

    def _write_open(self, interval: Interval, bars: Iterable[Bar], now: datetime) -> None:
        some = [bar for bar in bars if not self._is_over(bar)]
        if some:
            self._sink.write_bars(interval, _previews(some, now))

    def _is_over(self, bar: Bar) -> bool:
        """Return whether the final bar comes at once, with no other one made of this one before."""
        if self._over_by is None or bar.window_end > self._over_by:
            return False
        hour = floor_to(Interval.ONE_HOUR.duration, bar.window_start)
        return self._windows.knows_all_since(hour)


def _previews(bars: Iterable[Bar], now: datetime) -> list[tuple[Bar, int]]:
    """Return provisional bars, each with its write time in µs."""
    return [
        (replace(bar, updated_at=now), to_micros(bar.window_start) + bar.trade_count)
        for bar in bars
    ]
