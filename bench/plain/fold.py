"""Bars in memory: each trade folded into its five minutes, each hour made of its twelve."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final

from bench.eligibility import eligibility, sets_prices

FIVE_MINUTES_MS: Final = 300_000
HOUR_MS: Final = 3_600_000
LATENESS_MS: Final = 600_000
_PLACES: Final = Decimal("1e-10")
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_UP)
_ZERO: Final = Decimal(0)
_FIRST_ORDER: Final = (1 << 63, 0, 0)
_LAST_ORDER: Final = (-1, 0, 0)
Window = tuple[str, int]


@dataclass(slots=True)
class OpenBar:
    """A bar in the making; orders are (ms, rank, id), so that any order of arrival is right."""

    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    volume: Decimal = _ZERO
    notional: Decimal = _ZERO
    trade_count: int = 0
    unpriced_count: int = 0
    unpriced_volume: Decimal = _ZERO
    first_order: tuple[int, int, int] = _FIRST_ORDER
    last_order: tuple[int, int, int] = _LAST_ORDER
    first_ms: int = 1 << 62
    last_ms: int = 0
    first_received_us: int = 1 << 62
    ids: set[int] = field(default_factory=set)

    def take(self, trade: dict[str, Any], at_ms: int, received_us: int) -> None:
        """Fold one trade; a copy of one that was taken changes nothing."""
        number = trade["trade_id"]
        if number in self.ids:
            return
        self.ids.add(number)
        price, conditions = trade["price"], trade["conditions"]
        rule = eligibility(tuple(conditions) if conditions else None)
        size = _ZERO
        if rule.volume:
            size = Decimal(repr(trade["volume"]))
            self.volume += size
            product = Decimal(repr(price)) * size
            self.notional += product.quantize(_PLACES, context=_EXACT)
        self.trade_count += 1
        self.first_ms = min(self.first_ms, at_ms)
        self.last_ms = max(self.last_ms, at_ms)
        self.first_received_us = min(self.first_received_us, received_us)
        is_in_session = not rule.at_night or sets_prices(rule, at_ms)
        if rule.high_low and is_in_session:
            if self.high is None or price > self.high:
                self.high = price
            if self.low is None or price < self.low:
                self.low = price
        else:
            self.unpriced_count += 1
            self.unpriced_volume += size
        if rule.last and is_in_session:
            order = at_ms, trade["sequence"], number
            if order < self.first_order:
                self.first_order, self.open = order, price
            if order > self.last_order:
                self.last_order, self.close = order, price

    def merge(self, part: OpenBar) -> None:
        """Add a bar of other trades."""
        if part.first_order < self.first_order:
            self.first_order, self.open = part.first_order, part.open
        if part.last_order > self.last_order:
            self.last_order, self.close = part.last_order, part.close
        if part.high is not None and part.low is not None:
            self.high = part.high if self.high is None else max(self.high, part.high)
            self.low = part.low if self.low is None else min(self.low, part.low)
        self.volume += part.volume
        self.notional += part.notional
        self.trade_count += part.trade_count
        self.unpriced_count += part.unpriced_count
        self.unpriced_volume += part.unpriced_volume
        self.first_ms = min(self.first_ms, part.first_ms)
        self.last_ms = max(self.last_ms, part.last_ms)
        self.first_received_us = min(self.first_received_us, part.first_received_us)


class Bars:
    """The bars of one Kafka partition, whose symbols no other partition has."""

    def __init__(self) -> None:
        self._bars: dict[Window, OpenBar] = {}
        self._hours: defaultdict[Window, list[int]] = defaultdict(list)
        self._changed: set[Window] = set()
        self._newest_ms = 0
        self._final_until_ms = 0

    def take(self, trade: dict[str, Any], at_ms: int, received_us: int) -> int:
        """Fold a trade; return the start of its window (ms)."""
        start_ms = at_ms - at_ms % FIVE_MINUTES_MS
        symbol = trade["symbol"]
        key = symbol, start_ms
        bar = self._bars.get(key)
        if bar is None:
            bar = self._bars[key] = OpenBar()
            self._hours[symbol, start_ms - start_ms % HOUR_MS].append(start_ms)
        bar.take(trade, at_ms, received_us)
        self._changed.add(key)
        self._newest_ms = max(self._newest_ms, at_ms)
        return start_ms

    def drain(self, *, is_end: bool = False) -> tuple[list[list[Any]], list[list[Any]]]:
        """Return the rows of five minutes and of hours that changed or became final.

        What is final is written once more, and forgotten with its hour.
        """
        now_ms = int(time.time() * 1000)
        horizon_ms = (1 << 62) if is_end else self._newest_ms - LATENESS_MS
        final, final_hours = self._due(horizon_ms)
        hours = {(symbol, start - start % HOUR_MS) for symbol, start in self._changed}
        rows = [
            row_of(key, self._bars[key], FIVE_MINUTES_MS, now_ms, is_final=key in final)
            for key in self._changed | final
        ]
        hour_rows = []
        for key in hours | final_hours:
            whole = OpenBar()
            for start_ms in self._hours[key]:
                whole.merge(self._bars[key[0], start_ms])
            hour_rows.append(row_of(key, whole, HOUR_MS, now_ms, is_final=key in final_hours))
        for key in final:
            self._bars[key].ids = set()
        for key in final_hours:
            for start_ms in self._hours.pop(key):
                del self._bars[key[0], start_ms]
        self._changed.clear()
        return rows, hour_rows

    def _due(self, horizon_ms: int) -> tuple[set[Window], set[Window]]:
        """Return the bars of five minutes and of hours that have become final by now."""
        if horizon_ms < self._final_until_ms + FIVE_MINUTES_MS:
            return set(), set()
        final = {
            key
            for key in self._bars
            if self._final_until_ms < key[1] + FIVE_MINUTES_MS <= horizon_ms
        }
        self._final_until_ms = horizon_ms - horizon_ms % FIVE_MINUTES_MS
        return final, {key for key in self._hours if key[1] + HOUR_MS <= horizon_ms}


def row_of(key: Window, bar: OpenBar, length_ms: int, now_ms: int, *, is_final: bool) -> list[Any]:
    """Return a bar's row; times in ms."""
    symbol, start_ms = key
    day = datetime.fromtimestamp(start_ms / 1000, timezone.utc)
    return [
        symbol,
        date(day.year, 1 if length_ms == HOUR_MS else day.month, 1),
        start_ms,
        start_ms + length_ms,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        str(bar.volume),
        str(bar.notional),
        float(bar.notional) / float(bar.volume) if bar.volume else None,
        bar.trade_count,
        bar.unpriced_count,
        str(bar.unpriced_volume),
        bar.first_ms,
        bar.last_ms,
        bar.first_received_us // 1000,
        is_final,
        now_ms,
    ]
