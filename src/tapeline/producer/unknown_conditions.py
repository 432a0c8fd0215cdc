"""Notice sale conditions that have no rule yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog

from tapeline.model.conditions import KNOWN
from tapeline.producer.validation import WireTrade

log = structlog.get_logger()

_MOST_LOGGED: Final = 100
"""A feed that sends anything at all as a condition shall not fill the log."""


class UnknownConditions:
    """Counts trades that have an unknown condition, and logs each such id once.

    Args:
        known: conditions that the rules of bars name.
    """

    def __init__(self, known: Iterable[str] = KNOWN) -> None:
        self._known = frozenset(known)
        self._logged: set[str] = set()

    def count(self, trades: Iterable[WireTrade]) -> int:
        """Return how many of the trades have a condition without a rule."""
        unknown_trades = 0
        for trade in trades:
            if not trade.conditions or self._known.issuperset(trade.conditions):
                continue
            unknown_trades += 1
            for condition in set(trade.conditions) - self._known - self._logged:
                if len(self._logged) < _MOST_LOGGED:
                    self._logged.add(condition)
                    log.warning("unknown_condition", id=condition, symbol=trade.symbol)
        return unknown_trades
