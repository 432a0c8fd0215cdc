"""The simulated market before it was turned on: the same market with fewer and larger prints."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile
from typing import Any, Final

from tapeline.model.times import to_millis
from tapeline.simulator.feed import FeedFrame
from tapeline.simulator.market import RandomMarket

_THINNING: Final = 60
_FRAME_MS: Final = 1000


def past_frames(seed: int, start: datetime, end: datetime) -> Iterator[FeedFrame]:
    """Yield the frames of the market between two times, in order.

    Prices end where the live market begins: each symbol's walk is made from there and then turned
    round, which leaves a random walk a random walk.
    """
    start_ms, end_ms = to_millis(start), to_millis(end)
    market = RandomMarket(seed, start_ms, _FRAME_MS, thinning=_THINNING)
    frames = list(takewhile(lambda frame: frame.due_ms <= end_ms, market.frames(start_ms)))
    walks: dict[str, list[float]] = {}
    for frame in frames:
        for trade in frame.trades:
            walks.setdefault(trade["s"], []).append(trade["p"])
    for frame in frames:
        turned: list[dict[str, Any]] = [{**t, "p": walks[t["s"]].pop()} for t in frame.trades]
        yield FeedFrame(frame.due_ms, turned)
