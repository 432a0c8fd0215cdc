"""The bars of the windows that the stream has affected, as far as its process knows them.

A batch gives the bar of its own trades. Where all of them were made after those that a window had
before, none can be a redelivery of one of these, so the two bars together are the bar of all:

    window    ───a──b──c──│──d───e──▶      d is later than c: [a c] and [d e] make [a e]
    window    ───a──b──c──│──b───d──▶      b is not: the window is doubtful

A doubtful window is made again from silver, which has each trade once. So is one that may have got
trades before this process began. The rest costs nothing but what has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from tapeline.model.bar import Bar, WindowKey
from tapeline.model.rollup import combined

_MOST: Final = 100_000
"""Windows that are remembered; about 1 kB each."""
_ALWAYS: Final = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(slots=True)
class _Known:
    """A window's bar.

    It `is_exact` while it has every trade that came, each once, and `is_seen` while every one was
    seen here, in order, and none was taken from silver.
    """

    bar: Bar
    is_exact: bool
    is_seen: bool


class BarsInMemory:
    """The bars of the windows that a stream has affected since it began.

    Args:
        doubtful_until: windows that start by then may have trades from before; None when there
            are none. It is the newest event time that is committed: what else is in silver is
            of a batch that the stream runs again.
        most: how many are remembered; the oldest are forgotten first.
    """

    def __init__(self, doubtful_until: datetime | None, most: int = _MOST) -> None:
        self._doubtful_until = _ALWAYS if doubtful_until is None else doubtful_until
        self._most = most
        self._known: dict[WindowKey, _Known] = {}
        # Bars are taken by the thread that finalizes while a batch adds others.
        self._lock = threading.Lock()

    def add(self, new: Iterable[Bar]) -> set[WindowKey]:
        """Add the bars of a batch; return the windows that are doubtful now.

        A doubtful one keeps the bar that it had until it is made again.
        """
        doubtful: set[WindowKey] = set()
        with self._lock:
            for bar in sorted(new, key=_first_trade_time):
                if not self._merge(bar):
                    doubtful.add(_window_of(bar))
        return doubtful

    def put(self, made: Iterable[Bar], *, is_exact: bool) -> None:
        """Take the bars of doubtful windows that were made from silver.

        Args:
            made: the bars.
            is_exact: silver has every trade of the batches that were added.
        """
        with self._lock:
            for bar in made:
                self._known[_window_of(bar)] = _Known(bar, is_exact, is_seen=False)

    def seen(self, windows: Iterable[WindowKey]) -> dict[WindowKey, Bar]:
        """Return the bars of those windows of which every trade was seen here, in order."""
        with self._lock:
            found = {window: self._known.get(window) for window in windows}
        return {window: k.bar for window, k in found.items() if k is not None and k.is_seen}

    def bars(self, windows: Iterable[WindowKey]) -> list[Bar]:
        """Return the bars of those windows that are remembered, in the order given."""
        with self._lock:
            found = [self._known.get(window) for window in windows]
        return [known.bar for known in found if known is not None]

    def knows_all_since(self, start: datetime) -> bool:
        """Return whether every window that begins at `start` or later is remembered."""
        return start > self._doubtful_until

    def forget(self) -> None:
        """Drop the oldest windows when there are too many."""
        with self._lock:
            if len(self._known) <= self._most:
                return
            by_age = sorted(self._known, key=lambda window: window[1])
            for window in by_age[: len(by_age) - self._most * 3 // 4]:
                del self._known[window]
                self._doubtful_until = max(self._doubtful_until, window[1])

    def _merge(self, new: Bar) -> bool:
        """Add one bar; return whether the window stays exact."""
        window = _window_of(new)
        before = self._known.get(window)
        if before is None:
            is_new = self.knows_all_since(new.window_start)
            self._known[window] = _Known(new, is_exact=is_new, is_seen=is_new)
            return is_new
        if not before.is_exact or _first_trade_time(new) <= _last_trade_time(before.bar):
            before.is_exact = before.is_seen = False
            return False
        before.bar = _joined(before.bar, new)
        return True


def _joined(before: Bar, after: Bar) -> Bar:
    return combined([before, after], before.window_start, before.window_end)


def _window_of(bar: Bar) -> WindowKey:
    return bar.symbol, bar.window_start


def _first_trade_time(bar: Bar) -> datetime:
    assert bar.first_trade_time is not None  # noqa: S101 - for the type checker: it has trades
    return bar.first_trade_time


def _last_trade_time(bar: Bar) -> datetime:
    assert bar.last_trade_time is not None  # noqa: S101 - the same
    return bar.last_trade_time
