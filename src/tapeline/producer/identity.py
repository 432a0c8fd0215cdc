"""Give each trade its identity and rank, though the feed gives none.

The feed sends neither trade ids nor sequence numbers, repeats whole frames and sends real
twins (equal in symbol, millisecond, price and size). So a trade's identity holds `k`: which
of its identical twins it is. A trade *in order* (newer than all before it on this
connection, or of the newest millisecond) counts its twins across frames; a *stale* one
counts them inside its own frame, so a frame delivered again gets the ids it got at first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from xxhash import xxh64_intdigest

from tapeline.model.trade import ORDER_ID_BITS, ORDER_RANK_BITS, Trade
from tapeline.producer.redelivery import FrameMemory, Place
from tapeline.producer.validation import WireTrade

_SIGN_BIT: Final = 1 << 63
_TWO_64: Final = 1 << 64
_RANKS: Final = 1 << ORDER_RANK_BITS
_Twin = tuple[float, float, tuple[str, ...] | None]
"""What twins of one symbol and millisecond have in common: price, volume, conditions."""


def hash_trade_id(trade: WireTrade, k: int) -> int:
    """Return the 64-bit id of the k-th twin: xxh64, seed 0, as a signed integer.

    The text hashed is `symbol|event_time_ms|price|volume|conditions|k`, numbers in Python's
    shortest round-trip form, conditions joined with a comma in the order given, none and an
    empty list both empty.
    """
    symbol, price, volume, event_time_ms, conditions, _ = trade
    sale = ",".join(conditions) if conditions else ""
    text = f"{symbol}|{event_time_ms}|{price!r}|{volume!r}|{sale}|{k}"
    value: int = xxh64_intdigest(text.encode())
    return value - _TWO_64 if value & _SIGN_BIT else value


class _Counts:
    """How many trades of one symbol and millisecond there were, and how many of each twin.

    `first_arrival_s` is when the first of them came, in seconds of the feed.
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

    def at_least(self, twin: _Twin, k: int, rank: int) -> None:
        """Count on from a trade that was counted before, perhaps on another connection."""
        self._twins[twin] = max(self._twins.get(twin, 0), k + 1)
        self._rank = max(self._rank, rank + 1)


