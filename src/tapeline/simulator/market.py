"""A seeded random market that looks alive: bursts, twins, odd lots and zero sizes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from tapeline.simulator.feed import FeedFrame


class Venue(Enum):
    """What kind of prints an instrument has."""

    EQUITY = "equity"
    CRYPTO = "crypto"
    FX = "fx"


@dataclass(frozen=True, slots=True)
class Instrument:
    """An instrument with its first price, price step and mean trades a second."""

    symbol: str
    price: float
    tick: float
    trades_per_s: float
    venue: Venue = Venue.EQUITY


INSTRUMENTS: Final = (
    Instrument("AAPL", 271.40, 0.01, 9.0),
    Instrument("MSFT", 472.10, 0.01, 6.0),
    Instrument("NVDA", 178.90, 0.01, 16.0),
    Instrument("AMZN", 220.70, 0.01, 7.0),
    Instrument("TSLA", 391.00, 0.01, 12.0),
    Instrument("META", 594.20, 0.01, 4.0),
    Instrument("AMD", 203.80, 0.01, 6.0),
    Instrument("SPY", 659.00, 0.01, 10.0),
    Instrument("QQQ", 590.10, 0.01, 6.0),
    Instrument("KO", 72.60, 0.01, 0.7),
    Instrument("BINANCE:BTCUSDT", 84_900.0, 0.01, 12.0, Venue.CRYPTO),
    Instrument("BINANCE:ETHUSDT", 2_790.0, 0.01, 7.0, Venue.CRYPTO),
    Instrument("OANDA:EUR_USD", 1.1512, 0.00001, 3.0, Venue.FX),
)

_BURST_CHANCE: Final = 0.004
_BURST_FRAMES: Final = 25
_BURST_FACTOR: Final = 8.0
_TWIN_CHANCE: Final = 0.18
_ODD_LOT_CHANCE: Final = 0.45
_SWEEP_CHANCE: Final = 0.15
_ZERO_SIZE_CHANCE: Final = 0.02
_VOLATILITY: Final = 0.00012
_PULL: Final = 0.0002


class RandomMarket:
    """An endless market on the wall clock, one frame each `frame_ms`.

    The walk of prices depends only on the seed and on how many frames have been made; the
    trades carry the time at which they are sent.

    Args:
        seed: of everything that is random.
        start_ms: when the market begins, ms since the epoch.
        frame_ms: how much time a frame holds.
        thinning: how many prints one print stands for; it moves the price as far as they, and
            round lots are as large.
    """

    is_live = True

    def __init__(self, seed: int, start_ms: int, frame_ms: int, *, thinning: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a market, not a secret
        self._frame_ms = frame_ms
        self._thinning = thinning
        self._prices = {i.symbol: i.price for i in INSTRUMENTS}
        self._bursts = dict.fromkeys(self._prices, 0)
        self.symbols = tuple(self._prices)
        self.start_ms = start_ms

    def frames(self, now_ms: int) -> Iterator[FeedFrame]:
        """Yield frames from now on; what nobody listened to is gone, as on a real feed."""
        due_ms = now_ms
        while True:
            due_ms += self._frame_ms
            trades = [t for i in INSTRUMENTS for t in self._trade(i, due_ms)]
            if trades:
                yield FeedFrame(due_ms, sorted(trades, key=lambda t: int(t["t"])))

    def _trade(self, instrument: Instrument, due_ms: int) -> Iterator[dict[str, Any]]:
        rng = self._random
        symbol = instrument.symbol
        if self._bursts[symbol]:
            self._bursts[symbol] -= 1
        elif rng.random() < _BURST_CHANCE:
            self._bursts[symbol] = _BURST_FRAMES
        factor = _BURST_FACTOR if self._bursts[symbol] else 1.0
        mean = instrument.trades_per_s * factor * self._frame_ms / 1000 / self._thinning
        times = sorted(rng.randrange(self._frame_ms) for _ in range(_poisson(rng, mean)))
        for offset_ms in times:
            price = self._next_price(instrument)
            size, conditions = self._size(instrument)
            trade = {
                "c": conditions,
                "p": price,
                "s": symbol,
                "t": due_ms - self._frame_ms + offset_ms,
                "v": size,
            }
            yield trade
            if rng.random() < _TWIN_CHANCE:
                yield dict(trade)

    def _next_price(self, instrument: Instrument) -> float:
        last = self._prices[instrument.symbol]
        noise = self._random.gauss(0.0, _VOLATILITY * math.sqrt(self._thinning))
        step = noise + _PULL * self._thinning * math.log(instrument.price / last)
        ticks = round(last * math.exp(step) / instrument.tick)
        price = round(max(ticks, 1) * instrument.tick, 8)
        self._prices[instrument.symbol] = price
        return price

    def _size(self, instrument: Instrument) -> tuple[float, list[str] | None]:
        rng = self._random
        if instrument.venue is Venue.FX:
            return 0.0, None
        if instrument.venue is Venue.CRYPTO:
            is_update = rng.random() < _ZERO_SIZE_CHANCE
            size = (rng.expovariate(8.0) + 1e-5) * self._thinning
            return 0.0 if is_update else round(size, 5), None
        conditions = ["1"]
        if rng.random() < _SWEEP_CHANCE:
            conditions.append("8")
        if rng.random() < _ODD_LOT_CHANCE:
            return float(rng.randrange(1, 100)), [*conditions, "12"]
        return 100.0 * self._thinning * min(1 + int(rng.expovariate(0.6)), 50), conditions


def _poisson(rng: random.Random, mean: float) -> int:
    """Draw from a Poisson distribution by counting exponential gaps."""
    count, total = 0, rng.expovariate(1.0)
    while total < mean:
        count += 1
        total += rng.expovariate(1.0)
    return count
