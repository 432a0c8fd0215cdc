"""Give each trade its identity and rank, though the feed gives none.

The feed sends neither trade ids nor sequence numbers, repeats whole frames and sends real
twins (equal in symbol, millisecond, price and size). So a trade's identity holds `k`: which
of its identical twins it is. A trade *in order* (newer than all before it on this
connection, or of the newest millisecond) counts its twins across frames; a *stale* one
counts them inside its own frame, so a frame delivered again gets the ids it got at first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from xxhash import xxh64_intdigest

from tapeline.producer.validation import WireTrade
from tapeline.trade import Trade

_SIGN_BIT: Final = 1 << 63
_TWO_64: Final = 1 << 64
_Key = tuple[str, int, float, float, tuple[str, ...] | None]


def hash_trade_id(trade: WireTrade, k: int) -> int:
    """Return the 64-bit id of the k-th twin: xxh64, seed 0, as a signed integer.

    The text hashed is `symbol|event_time_ms|price|volume|conditions|k`, numbers in Python's
    shortest round-trip form, conditions joined with a comma in the order given, none and an
    empty list both empty.
    """
    conditions = ",".join(trade.conditions or ())
    text = f"{trade.symbol}|{trade.event_time_ms}|{trade.price!r}|{trade.volume!r}|{conditions}|{k}"
    value = xxh64_intdigest(text.encode())
    return value - _TWO_64 if value & _SIGN_BIT else value


@dataclass(slots=True)
class _Millisecond:
    """The newest millisecond of one symbol on this connection."""

    event_time_ms: int
    first_arrival_s: float
    rank: int = 0
    twins: Counter[_Key] = field(default_factory=Counter)


class TradeIdentity:
    """The identities of one connection; make a new one after a reconnect.

    Args:
        source: name that goes into each trade.
        same_millisecond_s: how long further trades of the newest millisecond are in order.
    """

    def __init__(self, source: str, same_millisecond_s: float) -> None:
        self._source = source
        self._same_millisecond_s = same_millisecond_s
        self._newest: dict[str, _Millisecond] = {}

    def assign(
        self, trades: Iterable[WireTrade], received_at_us: int, monotonic_s: float
    ) -> list[Trade]:
        """Return the trades of one frame with id and rank, in the frame's order.

        Args:
            trades: the frame's valid trades.
            received_at_us: when the frame was read, µs since the epoch.
            monotonic_s: the same instant on a clock that never steps.
        """
        twins_in_frame: Counter[_Key] = Counter()
        ranks_in_frame: Counter[tuple[str, int]] = Counter()
        identified = []
        for trade in trades:
            key: _Key = (
                trade.symbol,
                trade.event_time_ms,
                trade.price,
                trade.volume,
                trade.conditions or None,
            )
            newest = self._in_order(trade, monotonic_s)
            if newest is None:
                k, rank = twins_in_frame[key], ranks_in_frame[key[:2]]
            else:
                k, rank = newest.twins[key], newest.rank
                newest.twins[key] += 1
                newest.rank += 1
            twins_in_frame[key] += 1
            ranks_in_frame[key[:2]] += 1
            identified.append(
                Trade(
                    trade.symbol,
                    trade.price,
                    trade.volume,
                    trade.event_time_ms,
                    trade.conditions,
                    hash_trade_id(trade, k),
                    received_at_us,
                    rank,
                    self._source,
                )
            )
        return identified

    def _in_order(self, trade: WireTrade, monotonic_s: float) -> _Millisecond | None:
        """Return the symbol's newest millisecond if the trade belongs to it or starts it."""
        newest = self._newest.get(trade.symbol)
        if newest is None or trade.event_time_ms > newest.event_time_ms:
            newest = _Millisecond(trade.event_time_ms, monotonic_s)
            self._newest[trade.symbol] = newest
            return newest
        is_newest = trade.event_time_ms == newest.event_time_ms
        in_time = monotonic_s - newest.first_arrival_s <= self._same_millisecond_s
        return newest if is_newest and in_time else None
