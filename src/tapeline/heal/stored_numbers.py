"""What silver has of a symbol, by the numbers that its exchange gives to trades.

What is stored is kept as runs of numbers, each without a hole:

    numbers   4 5 6 7     10 11 12         a hole of 8 and 9: two runs
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from tapeline.feeds.feed import IdHole
from tapeline.feeds.known import BACKFILL
from tapeline.model.bar import Interval
from tapeline.model.gap import EVER, Gap
from tapeline.model.times import to_millis
from tapeline.producer.validation import WireTrade
from tapeline.storage.trades import Rows

_WINDOW_MS: Final = Interval.FIVE_MINUTES.ms
_MOST_LOOSE: Final = 10_000
"""Runs that may lie unsorted."""
_BESIDE: Final = tuple(timedelta(minutes=m) for m in (5, 60, 360, 1440))
"""How far from a time its neighbours are looked for, step by step."""


@dataclass(slots=True)
class _Run:
    """Numbers without a hole, with the event times of the first and last, ms since the epoch.

    `heard_from_ms` is when the feed itself first brought one of them; `heard_until_ms` is a time
    after which it brought one that was made after it too. What was fetched counts for neither.
    """

    first_id: int
    first_ms: int
    last_id: int
    last_ms: int
    heard_from_ms: int = EVER
    heard_until_ms: int = -1

    def takes(self, other: _Run) -> None:
        """Take in a run that begins here, or right behind this one."""
        if other.last_id > self.last_id:
            self.last_id, self.last_ms = other.last_id, other.last_ms
        self.heard_from_ms = min(self.heard_from_ms, other.heard_from_ms)
        self.heard_until_ms = max(self.heard_until_ms, other.heard_until_ms)

    def brackets(self, gap: Gap) -> bool:
        """Return whether the feed brought a number before a gap, and one that is younger than it.

        All that was missed in it has a number between these two. A trade may have come again, and
        is stored with its later receipt: so the one after has to have been made after it too.
        """
        return self.begins_before(gap) and self.ends_after(gap)

    def begins_before(self, gap: Gap) -> bool:
        """Return whether the feed brought one of these before a gap."""
        return (self.heard_from_ms + 1) * 1000 <= gap.started_us  # its receipt is cut to ms

    def ends_after(self, gap: Gap) -> bool:
        """Return whether the feed brought one of these after a gap that was made after it too."""
        return self.heard_until_ms * 1000 > gap.over_us


class StoredNumbers:
    """The numbers of one symbol that silver has in the times that were read.

    Args:
        symbol: one of ours.
        source: the name of its feed, which numbers its trades.
        trades_between: reads those of silver with start <= event time < end.
    """

    def __init__(
        self,
        symbol: str,
        source: str,
        trades_between: Callable[[datetime, datetime], Iterable[Rows]],
    ) -> None:
        self._symbol = symbol
        self._source = source
        self._trades_between = trades_between
        self._runs: list[_Run] = []
        self._most_loose = _MOST_LOOSE
        self._others: set[int] = set()
        """The windows with trades from elsewhere, whose ids are no numbers of this exchange."""

    def read(self, start: datetime, end: datetime) -> None:
        """Read the trades with start <= event time < end."""
        for rows in self._trades_between(start, end):
            for event_ms, trade_id, _, _, _, _, received_ms, source in rows:
                number = trade_id, event_ms, trade_id, event_ms
                if source == self._source:
                    until_ms = min(event_ms, received_ms)
                    self._take(_Run(*number, received_ms, until_ms))
                elif source == f"{self._source}{BACKFILL}":
                    self._take(_Run(*number))
                else:
                    self._others.add(event_ms // _WINDOW_MS)

    def read_around(self, start: datetime, end: datetime, oldest: datetime, now: datetime) -> None:
        """Read a span, and beside it until there is what the feed brought before and after it.

        Args:
            start: of the span.
            end: of the span.
            oldest: what is older is not looked at.
            now: nothing is younger.
        """
        start_ms, end_ms = to_millis(start), to_millis(end)
        self.read(max(start, oldest), min(end, now))
        edge = start
        for beside in _BESIDE:
            if edge <= oldest or any(run.heard_from_ms < start_ms for run in self._runs):
                break
            earlier = max(oldest, start - beside)
            self.read(earlier, edge)
            edge = earlier
        edge = end
        for beside in _BESIDE:
            if edge >= now or any(run.heard_until_ms > end_ms for run in self._runs):
                break
            later = min(now, end + beside)
            self.read(edge, later)
            edge = later

    def fetched(self, trades: Iterable[WireTrade]) -> None:
        """Note trades that Kafka has and silver will have."""
        for trade in trades:
            number, event_ms = trade.trade_id or 0, trade.event_time_ms
            self._take(_Run(number, event_ms, number, event_ms))

    def holes(self, start: datetime, end: datetime) -> list[IdHole]:
        """Return the holes of which a part lies in [start, end), by number."""
        start_ms, end_ms = to_millis(start), to_millis(end)
        found = []
        for before, after in pairwise(self._sorted()):
            first_ms, last_ms = sorted((before.last_ms, after.first_ms))
            if first_ms < end_ms and start_ms <= last_ms:
                numbers = before.last_id, after.first_id
                found.append(IdHole(self._symbol, *numbers, before.last_ms, after.first_ms))
        return found

    def came_from_elsewhere(self, hole: IdHole) -> bool:
        """Return whether trades of that time came under other ids, so that these would be twice."""
        first, last = sorted((hole.after_ms // _WINDOW_MS, hole.before_ms // _WINDOW_MS))
        return any(first <= window <= last for window in self._others)

    def covers(self, gap: Gap) -> bool:
        """Return whether no number is missing of what was made in a gap."""
        return any(run.brackets(gap) for run in self._sorted())

    def why_not(self, gap: Gap) -> str:
        """Return why a gap is not covered."""
        runs = self._sorted()
        if not any(run.begins_before(gap) for run in runs):
            return "silver has no trade that the feed brought up to a day before it"
        if not any(run.ends_after(gap) for run in runs):
            return "silver has no trade that the feed brought after it: run this again later"
        return "numbers of it are missing"

    def _take(self, run: _Run) -> None:
        last = self._runs[-1] if self._runs else None
        if last is not None and last.first_id <= run.first_id <= last.last_id + 1:
            last.takes(run)
            return
        self._runs.append(run)
        if len(self._runs) > self._most_loose:
            self._most_loose = _MOST_LOOSE + 2 * len(self._sorted())

    def _sorted(self) -> Sequence[_Run]:
        """Return the runs by number, those that meet as one."""
        found: list[_Run] = []
        for run in sorted(self._runs, key=lambda run: run.first_id):
            if found and run.first_id <= found[-1].last_id + 1:
                found[-1].takes(run)
            else:
                found.append(run)
        self._runs = found
        return found
