"""The gaps that may still mark a bar: those of no more than the lifetime of silver."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from tapeline.model.gap import Gap, ends_of_all
from tapeline.model.times import to_micros

_HOUR_US: Final = 3_600_000_000


class RecentGaps:
    """Leaves out gaps whose bars cannot be made again, since silver has lost their trades.

    Args:
        lifetime: of silver's trades; 0 is forever.
    """

    def __init__(self, lifetime: timedelta) -> None:
        self._lifetime = lifetime
        self._all: Sequence[Gap] = ()
        self._recent: Sequence[Gap] = ()
        self._looked_at_us = 0
        self.known_from_us = 0
        """Since when all gaps are among the recent ones, in µs since the epoch."""

    def of(self, gaps: Sequence[Gap], now: datetime) -> Sequence[Gap]:
        """Return the recent ones: the same object while there are no others.

        Args:
            gaps: all that were ever reported, the same object while no more are.
            now: the clock.
        """
        if not self._lifetime:
            return gaps
        now_us = to_micros(now)
        if gaps is not self._all or now_us - self._looked_at_us >= _HOUR_US:
            self.known_from_us = to_micros(now - self._lifetime)
            recent = _ended_after(gaps, self.known_from_us)
            if recent != self._recent:
                self._recent = recent
            self._all, self._looked_at_us = gaps, now_us
        return self._recent


def _ended_after(gaps: Sequence[Gap], instant_us: int) -> tuple[Gap, ...]:
    """Return the gaps that last or ended later, as their producer's next life tells it."""
    return tuple(
        gap for gap, ended_us in ends_of_all(gaps) if ended_us is None or ended_us > instant_us
    )
