"""Longer bars of one symbol while they form: stored parts and open ones, rolled up."""

from __future__ import annotations

from datetime import datetime

from tapeline.model.bar import Bar
from tapeline.model.longer_windows import part_of
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rollup import ReadingOf, combined, plainly

_Window = tuple[datetime, datetime]


class LongBars:
    """The newest bars of one length, from five-minute bars of whatever origin.

    Only the newest part changes often. What lies before it is rolled up once and kept, so that
    a change costs the same for a day as for a quarter of an hour.

    Args:
        length: longer than the parts.
        reading: by the policy of a part, which trades make a share's day.
    """

    def __init__(self, length: ReadInterval, reading: ReadingOf = plainly) -> None:
        self._length = length
        self._reading = reading
        self._window: _Window | None = None
        self._parts: dict[datetime, Bar] = {}
        self._before: Bar | None = None

    def put(self, part: Bar) -> bool:
        """Take a part, new or changed; return whether the newest longer bar has changed.

        A part of a longer bar before the newest changes nothing: that one comes from the tables.
        """
        found = part_of(part, self._length, self._reading(part.policy))
        if found is None or (self._window is not None and found[0] < self._window):
            return False
        window, part = found
        if window != self._window:
            self._window, self._parts, self._before = window, {}, None
        start = part.window_start
        if start not in self._parts or start < max(self._parts):
            self._before = None
        self._parts[start] = part
        return True

    def bar(self) -> Bar | None:
        """Return the newest longer bar as it is now, provisional; None where there is no part."""
        if self._window is None:
            return None
        *before, newest = sorted(self._parts)
        parts = [self._parts[newest]]
        if before:
            if self._before is None:
                self._before = combined([self._parts[s] for s in before], *self._window)
            parts.insert(0, self._before)
        return combined(parts, *self._window)
