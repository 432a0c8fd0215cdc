"""Which windows an audit looks at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tapeline.model.bar import Interval, WindowKey
from tapeline.model.times import from_millis, to_millis

_HOUR_MS: Final = Interval.ONE_HOUR.duration // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whole hours with start <= window < end, of some symbols; None is no bound."""

    start: datetime | None = None
    end: datetime | None = None
    symbols: frozenset[str] | None = None

    @classmethod
    def of(
        cls, start: datetime | None, end: datetime | None, symbols: Iterable[str] | None
    ) -> Scope:
        """Return a scope with its times widened to whole hours, as hour bars are audited too."""
        return cls(
            start and from_millis(to_millis(start) // _HOUR_MS * _HOUR_MS),
            end and from_millis(-(-to_millis(end) // _HOUR_MS) * _HOUR_MS),
            None if symbols is None else frozenset(symbols),
        )

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Scope()

    def covers(self, key: WindowKey) -> bool:
        """Return whether a window is looked at."""
        symbol, time = key
        return (
            (self.symbols is None or symbol in self.symbols)
            and (self.start is None or time >= self.start)
            and (self.end is None or time < self.end)
        )

    def only(self, rows: pa.Table) -> pa.Table:
        """Return the rows of the windows that are looked at."""
        if self.symbols is not None:
            symbols = pa.array(sorted(self.symbols), pa.string())
            rows = rows.filter(pc.is_in(rows["symbol"], symbols))
        if self.start is not None:
            rows = rows.filter(pc.greater_equal(rows["bucket_ms"], to_millis(self.start)))
        if self.end is not None:
            rows = rows.filter(pc.less(rows["bucket_ms"], to_millis(self.end)))
        return rows

    def months(self, period: date, interval: Interval) -> Iterator[tuple[datetime, datetime]]:
        """Yield the spans of time, a month at most, of a partition of gold that are looked at."""
        months = range(1, 13) if interval is Interval.ONE_HOUR else [period.month]
        for month in months:
            first = datetime(period.year, month, 1, tzinfo=timezone.utc)
            following = (first + timedelta(days=32)).replace(day=1)
            start = max(first, self.start or first)
            end = min(following, self.end or following)
            if start < end:
                yield start, end
