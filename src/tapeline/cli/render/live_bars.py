"""What a live chart shows: the newest bars of a symbol, and the state of the feed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from rich.text import Text

from tapeline.finalize.horizon import newest_receipt
from tapeline.model.bar import Bar
from tapeline.model.gap import Gap
from tapeline.model.read_interval import ReadInterval
from tapeline.read.bars import bars_between
from tapeline.storage.cassandra_client import CassandraClient

_LONG_WEEKEND: Final = timedelta(days=4)
_WHOLE_EVERY: Final = timedelta(seconds=60)
_GAPS_EVERY: Final = timedelta(seconds=5)
_FRESH: Final = timedelta(seconds=60)


class LiveBars:
    """The bars of one symbol, kept up to date by reading little.

    Each time from the oldest provisional bar on, and once a minute all of them, since a final
    bar may be revised.
    """

    def __init__(
        self,
        client: CassandraClient,
        symbol: str,
        interval: ReadInterval,
        start: datetime | None,
        end: datetime | None,
    ) -> None:
        self._client = client
        self._symbol = symbol
        self._interval = interval
        self._start = start
        self._end = end
        self._read_whole_at: datetime | None = None
        self.bars: list[Bar] = []
        """In order of time."""

    def refresh(self, now: datetime, count: int) -> None:
        """Read what may have changed; `count` is how many bars there is room for."""
        first = self._start or now - max(_LONG_WEEKEND, self._interval.duration * count)
        is_due = self._read_whole_at is None or now - self._read_whole_at >= _WHOLE_EVERY
        changing = (b.window_start for b in self.bars if not b.is_final)
        last = self.bars[-1].window_start if self.bars else first
        since = first if is_due else min(changing, default=last)
        stop = self._end or now + self._interval.duration
        found = bars_between(self._client, self._symbol, self._interval, since, stop)
        new = list(found)
        kept = [b for b in self.bars if b.window_start < since and not is_due]
        self.bars = (kept + new)[-max(count, 1) :]
        if is_due:
            self._read_whole_at = now


class LiveFeed:
    """Whether trades come: the newest receipt in silver, and gaps that last."""

    def __init__(self, client: CassandraClient, keyspace: str) -> None:
        self._client = client
        self.keyspace = keyspace
        self._newest: datetime | None = None
        self._gaps: list[Gap] = []
        self._gaps_read_at: datetime | None = None

    def refresh(self, now: datetime) -> None:
        """Read the newest receipt, and the gaps every few seconds."""
        receipts = map(newest_receipt, self._client.progress_of_topics().values())
        self._newest = max(filter(None, receipts), default=None)
        if self._gaps_read_at is None or now - self._gaps_read_at >= _GAPS_EVERY:
            self._gaps = [g for g in self._client.gaps(now, now) if g.ended_us is None]
            self._gaps_read_at = now

    def state_of(self, symbol: str, now: datetime) -> Text:
        """Say in a few words whether a symbol's feed is there."""
        gap = next((g for g in self._gaps if g.kind.marks_bars and symbol in g.symbols), None)
        if gap is not None:
            return Text(f"no feed: {gap.kind.value}", "bold red")
        if self._newest is None:
            return Text("no trade yet", "yellow")
        age = now - self._newest
        return Text(f"newest trade {age_of(age)} ago", "" if age < _FRESH else "yellow")


def age_of(age: timedelta) -> str:
    """Write a time with one unit, the coarsest that says something."""
    seconds = max(0.0, age.total_seconds())
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - digits
