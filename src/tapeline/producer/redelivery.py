"""Know a frame that the feed sends again, by its bytes.

A frame of two or more different trades that equals one of the last minutes is the same frame:
twins that come in the same company, byte for byte, are very rare (docs/bars.md has figures). A
frame of one trade, or of equal ones, may as well be twins and is never taken for a redelivery.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from typing import Final

from xxhash import xxh3_128_digest

from tapeline.producer.validation import WireTrade
from tapeline.program.metrics import PRODUCER_METRICS, REDELIVERED, SUSPECT_DUPLICATES, Metrics

_MOST_TRADES: Final = 500_000
"""Trades whose places are remembered: a hundred megabytes at the very most."""

Place = tuple[int, int]
"""How many of a trade's twins, and of all trades of its symbol and millisecond, came before it."""


class FrameMemory:
    """The frames of the last minutes, over all connections; counts what came again.

    Args:
        keep_s: how long a frame is remembered.
        metrics: where redeliveries and suspects are counted.
        most_trades: the oldest frames are forgotten when all together hold more.
    """

    def __init__(
        self, keep_s: float, metrics: Metrics | None = None, most_trades: int = _MOST_TRADES
    ) -> None:
        self._keep_s = keep_s
        self._most_trades = most_trades
        self._trades = 0
        self._frames: OrderedDict[bytes, tuple[float, array[int]]] = OrderedDict()
        metrics = metrics or Metrics(PRODUCER_METRICS)
        self._redelivered = metrics[REDELIVERED]
        self._suspects = metrics[SUSPECT_DUPLICATES]

    def key_of(self, data: bytes | str, trades: Sequence[WireTrade]) -> bytes | None:
        """Return what tells a frame from every other; None when it may be twins of another."""
        if len(trades) < 2:  # noqa: PLR2004 - one trade may always be a twin
            return None
        first = trades[0]
        if all(trade == first for trade in trades):
            return None
        digest: bytes = xxh3_128_digest(data.encode() if isinstance(data, str) else data)
        # A trade ahead of the clock is not valid now and may be later: that is another frame.
        return digest + len(trades).to_bytes(4, "big")

    def places_of(self, key: bytes, monotonic_s: float) -> list[Place] | None:
        """Return the places of the frame's trades at its first delivery, None if this is it."""
        found = self._frames.get(key)
        if found is None or monotonic_s - found[0] > self._keep_s:
            return None
        flat = found[1]
        places = list(zip(flat[::2], flat[1::2], strict=True))
        self._redelivered.inc(len(places))
        return places

    def keep(self, key: bytes, places: Sequence[Place], monotonic_s: float) -> None:
        """Remember a frame, and forget the old ones."""
        self._forget(key)
        self._frames[key] = (monotonic_s, array("L", chain.from_iterable(places)))
        self._trades += len(places)
        while self._frames:
            oldest = next(iter(self._frames))
            is_old = monotonic_s - self._frames[oldest][0] > self._keep_s
            if not is_old and self._trades <= self._most_trades:
                return
            self._forget(oldest)

    def suspect(self, trades: int) -> None:
        """Note trades that may have come again, and were taken for twins."""
        self._suspects.inc(trades)

    def _forget(self, key: bytes) -> None:
        found = self._frames.pop(key, None)
        if found is not None:
            self._trades -= len(found[1]) // 2