class TradeIdentity:
    """The identities of one connection; make a new one after a reconnect.

    Args:
        source: name that goes into each trade.
        same_millisecond_s: how long further trades of the newest millisecond are in order, in
            seconds of the feed.
        memory: the frames of the last minutes, also of the connections before.
        speed: seconds of the feed in one of ours: 1 for the present. None for a tape that is
            sent as fast as it is read; its seconds are told by its newest event time.
    """

    def __init__(
        self,
        source: str,
        same_millisecond_s: float,
        memory: FrameMemory | None = None,
        speed: float | None = 1.0,
    ) -> None:
        self._source = source
        self._same_millisecond_s = same_millisecond_s
        self._memory = memory or FrameMemory(0.0)
        self._speed = speed
        self._tape_s = 0.0
        self._newest: dict[str, _Counts] = {}

    def assign(
        self,
        trades: Sequence[WireTrade],
        received_at_us: int,
        monotonic_s: float,
        data: bytes | str | None = None,
    ) -> list[Trade]:
        """Return the trades of one frame with id and rank, in the frame's order.

        Args:
            trades: the frame's valid trades.
            received_at_us: when the frame was read, µs since the epoch.
            monotonic_s: the same instant on a clock that never steps.
            data: the frame as it came; without it nothing is known to come again.
        """
        feed_s = self._feed_s(trades, monotonic_s)
        key = None if data is None else self._memory.key_of(data, trades)
        places = None if key is None else self._memory.places_of(key, monotonic_s)
        if places is not None:
            self._count_on(trades, places, feed_s)
        else:
            places = self._places(trades, feed_s)
            if key is not None:
                self._memory.keep(key, places, monotonic_s)
            elif places and places[0][0]:
                self._memory.suspect(len(places))
        return [
            Trade(*trade[:5], hash_trade_id(trade, k), received_at_us, rank, self._source)
            for trade, (k, rank) in zip(trades, places, strict=True)
        ]

    def _feed_s(self, trades: Iterable[WireTrade], monotonic_s: float) -> float:
        """Return the feed's time, in seconds since whenever."""
        if self._speed is not None:
            return monotonic_s * self._speed
        newest_ms = max((trade.event_time_ms for trade in trades), default=0)
        self._tape_s = max(self._tape_s, newest_ms / 1000)
        return self._tape_s

    def _places(self, trades: Sequence[WireTrade], feed_s: float) -> list[Place]:
        """Count the trades of a frame that comes for the first time."""
        frame: FrameCounts | None = None
        places: list[Place] = []
        for index, (symbol, price, volume, event_time_ms, conditions, _) in enumerate(trades):
            twin = (price, volume, conditions or None)
            newest = self._in_order(symbol, event_time_ms, feed_s)
            if newest is not None:
                places.append(newest.count(twin))
                if frame is not None:
                    frame.count(symbol, event_time_ms, twin)
            else:
                frame = frame or FrameCounts(trades[:index], feed_s)
                places.append(frame.count(symbol, event_time_ms, twin))
        return places

    def _count_on(
        self, trades: Sequence[WireTrade], places: Sequence[Place], feed_s: float
    ) -> None:
        """Let twins to come be counted after a frame that an earlier connection had too."""
        for trade, (k, rank) in zip(trades, places, strict=True):
            newest = self._newest.get(trade.symbol)
            if newest is None or trade.event_time_ms > newest.event_time_ms:
                newest = self._newest[trade.symbol] = _Counts(trade.event_time_ms, feed_s)
            if trade.event_time_ms == newest.event_time_ms:
                newest.at_least((trade.price, trade.volume, trade.conditions or None), k, rank)

    def _in_order(self, symbol: str, event_time_ms: int, feed_s: float) -> _Counts | None:
        """Return the symbol's newest millisecond if the trade belongs to it or starts it."""
        newest = self._newest.get(symbol)
        if newest is None or event_time_ms > newest.event_time_ms:
            newest = self._newest[symbol] = _Counts(event_time_ms, feed_s)
            return newest
        is_newest = event_time_ms == newest.event_time_ms
        in_time = feed_s - newest.first_arrival_s <= self._same_millisecond_s
        return newest if is_newest and in_time else None


class GivenIdentity:
    """The identities of a feed that numbers each symbol's trades itself.

    The number is the id: the same whenever and however a trade comes. The rank is what stands above
    its low bits, by which order goes last, so that a later number of one millisecond is later.

    Args:
        source: name that goes into each trade.
    """

    def __init__(self, source: str) -> None:
        self._source = source

    def assign(
        self,
        trades: Sequence[WireTrade],
        received_at_us: int,
        _monotonic_s: float,
        _data: bytes | str | None = None,
    ) -> list[Trade]:
        """Return the trades of one frame, all with the exchange's number, in the frame's order."""
        found = []
        for symbol, price, volume, event_time_ms, conditions, given in trades:
            trade_id = given or 0  # the first of a symbol may be 0, and none is without
            rank = (trade_id >> ORDER_ID_BITS) % _RANKS
            fields = (symbol, price, volume, event_time_ms, conditions)
            found.append(Trade(*fields, trade_id, received_at_us, rank, self._source))
        return found


class FrameCounts:
    """The trades of one frame, counted for the sake of stale ones, so only when one is there.

    Args:
        earlier: the trades that come before those to be counted.
        feed_s: when the frame came, in seconds of the feed.
    """

    def __init__(self, earlier: Iterable[WireTrade], feed_s: float = 0.0) -> None:
        self._feed_s = feed_s
        self._counts: dict[tuple[str, int], _Counts] = {}
        for trade in earlier:
            self.place_of(trade)

    def place_of(self, trade: WireTrade) -> Place:
        """Count one more trade; return its place in the frame."""
        twin = (trade.price, trade.volume, trade.conditions or None)
        return self.count(trade.symbol, trade.event_time_ms, twin)

    def count(self, symbol: str, event_time_ms: int, twin: _Twin) -> Place:
        """Count one more trade, as `_Counts` does, among those of its symbol and millisecond."""
        counts = self._counts.get((symbol, event_time_ms))
        if counts is None:
            counts = _Counts(event_time_ms, self._feed_s)
            self._counts[symbol, event_time_ms] = counts
        return counts.count(twin)
