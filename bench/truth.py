"""The truth: every bar worked out from the load itself, in whole numbers, before any contestant.

It sees no byte of Avro, no table and none of the code that is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from bench.eligibility import eligibility, sets_prices
from bench.load import UNIT, LoadTrade

FIVE_MINUTES_MS: Final = 300_000
HOUR_MS: Final = 3_600_000
_HALF: Final = UNIT // 2
Window = tuple[str, int]
"""Symbol and start in ms."""


@dataclass(slots=True)
class TrueBar:
    """A bar; amounts in units of ten places, prices None when no trade could set them."""

    open: int | None = None
    high: int | None = None
    low: int | None = None
    close: int | None = None
    volume: int = 0
    notional: int = 0
    trade_count: int = 0
    unpriced_count: int = 0
    first: tuple[int, int] | None = None
    """Time and rank of the trade that set the opening price."""
    last: tuple[int, int] | None = None
    lowest: int = 1 << 80
    """Of all trades, whether they may set prices or not."""
    highest: int = 0
    first_ms: int = 1 << 62
    last_ms: int = 0

    def take(self, trade: LoadTrade) -> None:
        """Add one trade that was not seen before."""
        rule = eligibility(trade.conditions)
        price, at_ms = trade.price_u, trade.event_time_ms
        self.trade_count += 1
        self.lowest, self.highest = min(self.lowest, price), max(self.highest, price)
        self.first_ms, self.last_ms = min(self.first_ms, at_ms), max(self.last_ms, at_ms)
        if rule.volume:
            self.volume += trade.volume_u
            self.notional += (price * trade.volume_u + _HALF) // UNIT
        is_in_session = sets_prices(rule, at_ms)
        if rule.high_low and is_in_session:
            self.high = price if self.high is None else max(self.high, price)
            self.low = price if self.low is None else min(self.low, price)
        else:
            self.unpriced_count += 1
        if rule.last and is_in_session:
            place = at_ms, trade.sequence
            if self.first is None or place < self.first:
                self.first, self.open = place, price
            if self.last is None or place > self.last:
                self.last, self.close = place, price

    def append(self, later: TrueBar) -> None:
        """Add the trades of a later bar."""
        if self.first is None:
            self.first, self.open = later.first, later.open
        if later.last is not None:
            self.last, self.close = later.last, later.close
        if later.high is not None and later.low is not None:
            self.high = later.high if self.high is None else max(self.high, later.high)
            self.low = later.low if self.low is None else min(self.low, later.low)
        self.volume += later.volume
        self.notional += later.notional
        self.trade_count += later.trade_count
        self.unpriced_count += later.unpriced_count


@dataclass(slots=True)
class Truth:
    """All bars of a load, and how many rows each layer must have."""

    bars: dict[Window, TrueBar] = field(default_factory=dict)
    """Bars of five minutes."""
    messages: int = 0
    trades: int = 0
    newest_ms: int = 0
    _seen: set[int] = field(default_factory=set)

    def take(self, trade: LoadTrade) -> None:
        """Add one message; a copy of an earlier trade counts as a message alone."""
        self.messages += 1
        if trade.trade_id in self._seen:
            return
        self._seen.add(trade.trade_id)
        self.trades += 1
        self.newest_ms = max(self.newest_ms, trade.event_time_ms)
        key = trade.symbol, trade.event_time_ms // FIVE_MINUTES_MS * FIVE_MINUTES_MS
        bar = self.bars.get(key)
        if bar is None:
            bar = self.bars[key] = TrueBar()
        bar.take(trade)

    def hours(self) -> dict[Window, TrueBar]:
        """Return the bars of an hour."""
        hours: dict[Window, TrueBar] = {}
        for (symbol, start_ms), bar in sorted(self.bars.items()):
            hours.setdefault((symbol, start_ms // HOUR_MS * HOUR_MS), TrueBar()).append(bar)
        return hours

    def forget_ids(self) -> None:
        """Free what tells copies apart; call it at the end of the load."""
        self._seen.clear()

    @classmethod
    def of(cls, trades: Iterable[LoadTrade]) -> Truth:
        """Return the truth of some trades."""
        truth = cls()
        for trade in trades:
            truth.take(trade)
        truth.forget_ids()
        return truth
