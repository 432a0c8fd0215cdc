"""Tick, volume and dollar bars folded from trades in order: the values, without their state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from math import ceil
from typing import Any, Final

from tapeline.model.amounts import amount_of, product_of, units_of
from tapeline.model.bar import Bar
from tapeline.model.eligibility import withheld
from tapeline.model.rules import HIGH_LOW, OPEN_CLOSE, VOLUME, Rules
from tapeline.model.sessions import Session, asset_class_of
from tapeline.model.splits import UNSPLIT, adjusted
from tapeline.model.threshold import Measure, Threshold
from tapeline.model.times import from_micros, from_millis
from tapeline.model.trade import Trade, order_key

_US: Final = 1000
_ONE: Final = units_of(1.0)


def in_order(symbol: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[Trade]:
    """Yield the trades of silver's rows in the order that decides open and close.

    No more than a millisecond of them is held. A row that lacks a value counts for nothing.

    Args:
        symbol: of all of them.
        rows: as `storage.trades.Rows`, by time.
    """
    for _, together in groupby(rows, key=lambda row: row[0]):
        found = []
        for at_ms, trade_id, price, size, conditions, rank, received_ms, source in together:
            if None not in (price, size, rank, received_ms):
                ids = None if conditions is None else tuple(conditions)
                received_us = received_ms * _US
                found.append(
                    Trade(symbol, price, size, at_ms, ids, trade_id, received_us, rank, source)
                )
        yield from sorted(found, key=lambda trade: (order_key(trade), trade.trade_id))


class ThresholdFold:
    """The bars of a stretch of time in which one session lasts, one after the other.

    A trade is never split: the bar that it fills holds all of it, and the next one begins with the
    trade after it.

    Args:
        symbol: in the feed's name.
        threshold: when a bar ends.
        rules: which trades set and add to what.
        session: of all the trades.
        factor: by which bars are adjusted for splits; volume bars count what is adjusted.
    """

    def __init__(
        self,
        symbol: str,
        threshold: Threshold,
        rules: Rules,
        session: Session,
        factor: Fraction = UNSPLIT,
    ) -> None:
        self._symbol = symbol
        self._measure = threshold.measure
        goal = Fraction(threshold.amount)
        if self._measure is not Measure.TICK:
            goal *= _ONE
        if self._measure is Measure.VOLUME:
            goal /= factor
        self._goal = ceil(goal)
        self._rules = rules
        self._session = session
        self._asked = session if rules.asks_session else None
        self._factor = factor
        self._open: _Running | None = None

    def take(self, trade: Trade) -> Bar | None:
        """Take the next trade; return the bar that it fills, provisional, if it fills one."""
        if self._open is None:
            self._open = _Running(trade.event_time_ms, trade.received_at_us)
        self._open.add(trade, withheld(trade, self._rules, self._asked))
        return self.rest() if self._open.measured(self._measure) >= self._goal else None

    def rest(self) -> Bar | None:
        """Return the bar that no trade has filled, if there is one, provisional, and begin anew."""
        running, self._open = self._open, None
        if running is None:
            return None
        return adjusted(running.bar(self._symbol, self._session, self._rules), self._factor)


@dataclass(slots=True)
class _Running:
    """A bar as its trades so far make it; amounts in units."""

    first_ms: int
    first_received_us: int
    last_ms: int = 0
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    count: int = 0
    volume: int = 0
    notional: int = 0
    turnover: int = 0
    """The notional, but that prices below 0 count as money too."""
    unpriced_count: int = 0
    unpriced_volume: int = 0

    def add(self, trade: Trade, bits: int) -> None:
        """Add a trade from which some fields are withheld."""
        price = trade.price
        self.last_ms = trade.event_time_ms
        self.first_received_us = min(self.first_received_us, trade.received_at_us)
        self.count += 1
        size = 0 if bits & VOLUME else units_of(trade.volume)
        money = product_of(price, size)
        self.volume += size
        self.notional += money
        self.turnover += abs(money)
        if not bits & OPEN_CLOSE:
            self.open = price if self.open is None else self.open
            self.close = price
        if bits & HIGH_LOW:
            self.unpriced_count += 1
            self.unpriced_volume += size
        else:
            self.high = price if self.high is None else max(self.high, price)
            self.low = price if self.low is None else min(self.low, price)

    def measured(self, measure: Measure) -> int:
        """Return how much there is of what is measured."""
        if measure is Measure.TICK:
            return self.count
        return self.volume if measure is Measure.VOLUME else self.turnover

    def bar(self, symbol: str, session: Session, rules: Rules) -> Bar:
        """Return the bar, provisional; it lasts from its first trade to its last."""
        first, last = from_millis(self.first_ms), from_millis(self.last_ms)
        volume, notional = amount_of(self.volume), amount_of(self.notional)
        return Bar(
            symbol=symbol,
            window_start=first,
            window_end=last,
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=volume,
            notional=notional,
            vwap=float(notional) / float(volume) if volume else None,
            trade_count=self.count,
            unpriced_count=self.unpriced_count,
            unpriced_volume=amount_of(self.unpriced_volume),
            first_trade_time=first,
            last_trade_time=last,
            first_received_at=from_micros(self.first_received_us),
            session=session.value,
            asset_class=asset_class_of(symbol).value,
            policy=rules.name,
        )
