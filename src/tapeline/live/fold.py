"""One open bar, folded trade by trade: the definition of `docs/bars.md` as running values.

It gives what `calculate_ohlcv` gives of the same trades, in whatever order and however often
they come: sums are exact, open and close go by an order that comes from the data, and of copies
of one trade the lowest rank counts, as in silver.
"""

from __future__ import annotations

from datetime import timedelta

from tapeline.model.amounts import amount_of, product_of, units_of
from tapeline.model.bar import Bar
from tapeline.model.eligibility import session_asked, withheld
from tapeline.model.rules import HIGH_LOW, OPEN_CLOSE, VOLUME, Rules
from tapeline.model.sessions import asset_class_of, session_at
from tapeline.model.times import from_micros, from_millis
from tapeline.model.trade import Trade, order_key

_Placed = tuple[int, float]
"""An order key and the price of its trade."""


class OpenBar:
    """The bar of one symbol and window, from the trades that have come.

    Copies of a trade have its id and may differ from it in rank and receipt only: an id is a
    hash of everything else, or the number that the exchange gave to it all. That is why nothing has
    to be taken back out of a sum.

    Args:
        symbol: in the feed's name.
        start_ms: of the window, ms since the epoch.
        length_ms: of the window.
        policy: which trades set and add to what.
    """

    __slots__ = (
        "_close",
        "_first_ms",
        "_first_received_us",
        "_high",
        "_last_ms",
        "_length_ms",
        "_low",
        "_newest_ms",
        "_notional",
        "_of_last_ms",
        "_open",
        "_policy",
        "_ranks",
        "_session",
        "_unpriced",
        "_unpriced_count",
        "_volume",
        "start_ms",
        "symbol",
    )

    def __init__(self, symbol: str, start_ms: int, length_ms: int, policy: Rules) -> None:
        self.symbol = symbol
        self.start_ms = start_ms
        self._length_ms = length_ms
        self._policy = policy
        self._session = session_asked(policy, symbol, start_ms)
        self._ranks: dict[int, int] = {}
        self._open: _Placed | None = None
        self._close: _Placed | None = None
        self._high: float | None = None
        self._low: float | None = None
        self._last_ms = -1
        self._of_last_ms: dict[int, _Placed] = {}
        self._volume = self._notional = self._unpriced = self._unpriced_count = 0
        self._first_ms = self._newest_ms = self._first_received_us = -1

    def __len__(self) -> int:
        """Count the trades, each once."""
        return len(self._ranks)

    def fold(self, trade: Trade) -> bool:
        """Take one trade of the window; return whether it is new and no copy.

        Args:
            trade: valid, of this symbol and window.
        """
        rank = self._ranks.get(trade.trade_id)
        if rank is not None and rank <= trade.sequence:
            self._first_received_us = min(self._first_received_us, trade.received_at_us)
            return False
        is_new = rank is None
        self._ranks[trade.trade_id] = trade.sequence
        bits = withheld(trade, self._policy, self._session)
        if not bits & OPEN_CLOSE:
            self._place(trade)
        if is_new:
            self._count(trade)
            self._add(
                trade,
                sets_high_low=not bits & HIGH_LOW,
                adds_volume=not bits & VOLUME,
            )
        self._first_received_us = min(self._first_received_us, trade.received_at_us)
        return is_new

    def bar(self) -> Bar:
        """Return the bar as it is now, provisional. There must have been a trade."""
        start = from_millis(self.start_ms)
        volume, notional = amount_of(self._volume), amount_of(self._notional)
        return Bar(
            symbol=self.symbol,
            window_start=start,
            window_end=start + timedelta(milliseconds=self._length_ms),
            open=None if self._open is None else self._open[1],
            high=self._high,
            low=self._low,
            close=None if self._close is None else self._close[1],
            volume=volume,
            notional=notional,
            vwap=float(notional) / float(volume) if volume else None,
            trade_count=len(self._ranks),
            unpriced_count=self._unpriced_count,
            unpriced_volume=amount_of(self._unpriced),
            first_trade_time=from_millis(self._first_ms),
            last_trade_time=from_millis(self._newest_ms),
            first_received_at=from_micros(self._first_received_us),
            session=session_at(self.symbol, start).value,
            asset_class=asset_class_of(self.symbol).value,
            policy=self._policy.name,
        )

    def _count(self, trade: Trade) -> None:
        """Note the times; the first trade sets them all."""
        if len(self._ranks) == 1:
            self._first_ms = self._newest_ms = trade.event_time_ms
            self._first_received_us = trade.received_at_us
            return
        self._first_ms = min(self._first_ms, trade.event_time_ms)
        self._newest_ms = max(self._newest_ms, trade.event_time_ms)

    def _add(self, trade: Trade, *, sets_high_low: bool, adds_volume: bool) -> None:
        size = units_of(trade.volume) if adds_volume else 0
        self._volume += size
        self._notional += product_of(trade.price, size)
        if not sets_high_low:
            self._unpriced += size
            self._unpriced_count += 1
            return
        price = trade.price
        if self._high is None or price > self._high:
            self._high = price
        if self._low is None or price < self._low:
            self._low = price

    def _place(self, trade: Trade) -> None:
        """Let a trade, or a copy of it with a lower rank, be the first or the last."""
        placed = order_key(trade), trade.price
        if self._open is None or placed[0] < self._open[0]:
            self._open = placed
        if trade.event_time_ms < self._last_ms:
            return
        if trade.event_time_ms > self._last_ms:
            self._last_ms = trade.event_time_ms
            self._of_last_ms = {}
        # All of the newest millisecond are kept: a lower rank may take the last place from one.
        self._of_last_ms[trade.trade_id] = placed
        self._close = max(self._of_last_ms.values())
