"""Revise final bars when a gap of their feed becomes known, or turns out to be covered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from tapeline.bar import Bar, Interval
from tapeline.consumer.coverage import Coverage
from tapeline.consumer.final_bars import reconcile
from tapeline.producer.gaps import Gap
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.gap_rows import write_gaps
from tapeline.storage.live_rows import write_final_bars
from tapeline.times import floor_to, from_micros

_SPANS_A_ROUND: Final = 100
"""Bound on the ranges of bars that one round looks at."""
_LOOK_BACK: Final = timedelta(days=7)
"""Gaps that ended before that were marked by an earlier run, or their bars are long read."""

_Span = tuple[Interval, str, datetime, datetime]


class GapMarks:
    """Keeps `is_complete` of final bars in step with the gaps that producers report.

    A bar that becomes final later is marked when it is settled. The gaps of the last week are
    looked at again after a restart, which changes nothing that is right.
    """

    def __init__(self, client: CassandraClient, now: Callable[[], datetime]) -> None:
        self._client = client
        self._now = now
        self._seen: Sequence[Gap] = ()
        self._known: dict[str, Gap] = {}
        self._pending: deque[_Span] = deque()

    def update(self, gaps: Sequence[Gap], coverage: Coverage) -> int:
        """Store what is new and revise a bounded number of bars; return how many were."""
        if gaps is not self._seen:
            self._take_in(gaps)
        revised = 0
        for _ in range(min(len(self._pending), _SPANS_A_ROUND)):
            revised += self._revise(*self._pending[0], coverage)
            self._pending.popleft()  # after the work, so that a failure loses none
        return revised

    def _take_in(self, gaps: Sequence[Gap]) -> None:
        new = [gap for gap in gaps if self._known.get(gap.key) != gap]
        write_gaps(self._client, new)
        self._known.update((gap.key, gap) for gap in new)
        now = self._now()
        for gap in sorted(new, key=lambda gap: gap.started_us):
            if gap.kind.marks_bars and _end_of(gap, now) > now - _LOOK_BACK:
                # The newest first: after a restart all of them are looked at again.
                self._pending.extendleft(_spans_of(gap, now))
        self._seen = gaps

    @property
    def is_done(self) -> bool:
        """Whether no bar waits to be looked at."""
        return not self._pending

    def _revise(
        self, interval: Interval, symbol: str, start: datetime, end: datetime, coverage: Coverage
    ) -> int:
        wrong = [
            bar
            for bar in self._client.bars(symbol, interval, start, end)
            if bar.is_final
            and bar.is_complete != coverage.is_complete(symbol, bar.window_start, bar.window_end)
        ]
        keys = [(symbol, bar.window_start) for bar in wrong]
        now = self._now()
        writes = [
            reconcile(stored, _marked(stored.bar, coverage), now)
            for stored in self._client.stored_bars(interval, keys).values()
            if stored.bar.is_final
        ]
        write_final_bars(self._client, interval, [write for write in writes if write is not None])
        return len(writes)


def _marked(bar: Bar, coverage: Coverage) -> Bar:
    is_complete = coverage.is_complete(bar.symbol, bar.window_start, bar.window_end)
    return replace(bar, is_complete=is_complete)


def _end_of(gap: Gap, now: datetime) -> datetime:
    return now if gap.ended_us is None else from_micros(gap.ended_us)


def _spans_of(gap: Gap, now: datetime) -> Iterable[_Span]:
    """Yield the ranges of window starts that a gap overlaps, for each interval and symbol."""
    start = from_micros(gap.started_us)
    end = _end_of(gap, now)
    for interval in Interval:
        first = floor_to(interval.duration, start)
        for symbol in gap.symbols:
            yield interval, symbol, first, end + timedelta(microseconds=1)
