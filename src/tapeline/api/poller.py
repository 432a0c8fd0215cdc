"""What to ask the store next: by what is listened to, and by what the live view holds."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Final

from tapeline.api.changes import Changes
from tapeline.api.listeners import TRADES, Topic
from tapeline.api.live_view import LiveView
from tapeline.api.open_bars import Open
from tapeline.api.poll import PollRequest, Stored
from tapeline.model.bar import Bar, Interval
from tapeline.model.longer_windows import trades_until, window_of
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rules import PLAIN, ReadingRules
from tapeline.model.sessions import whole_day
from tapeline.model.times import floor_to

_WIDE_S: Final = 10.0
"""So often the last hour is looked at too, and which topics feed the keyspace."""
_WIDE: Final = timedelta(hours=1)
_Due = tuple[ReadInterval, str, datetime]
"""A bar that is rolled up on reading: its length, symbol and start."""


@cache
def length_of(name: str) -> ReadInterval:
    """Return the length of the bars of a topic; trades count as five minutes."""
    return ReadInterval.parse(Interval.FIVE_MINUTES.value if name == TRADES else name)


def base_of(length: ReadInterval) -> Interval:
    """Return the stored interval whose open bars the bars of a length are made of."""
    is_minutes = length.duration % Interval.FIVE_MINUTES.duration
    return Interval.ONE_MINUTE if is_minutes else Interval.FIVE_MINUTES


class Poller:
    """Works out one look after another.

    Args:
        policies: those that are known, and how their bars are read.
    """

    def __init__(self, policies: Mapping[str | None, ReadingRules]) -> None:
        self._policies = policies
        self._wide_s = -_WIDE_S
        self._due: dict[_Due, datetime] = {}

    def next(
        self,
        topics: Collection[Topic],
        joining: Collection[Topic],
        changes: Changes,
        view: LiveView,
        open_bars: Open,
    ) -> PollRequest:
        """Return what to ask for now.

        Args:
            topics: all that are listened to.
            joining: those of them that somebody has just begun to listen to.
            changes: how far the log of final bars has been read.
            view: what it holds is not asked for.
            open_bars: the provisional ones that listeners are shown.
        """
        now, now_s = datetime.now(timezone.utc), time.monotonic()
        is_wide = now_s - self._wide_s >= _WIDE_S or view.lacks_progress
        if is_wide:
            self._wide_s = now_s
        followed: set[Stored] = set()
        newest: dict[Stored, datetime] = {}
        longer, shown = {}, {}
        for topic in topics:
            name, symbol = topic
            if name == TRADES:
                continue
            length, base = length_of(name), (base_of(length_of(name)), symbol)
            shown[length, symbol] = floor_to(length.duration, now - length.duration)
            followed |= {base, (length.stored, symbol)}
            first = now - 2 * base[0].duration
            if topic in joining:
                first = min(first, self._begins(length, symbol, now))
                if name != base[0].value:
                    longer[length, symbol] = floor_to(length.duration, now - length.duration)
            elif is_wide:
                first = now - _WIDE
            elif view.holds(base, now):
                continue
            newest[base] = min(first, newest.get(base, first))
        return PollRequest(
            frozenset(followed),
            changes.since,
            changes.handled,
            newest,
            longer,
            frozenset((*due, until) for due, until in self._due.items()),
            shown,
            open_bars,
            asks_progress=is_wide,
        )

    def note_final(self, topics: Collection[Topic], interval: Interval, bar: Bar) -> None:
        """Look at the longer bars that a final or revised bar is part of, until they are final."""
        for name, symbol in topics:
            length = length_of(name)
            is_part = symbol == bar.symbol and not length.is_stored and length.stored is interval
            reading = self._policies.get(bar.policy, PLAIN)
            if not is_part or name == TRADES:
                continue
            if (window := window_of(bar, length, reading)) is not None:
                until = max(window[1], trades_until(bar, length, reading))
                self._due[length, symbol, window[0]] = until

    def note_longer(self, length: ReadInterval, bar: Bar) -> None:
        """Look at a longer bar again until it is final."""
        if length.is_stored:
            return
        key = length, bar.symbol, bar.window_start
        if bar.is_final:
            self._due.pop(key, None)
        else:
            self._due[key] = trades_until(bar, length, self._policies.get(bar.policy, PLAIN))

    def forget(self, topics: Collection[Topic]) -> None:
        """Look no more at what nobody listens to."""
        self._due = {d: until for d, until in self._due.items() if (d[0].name, d[1]) in topics}

    def _begins(self, length: ReadInterval, symbol: str, now: datetime) -> datetime:
        """Return from when on trades can count to the present bar of a length."""
        is_wide = length.is_day and any(rules.all_day for rules in self._policies.values())
        whole = whole_day(symbol, now) if is_wide else None
        start = floor_to(length.duration, now)
        return start if whole is None else min(start, whole[0])
