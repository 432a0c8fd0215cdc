"""Revise final bars when a gap of their feed becomes known, or turns out to be covered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from tapeline.finalize.final_bars import reconcile
from tapeline.model.bar import Bar, Interval
from tapeline.model.coverage import Coverage
from tapeline.model.gap import Gap, ends_of_all
from tapeline.model.times import floor_to, from_micros
from tapeline.storage.cassandra_client import CassandraClient

_DAYS_A_ROUND: Final = 20
"""Bound on the days of bars that one round looks at."""
_DAY: Final = timedelta(days=1)
_LOOK_BACK: Final = timedelta(days=7)
"""Gaps that ended, or were healed, before that were marked by an earlier run, or their bars are
long read."""

_Span = tuple[datetime, datetime]
_DayOfBars = tuple[Interval, str, datetime]


class GapMarks:
    """Keeps `is_complete` of final bars in step with the gaps that producers report.

    A bar that becomes final later is marked when it is finalized. The gaps of the last week are
    looked at again after a restart, which changes nothing that is right. The bars of a symbol are
    read a day at a time, however many gaps the day has.
    """

    def __init__(self, client: CassandraClient, now: Callable[[], datetime]) -> None:
        self._client = client
        self._now = now
        self._seen: Sequence[Gap] = ()
        self._known: dict[str, Gap] = {}
        self._pending: OrderedDict[_DayOfBars, list[_Span]] = OrderedDict()
        self._lasting_at: datetime | None = None

    def update(self, gaps: Sequence[Gap], coverage: Coverage) -> int:
        """Store what is new and revise a bounded number of bars; return how many were."""
        now = self._now()
        if gaps is not self._seen:
            self._take_in(gaps, now)
        if self._lasting_at is None or now - self._lasting_at >= _DAY:
            # Their rows expire, and a gap that lasts must not.
            self._client.write_gaps([gap for gap in gaps if gap.ended_us is None])
            self._lasting_at = now
        revised = 0
        for day in list(islice(self._pending, _DAYS_A_ROUND)):
            revised += self._revise(*day, self._pending[day], coverage)
            del self._pending[day]  # after the work, so that a failure loses none
        return revised

    def _take_in(self, gaps: Sequence[Gap], now: datetime) -> None:
        new = {gap.key: gap for gap in gaps if self._known.get(gap.key) != gap}
        self._client.write_gaps(new.values())
        self._known = {gap.key: gap for gap in gaps}
        ends = [(gap, end) for gap, end in ends_of_all(gaps) if gap.key in new]
        for gap, ended_us in sorted(ends, key=lambda end: end[0].started_us):
            end = now if ended_us is None else from_micros(ended_us)
            known = max(end, from_micros(gap.healed_us or 0))
            if gap.kind.marks_bars and known > now - _LOOK_BACK:
                self._add((*gap.symbols, *gap.healed), from_micros(gap.started_us), end)
        self._seen = gaps

    def _add(self, symbols: Iterable[str], start: datetime, end: datetime) -> None:
        """Have the bars that a gap overlaps looked at, those of the newest gap first."""
        for interval in Interval:
            first = floor_to(interval.duration, start)
            days = [floor_to(_DAY, first)]
            while days[-1] + _DAY <= end:
                days.append(days[-1] + _DAY)
            for symbol in symbols:
                for day in days:
                    self._pending.setdefault((interval, symbol, day), []).append((first, end))
                    self._pending.move_to_end((interval, symbol, day), last=False)

    @property
    def is_done(self) -> bool:
        """Whether no bar waits to be looked at."""
        return not self._pending

    def _revise(
        self,
        interval: Interval,
        symbol: str,
        day: datetime,
        spans: Sequence[_Span],
        coverage: Coverage,
    ) -> int:
        start = max(day, min(first for first, _ in spans))
        end = min(day + _DAY, max(last for _, last in spans) + timedelta(microseconds=1))
        wrong = [
            bar
            for bar in self._client.bars(symbol, interval, start, end)
            if bar.is_final
            and any(first <= bar.window_start <= last for first, last in spans)
            and bar.is_complete != coverage.is_complete(symbol, bar.window_start, bar.window_end)
        ]
        keys = [(symbol, bar.window_start) for bar in wrong]
        now = self._now()
        writes = [
            reconcile(stored, _marked(stored.bar, coverage), now)
            for stored in self._client.stored_bars(interval, keys).values()
            if stored.bar.is_final
        ]
        self._client.write_final_bars(interval, [write for write in writes if write is not None])
        return len(writes)


def _marked(bar: Bar, coverage: Coverage) -> Bar:
    is_complete = coverage.is_complete(bar.symbol, bar.window_start, bar.window_end)
    return replace(bar, is_complete=is_complete)
