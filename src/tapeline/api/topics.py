"""What a client may listen to: symbols, lengths of bars, and channels."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from tapeline.api.listeners import TRADES, Topic
from tapeline.api.parameters import IntervalName


class Channel(str, Enum):
    """What comes of a symbol."""

    BARS = "bars"
    TRADES = "trades"


_INTERVAL: Final = "(?:" + "|".join(name.value for name in IntervalName) + ")"
ANY_INTERVALS: Final = f"^{_INTERVAL}(?:,{_INTERVAL}){{0,4}}$"
"""Lengths of bars with commas between them."""
ANY_CHANNELS: Final = "^(?:bars|trades|bars,trades|trades,bars)$"
"""Channels with a comma between them."""


def topics_of(
    symbols: Iterable[str], intervals: Iterable[str], channels: Iterable[str]
) -> set[Topic]:
    """Return the topics of some symbols."""
    lengths = set(intervals) if Channel.BARS.value in channels else set()
    if Channel.TRADES.value in channels:
        lengths.add(TRADES)
    return {(name, symbol) for name in lengths for symbol in symbols}
