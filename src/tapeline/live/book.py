"""The open bars of what somebody wants, whole or not shown, in bounded memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from tapeline.live.fold import OpenBar
from tapeline.model.bar import Bar, Interval
from tapeline.model.rules import Rules
from tapeline.model.times import from_millis
from tapeline.model.trade import Trade

Topic = tuple[Interval, str]
"""Bars of one stored length of one symbol."""

_MS: Final = timedelta(milliseconds=1)
_PACE_S: Final = 0.1
"""A topic's changes are told at once after a pause, and else this far apart."""
_MOST_TRADES: Final = 1_000_000
"""Trades whose ids are remembered, some 130 bytes each."""


class Book:
    """Open bars by topic and window.

    A window is told of when all its trades are known to be in it: from the first window that the
    log was read for on. Before that its trades are taken and nothing is told.

    Args:
        policy: which trades set and add to what.
        most_trades: that are kept; above that the oldest windows are given up.
    """

    def __init__(self, policy: Rules, most_trades: int = _MOST_TRADES) -> None:
        self._policy = policy
        self._most_trades = most_trades
        self._lengths: dict[str, tuple[tuple[Interval, int], ...]] = {}
        self._open: dict[Topic, dict[int, OpenBar]] = {}
        self._floors: dict[Topic, int] = {}
        self._whole: set[Topic] = set()
        self._changed: defaultdict[Topic, set[int]] = defaultdict(set)
        self._told_s: dict[Topic, float] = {}
        self.trades = 0
        """Trades whose ids are remembered."""
        self.keys: frozenset[bytes] = frozenset()
        """The keys of the messages that matter."""
        self.held_from: dict[Topic, datetime] = {}
        """From which window start on each topic is whole; what is not whole is left out."""

    @property
    def topics(self) -> frozenset[Topic]:
        """What is wanted."""
        return frozenset(self._open)

    @property
    def has_changed(self) -> bool:
        """Whether there is something to tell of, now or a little later."""
        return bool(self._changed)

    def want(self, topics: frozenset[Topic], start_ms: int) -> frozenset[Topic]:
        """Want these topics and no others; return those that are new.

        Args:
            topics: all that are wanted.
            start_ms: windows of new topics count from here on, ms since the epoch.
        """
        for topic in self._open.keys() - topics:
            self.trades -= sum(map(len, self._open.pop(topic).values()))
            self._floors.pop(topic)
            self._whole.discard(topic)
            self._changed.pop(topic, None)
            self._told_s.pop(topic, None)
        new = topics - self._open.keys()
        for topic in new:
            self._open[topic] = {}
            self._floors[topic] = start_ms
        lengths: defaultdict[str, list[tuple[Interval, int]]] = defaultdict(list)
        for interval, symbol in self._open:
            lengths[symbol].append((interval, interval.duration // _MS))
        self._lengths = {symbol: tuple(some) for symbol, some in lengths.items()}
        self.keys = frozenset(symbol.encode() for symbol in lengths)
        self._tell_held()
        return new

    def make_whole(self, topics: Iterable[Topic], from_ms: int) -> None:
        """Say that the log has been read for topics: windows that start at `from_ms` are whole."""
        for topic in topics:
            if topic in self._open:
                self._raise_floor(topic, from_ms)
                self._whole.add(topic)
                self._changed[topic].update(self._open[topic])
        self._tell_held()

    def fold(self, trade: Trade) -> bool:
        """Take a trade; return whether it is new in a window that is kept."""
        is_new = False
        for interval, length_ms in self._lengths.get(trade.symbol, ()):
            topic = interval, trade.symbol
            start_ms = trade.event_time_ms - trade.event_time_ms % length_ms
            if start_ms < self._floors[topic]:
                continue
            bars = self._open[topic]
            bar = bars.get(start_ms)
            if bar is None:
                bar = bars[start_ms] = OpenBar(trade.symbol, start_ms, length_ms, self._policy)
            if bar.fold(trade):
                is_new = True
                self.trades += 1
            self._changed[topic].add(start_ms)
        return is_new

    def take_changed(self, now_s: float) -> list[tuple[Interval, Bar]]:
        """Return the bars to tell of now, by topic and time; the others wait for their turn."""
        found = []
        for topic in list(self._changed):
            is_due = now_s - self._told_s.get(topic, -_PACE_S) >= _PACE_S
            if topic in self._whole and is_due:
                self._told_s[topic] = now_s
                bars = self._open[topic]
                starts = sorted(self._changed.pop(topic) & bars.keys())
                found += [(topic[0], bars[start_ms].bar()) for start_ms in starts]
        return found

    def forget(self, before_ms: int) -> None:
        """Give up windows that start before then, and the oldest while there is too much."""
        for topic in self._open:
            self._raise_floor(topic, before_ms)
        while self.trades > self._most_trades:
            oldest = min(min(bars) for bars in self._open.values() if bars)
            for topic in self._open:
                self._raise_floor(topic, oldest + 1)
        self._tell_held()

    def _tell_held(self) -> None:
        self.held_from = {topic: from_millis(self._floors[topic]) for topic in self._whole}

    def _raise_floor(self, topic: Topic, from_ms: int) -> None:
        """Give up what starts before the first whole window at or after `from_ms`."""
        length_ms = topic[0].duration // _MS
        floor_ms = -(-from_ms // length_ms) * length_ms
        if floor_ms <= self._floors[topic]:
            return
        self._floors[topic] = floor_ms
        bars = self._open[topic]
        for start_ms in [start for start in bars if start < floor_ms]:
            self.trades -= len(bars.pop(start_ms))
