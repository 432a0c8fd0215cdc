"""Longer bars of one symbol while they form: stored parts and open ones, rolled up."""

from __future__ import annotations

from datetime import datetime

from tapeline.model.bar import Bar
from tapeline.model.rollup import ReadInterval, combined, window_of

_Window = tuple[datetime, datetime]


class LongBars:
    """The newest bars of one length, from five-minute bars of whatever origin.

    Only the newest part changes often. What lies before it is rolled up once and kept, so that
    a change costs the same for a day as for a quarter of an hour.

    Args:
        length: longer than the parts.
    """

    def __init__(self, length: ReadInterval) -> None:
        self._length = length
        self._window: _Window | None = None
        self._parts: dict[datetime, Bar] = {}
        self._before: Bar | None = None

    def put(self, part: Bar) -> bool:
        """Take a part, new or changed; return whether the newest longer bar has changed.

        A part of a longer bar before the newest changes nothing: that one comes from the tables.
        """
        window = window_of(part, self._length)
        if window is None or (self._window is not None and window < self._window):
            return False
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
