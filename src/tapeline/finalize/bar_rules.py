"""What the final bars of a keyspace are made by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tapeline.model.rules import Rules
from tapeline.program.settings import Settings


@dataclass(frozen=True, slots=True)
class BarRules:
    """Which trades make a bar, how long they may come, and how many bars are made at once.

    Args:
        policy: which trades set and add to what.
        silver_ttl: how long trades stay in silver; 0 is forever.
        delay: how late a trade may be before it means a revision.
        max_windows: how many windows are computed, written and marked at once.
        stores_1m: keep bars of one minute too.
    """

    policy: Rules
    silver_ttl: timedelta
    delay: timedelta
    max_windows: int
    stores_1m: bool

    @classmethod
    def of(cls, settings: Settings) -> BarRules:
        """Return the rules that the settings name."""
        stream = settings.stream
        return cls(
            policy=stream.policy,
            silver_ttl=timedelta(seconds=settings.cassandra.silver_ttl_s),
            delay=timedelta(seconds=stream.watermark_s),
            max_windows=stream.finalize_max_windows,
            stores_1m=stream.store_1m,
        )
