"""Tell since when we may be behind the feed: stopped, swapped out, or too busy to read.

What has piled up in the socket is read late, and when the feed has cut us off meanwhile, the
hole began when we stopped reading in time and not when the last of it was read.
"""

from __future__ import annotations

from typing import Final

TICK_S: Final = 0.1
"""How often `tick` must be called, in seconds."""
_STALL_S: Final = 0.5
_LEAST_IDLE: Final = 0.02
"""Share of its time for which a reader that keeps up waits, at the least."""
_CAUGHT_UP_AFTER_IDLE_S: Final = 0.2


class Attention:
    """Watches one reader.

    Args:
        now_s: a clock that never steps, in seconds.
    """

    def __init__(self, now_s: float) -> None:
        self._ticked_s = now_s
        self._waiting_since_s: float | None = None
        self._idle_s = 0.0
        self._idle_since_behind_s = 0.0
        self.behind_since_s: float | None = None
        """When the reader last kept up, None while it does."""

    def waits(self, now_s: float) -> None:
        """Note that the reader waits for a frame."""
        self._waiting_since_s = now_s

    def reads(self, now_s: float) -> None:
        """Note that the reader has got a frame."""
        if self._waiting_since_s is not None:
            self._idle_s += now_s - self._waiting_since_s
        self._waiting_since_s = None

    def last_kept_up_s(self, now_s: float) -> float | None:
        """Return when the reader last kept up, None while it does; looks if no tick did lately."""
        if now_s - self._ticked_s > TICK_S + _STALL_S:
            self.tick(now_s)
        return self.behind_since_s

    def tick(self, now_s: float) -> None:
        """Look back on the time since the last tick."""
        since_s, passed_s = self._ticked_s, now_s - self._ticked_s
        self._ticked_s = now_s
        if self._waiting_since_s is not None:
            self._idle_s += now_s - self._waiting_since_s
            self._waiting_since_s = now_s
        idle_s, self._idle_s = self._idle_s, 0.0
        # Nobody read anything while this was not called, whoever seemed to wait.
        if passed_s > TICK_S + _STALL_S or idle_s < passed_s * _LEAST_IDLE:
            if self.behind_since_s is None:
                self.behind_since_s = since_s
            self._idle_since_behind_s = 0.0
        elif self.behind_since_s is not None:
            self._idle_since_behind_s += idle_s
            if self._idle_since_behind_s >= _CAUGHT_UP_AFTER_IDLE_S:
                self.behind_since_s = None
