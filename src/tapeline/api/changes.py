"""Which changes of final bars to follow in the store's log, and which have been made by now."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Final

from tapeline.api.poll import Seen, StoredKey
from tapeline.model.bar import Bar
from tapeline.storage.changes import BarChange

_OVERLAP: Final = timedelta(seconds=30)
"""Writers' clocks and requests may be late by so much: what was logged then is read again."""
_LATEST: Final = timedelta(minutes=10)
"""Nothing is logged with a time that lies so far back."""
_UNMADE_S: Final = 60.0
_UNMADE: Final = timedelta(seconds=_UNMADE_S)
"""A logged change that has not been made by then never will be."""


class Changes:
    """The log of final bars, as far as it has been read."""

    def __init__(self) -> None:
        self._position = datetime.now(timezone.utc)
        self._unmade: dict[BarChange, float] = {}
        self._handled: set[BarChange] = set()

    @property
    def since(self) -> datetime:
        """From when on the log is read next: what is not made yet waits."""
        return min([self._position, *(change.logged_at for change in self._unmade)]) - _OVERLAP

    @property
    def handled(self) -> frozenset[BarChange]:
        """What need not be looked at again."""
        return frozenset(self._handled)

    def begin(self) -> None:
        """Begin with what is logged from now on: nobody has listened to what was before."""
        self.__init__()  # type: ignore[misc]

    def poll_again(self) -> None:
        """Let everything that is read again count again, since somebody has joined."""
        self._handled.clear()

    def made(self, seen: Seen) -> dict[StoredKey, Bar]:
        """Return the bars of logged changes that have been made by now, and move on."""
        now_s, now = time.monotonic(), datetime.now(timezone.utc)
        for change in seen.changes:
            if change not in self._handled:
                self._unmade.setdefault(change, now_s)
        made: dict[StoredKey, Bar] = {}
        for change, since_s in list(self._unmade.items()):
            key = change.interval, change.symbol, change.window_start
            bar = seen.changed.get(key)
            if bar is not None and _is_made(change, bar):
                made[key] = bar
            elif now_s - since_s < _UNMADE_S and now - change.logged_at < _UNMADE:
                continue
            del self._unmade[change]
            self._handled.add(change)
        # Where nothing is logged, what is read again must not grow forever. A writer's clock
        # may be ahead; others still write what lies before its time.
        self._position = min(now, max(self._position, seen.position, now - _LATEST))
        self._handled = {c for c in self._handled if c.logged_at >= self._position - _OVERLAP}
        return made


def _is_made(change: BarChange, bar: Bar) -> bool:
    """Return whether a stored bar is as new as a logged change says."""
    if change.updated_at is None or bar.updated_at is None:
        return bar.is_final
    return bar.is_final and bar.updated_at >= change.updated_at
