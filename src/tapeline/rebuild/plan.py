"""Which windows there are to rebuild, hour by hour, from what Cassandra knows of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tapeline.finalize.bar_writer import first_receipts
from tapeline.finalize.final_bars import is_past_lifetime
from tapeline.model.bar import WindowKey
from tapeline.rebuild.selection import Selection
from tapeline.storage.bar_rows import StoredStart
from tapeline.storage.windows import WindowState


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of one symbol."""

    symbol: str
    start: datetime
    known: frozenset[datetime]
    """Its five-minute windows that got trades or have bars."""
    selected: Sequence[datetime]
    """Those among them that are to be rebuilt, in order."""

    @property
    def key(self) -> WindowKey:
        """The hour as a window."""
        return self.symbol, self.start

    @property
    def windows(self) -> list[WindowKey]:
        """The windows to rebuild."""
        return [(self.symbol, start) for start in self.selected]


@dataclass(slots=True)
class Plan:
    """Everything that is known of the windows of a selection.

    Windows whose first trade came in `silver_ttl` before `now` have begun to expire from silver.
    """

    selection: Selection
    silver_ttl: timedelta
    now: datetime
    only: Collection[WindowKey] | None = None
    """Windows to which the selection is limited; None is no limit."""
    starts: dict[WindowKey, set[datetime]] = field(default_factory=lambda: defaultdict(set))
    """The known windows of each hour."""
    received: dict[WindowKey, datetime] = field(default_factory=dict)
    """When the first trade of a window came in, where its state says so."""
    stateless: set[WindowKey] = field(default_factory=set)
    """Windows of which there is a bar and no state."""

    def add_states(self, states: Iterable[WindowState]) -> None:
        """Add windows that got trades; the whole hour of each that is selected."""
        for state in states:
            hour = hour_of((state.symbol, state.window_start))
            if self.selection.touches(hour):
                self.starts[hour].add(state.window_start)
                for key, at in first_receipts([state]).items():
                    self.received[key] = min(at, self.received.get(key, at))

    def add_bars(self, bars: Iterable[StoredStart]) -> None:
        """Add windows that have a bar."""
        for bar in bars:
            key = bar.symbol, bar.window_start
            hour = hour_of(key)
            if self.selection.touches(hour) and bar.window_start not in self.starts[hour]:
                self.starts[hour].add(bar.window_start)
                self.stateless.add(key)

    def hours(self) -> list[Hour]:
        """Return the hours with windows to rebuild, oldest first."""
        found = []
        for (symbol, start), known in self.starts.items():
            selected = [
                s
                for s in sorted(known)
                if self._is_meant((symbol, s)) and not self._has_expired((symbol, s))
            ]
            if selected:
                found.append(Hour(symbol, start, frozenset(known), selected))
        return sorted(found, key=lambda h: (h.start, h.symbol))

    def expired(self) -> Iterator[WindowKey]:
        """Yield the selected windows that have begun to expire from silver."""
        for (symbol, _), known in self.starts.items():
            for start in sorted(known):
                key = symbol, start
                if self._is_meant(key) and self._has_expired(key):
                    yield key

    def _is_meant(self, key: WindowKey) -> bool:
        return self.selection.covers(key) and (self.only is None or key in self.only)

    def _has_expired(self, key: WindowKey) -> bool:
        return is_past_lifetime(self.received.get(key), self.silver_ttl, self.now)


def hour_of(key: WindowKey) -> WindowKey:
    """Return the hour that a window lies in."""
    symbol, start = key
    return symbol, start.replace(minute=0)


def in_chunks(hours: Iterable[Hour], max_windows: int) -> Iterator[list[Hour]]:
    """Yield whole hours, as many as have that many windows together; at least one."""
    chunk: list[Hour] = []
    windows = 0
    for hour in hours:
        if chunk and windows + len(hour.selected) > max_windows:
            yield chunk
            chunk, windows = [], 0
        chunk.append(hour)
        windows += len(hour.selected)
    if chunk:
        yield chunk
