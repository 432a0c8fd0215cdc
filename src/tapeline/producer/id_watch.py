"""Notice trades that never came, by the numbers that an exchange gives to those of each symbol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tapeline.producer.validation import WireTrade


class SkippedIds(NamedTuple):
    """The numbers between two that came, both without; the event times of these, ms since 1970."""

    symbol: str
    after_id: int
    before_id: int
    after_ms: int
    before_ms: int


class IdWatch:
    """The newest number of each symbol, over all connections."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[int, int]] = {}

    def note(self, trades: Iterable[WireTrade]) -> list[SkippedIds]:
        """Note the trades of a frame; return what was left out before them.

        A number that is not above the newest one is of a trade that came again or late.
        """
        skipped = []
        for trade in trades:
            if trade.trade_id is None:
                continue
            known = self._newest.get(trade.symbol)
            if known is not None:
                after_id, after_ms = known
                if trade.trade_id <= after_id:
                    continue
                if trade.trade_id > after_id + 1:
                    found = (trade.symbol, after_id, trade.trade_id, after_ms, trade.event_time_ms)
                    skipped.append(SkippedIds(*found))
            self._newest[trade.symbol] = (trade.trade_id, trade.event_time_ms)
        return skipped
