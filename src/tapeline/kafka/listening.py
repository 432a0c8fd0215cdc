"""How long Kafka has answered us: while it is away, no producer can report."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

_MOST_BETWEEN: Final = timedelta(seconds=30)
"""What the time between two answers counts at most: we may have been stopped meanwhile."""


class Listening:
    """Adds up the time between answers; none while there was a failure between them."""

    def __init__(self) -> None:
        self._answered_at: datetime | None = None
        self.total = timedelta(0)
        """For how long Kafka has answered, since the start."""

    def asks(self) -> datetime | None:
        """Note that Kafka is asked; return when it last answered, None if it failed since."""
        before, self._answered_at = self._answered_at, None
        return before

    def answered(self, before: datetime | None, now: datetime) -> None:
        """Note that it has answered.

        Args:
            before: what `asks` returned.
            now: the clock, which may have been set back.
        """
        if before is not None:
            self.total += min(max(now - before, timedelta(0)), _MOST_BETWEEN)
        self._answered_at = now
