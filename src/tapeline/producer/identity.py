"""Give each trade its identity and rank, though the feed gives none.

The feed sends neither trade ids nor sequence numbers, repeats whole frames and sends real
twins (equal in symbol, millisecond, price and size). So a trade's identity holds `k`: which
of its identical twins it is. A trade *in order* (newer than all before it on this
connection, or of the newest millisecond) counts its twins across frames; a *stale* one
counts them inside its own frame, so a frame delivered again gets the ids it got at first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from xxhash import xxh64_intdigest

from tapeline.producer.validation import WireTrade
from tapeline.trade import Trade

_SIGN_BIT: Final = 1 << 63
_TWO_64: Final = 1 << 64
_Twin = tuple[float, float, tuple[str, ...] | None]
"""What twins of one symbol and millisecond have in common: price, volume, conditions."""


def hash_trade_id(trade: WireTrade, k: int) -> int:
    """Return the 64-bit id of the k-th twin: xxh64, seed 0, as a signed integer.

    The text hashed is `symbol|event_time_ms|price|volume|conditions|k`, numbers in Python's
    shortest round-trip form, conditions joined with a comma in the order given, none and an
    empty list both empty.
    """
    symbol, price, volume, event_time_ms, conditions = trade
    sale = ",".join(conditions) if conditions else ""
    text = f"{symbol}|{event_time_ms}|{price!r}|{volume!r}|{sale}|{k}"
    value: int = xxh64_intdigest(text.encode())
    return value - _TWO_64 if value & _SIGN_BIT else value


class _Counts:
    """How many trades of one symbol and millisecond there were, and how many of each twin.

    `first_arrival_s` is when the first of them came, on a clock that never steps.
    """

    __slots__ = ("_rank", "_twins", "event_time_ms", "first_arrival_s")

    def __init__(self, event_time_ms: int, first_arrival_s: float) -> None:
        self.event_time_ms = event_time_ms
        self.first_arrival_s = first_arrival_s
        self._rank = 0
        self._twins: dict[_Twin, int] = {}

    def count(self, twin: _Twin) -> tuple[int, int]:
        """Count one more trade; return how many of its twins, and of all, came before it."""
        k, rank = self._twins.get(twin, 0), self._rank
        self._twins[twin] = k + 1
        self._rank = rank + 1
        return k, rank


class TradeIdentity:
    """The identities of one connection; make a new one after a reconnect.

    Args:
        source: name that goes into each trade.
        same_millisecond_s: how long further trades of the newest millisecond are in order.
    """

    def __init__(self, source: str, same_millisecond_s: float) -> None:
        self._source = source
        self._same_millisecond_s = same_millisecond_s
        self._newest: dict[str, _Counts] = {}

    def assign(
        self, trades: Iterable[WireTrade], received_at_us: int, monotonic_s: float
    ) -> list[Trade]:
        """Return the trades of one frame with id and rank, in the frame's order.

        Args:
            trades: the frame's valid trades.
            received_at_us: when the frame was read, µs since the epoch.
            monotonic_s: the same instant on a clock that never steps.
        """
        frame: _Frame | None = None
        identified: list[Trade] = []
        for trade in trades:
            symbol, price, volume, event_time_ms, conditions = trade
            twin = (price, volume, conditions or None)
            newest = self._in_order(symbol, event_time_ms, monotonic_s)
            if newest is not None:
                k, rank = newest.count(twin)
                if frame is not None:
                    frame.count(symbol, event_time_ms, twin)
            else:
                frame = frame or _Frame(identified, monotonic_s)
                k, rank = frame.count(symbol, event_time_ms, twin)
            trade_id = hash_trade_id(trade, k)
            identified.append(Trade(*trade, trade_id, received_at_us, rank, self._source))
        return identified

    def _in_order(self, symbol: str, event_time_ms: int, monotonic_s: float) -> _Counts | None:
        """Return the symbol's newest millisecond if the trade belongs to it or starts it."""
        newest = self._newest.get(symbol)
        if newest is None or event_time_ms > newest.event_time_ms:
            newest = self._newest[symbol] = _Counts(event_time_ms, monotonic_s)
            return newest
        is_newest = event_time_ms == newest.event_time_ms
        in_time = monotonic_s - newest.first_arrival_s <= self._same_millisecond_s
        return newest if is_newest and in_time else None


class _Frame:
    """The trades of one frame, counted for the sake of stale ones, so only when one is there."""

    def __init__(self, earlier: Iterable[Trade], monotonic_s: float) -> None:
        self._monotonic_s = monotonic_s
        self._counts: dict[tuple[str, int], _Counts] = {}
        for trade in earlier:
            twin = (trade.price, trade.volume, trade.conditions or None)
            self.count(trade.symbol, trade.event_time_ms, twin)

    def count(self, symbol: str, event_time_ms: int, twin: _Twin) -> tuple[int, int]:
        """Count one more trade, as `_Counts` does, among those of its symbol and millisecond."""
        counts = self._counts.get((symbol, event_time_ms))
        if counts is None:
            counts = _Counts(event_time_ms, self._monotonic_s)
            self._counts[symbol, event_time_ms] = counts
        return counts.count(twin)
