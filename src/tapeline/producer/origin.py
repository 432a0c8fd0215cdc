"""Where messages come from: it travels with every trade and report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Which producer reads what for which topic.

    `source` goes into each trade. `speed` is the feed's, as `TradeIdentity` takes it.
    """

    source: str
    producer_id: str
    topic_id: str
    speed: float | None = 1.0
