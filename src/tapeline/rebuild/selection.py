"""Which windows a rebuild looks at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from tapeline.model.bar import Interval, WindowKey


@dataclass(frozen=True, slots=True)
class Selection:
    """The five-minute windows that start in [start, end), of some symbols; None is all."""

    start: datetime | None = None
    end: datetime | None = None
    symbols: frozenset[str] | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.start is None and self.end is None and self.symbols is None

    def covers(self, key: WindowKey) -> bool:
        """Return whether a window is meant."""
        symbol, start = key
        return (
            (self.symbols is None or symbol in self.symbols)
            and (self.start is None or start >= self.start)
            and (self.end is None or start < self.end)
        )

    def touches(self, hour: WindowKey) -> bool:
        """Return whether some window of an hour may be meant."""
        symbol, start = hour
        last = start + Interval.ONE_HOUR.duration - timedelta(microseconds=1)
        return (
            (self.symbols is None or symbol in self.symbols)
            and (self.start is None or last >= self.start)
            and (self.end is None or start < self.end)
        )

    @property
    def name(self) -> str:
        """A name for files: the same for the same selection, and for no other."""
        symbols = "*" if self.symbols is None else ",".join(sorted(self.symbols))
        return hashlib.sha256(f"{self.start} {self.end} {symbols}".encode()).hexdigest()[:12]
