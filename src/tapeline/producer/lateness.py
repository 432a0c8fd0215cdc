"""How long after their event time trades come: a break takes those with it that were under way."""

from __future__ import annotations

from typing import Final

from tapeline.model.feed_status import MOST_OFF_S

_MOST_US: Final = round(MOST_OFF_S * 1_000_000)
_MEAN_WEIGHT: Final = 1 / 8
_SPREAD_WEIGHT: Final = 1 / 4
_SPREADS: Final = 4


class Lateness:
    """Follows a feed as TCP does a round trip (RFC 6298): the mean, and four times the spread."""

    def __init__(self) -> None:
        self._mean_us: float | None = None
        self._spread_us = 0.0

    @property
    def most_us(self) -> int:
        """How late trades usually are at the most, in µs; up to a minute."""
        if self._mean_us is None:
            return 0
        return min(_MOST_US, round(self._mean_us + _SPREADS * self._spread_us))

    def note(self, received_us: int, newest_ms: int) -> None:
        """Take in a frame.

        Args:
            received_us: when it came, µs since the epoch.
            newest_ms: event time of its newest trade, ms since the epoch.
        """
        late_us = min(max(received_us - newest_ms * 1000, 0), _MOST_US)
        if self._mean_us is None:
            self._mean_us, self._spread_us = late_us, late_us / 2
            return
        self._spread_us += _SPREAD_WEIGHT * (abs(late_us - self._mean_us) - self._spread_us)
        self._mean_us += _MEAN_WEIGHT * (late_us - self._mean_us)
