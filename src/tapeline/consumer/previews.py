"""Gold's preview: bars that appear while they form, provisional."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from pyspark.sql import SparkSession

from tapeline.bar import Bar, Interval, WindowKey
from tapeline.consumer.bars_in_memory import BarsInMemory
from tapeline.consumer.longer_bars import LongerBars
from tapeline.consumer.silver_bars import bars_from_silver
from tapeline.consumer.sinks import Sink
from tapeline.settings import Settings
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.rebuild_reads import newest_stored_trade, topic_ids
from tapeline.storage.rows import PartitionProgress
from tapeline.times import floor_to, to_micros


class Previews:
    """Writes the bars of open windows as they change, and those of the longer intervals.

    Delivery: at least once. The write time is the window's start plus the trade count, so a
    preview of fewer trades never replaces one of more, and none ever replaces a final bar.

    Args:
        session: makes doubtful windows anew.
        settings: of the stream and the keyspace.
        sink: where bars go.
        client: of the keyspace; None with a console sink, which prints what a batch alone gives.
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
        self._others: dict[str, dict[int, PartitionProgress]] = {}
        self._owns_silver = False

    def begin(self, *, owns_silver: bool) -> None:
        """Begin with nothing in memory; to be called before the first batch.

        Args:
            owns_silver: whether the same query writes silver, so that silver has all that was
                added once a batch is written.
        """
        self._owns_silver = owns_silver
        self._others = self._progress_of_others()
        stored_until = None if self._client is None else newest_stored_trade(self._client)
        self._windows = BarsInMemory(stored_until)
        self._longer = LongerBars(self._client, self._interval, self._windows)

    def add(self, bars: Sequence[Bar]) -> None:
        """Add the bars of a batch's own trades and write what is certain."""
        self._doubtful = self._windows.add(bars)
        touched = {(bar.symbol, bar.window_start) for bar in bars}
        self._write(touched - self._doubtful)

    def mend(self) -> None:
        """Make the windows anew that the batch left doubtful; silver has its trades now."""
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
            doubted = [b for b in made if (b.symbol, b.window_start) in self._doubtful]
            self._windows.put(doubted, is_exact=self._owns_silver)
        self._write(self._doubtful)
        self._doubtful = set()
        self._windows.forget()

    def exact(self, windows: Sequence[WindowKey]) -> dict[WindowKey, Bar]:
        """Return the bars of those five minutes of which every trade in silver is known.

        None while another topic brings trades into the keyspace.
        """
        is_five = self._interval is Interval.FIVE_MINUTES
        if not (is_five and self._owns_silver and self._others == self._progress_of_others()):
            return {}
        return self._windows.exact(windows)

    def _progress_of_others(self) -> dict[str, dict[int, PartitionProgress]]:
        if self._client is None:
            return {}
        others = (t for t in topic_ids(self._client) if t != self._topic_id)
        return {topic_id: self._client.progress(topic_id) for topic_id in others}

    def _write(self, windows: Collection[WindowKey]) -> None:
        if not windows:
            return
        now = datetime.now(timezone.utc)
        self._sink.write_bars(self._interval, _previews(self._windows.bars(windows), now))
        for interval, bars in self._longer.changed(windows, self._settings.stream.policy):
            self._sink.write_bars(interval, _previews(bars, now))


def _previews(bars: Iterable[Bar], now: datetime) -> list[tuple[Bar, int]]:
    """Return provisional bars, each with its write time in µs."""
    return [
        (replace(bar, updated_at=now), to_micros(bar.window_start) + bar.trade_count)
        for bar in bars
    ]
