"""The load: seeded trades as they would come from the feed, with exact amounts.

Trades are spread evenly over event time, a million over 65 minutes, so that a million of 50
symbols make about 650 five-minute bars and a million of 5,000 symbols about 60,600.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple, Protocol

UNIT: Final = 10**10
"""Prices and volumes are whole numbers of ten decimal places."""
START_MS: Final = 1_749_043_800_000
"""Wednesday, 4 June 2025, 09:30 in New York."""
SPAN_MS: Final = 65 * 60 * 1000
"""The event time of a million trades."""
_MILLION: Final = 1_000_000
_CHUNK: Final = 50_000
_MASK: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63

_ZIPF_EXPONENT: Final = 1.0
_BURST_CHANCE: Final = 0.05
"""The next print of a sweep: same symbol and millisecond."""
_LATE_CHANCE: Final = 0.01
_LATEST_BY: Final = 500
"""Trades that may overtake a late one."""
_AGAIN_CHANCE: Final = 0.001
"""Trades that the feed delivers twice."""
_CRYPTO_EVERY: Final = 10

MIX: Final[tuple[tuple[float, tuple[str, ...] | None], ...]] = (
    (0.36, ("1",)),
    (0.26, ("1", "12")),
    (0.14, None),
    (0.08, ("1", "8")),
    (0.07, ("1", "8", "12")),
    (0.04, ("1", "24", "12")),
    (0.02, ("1", "24")),
    (0.01, ("1", "41")),
    (0.01, ("1", "30")),
    (0.006, ("3",)),
    (0.004, ("16",)),
)
"""Sale conditions of equities and how often they come; other venues have none."""


class LoadTrade(NamedTuple):
    """One trade, with amounts in `UNIT`s. Copies of a trade are equal in all of it."""

    symbol: str
    price_u: int
    volume_u: int
    event_time_ms: int
    conditions: tuple[str, ...] | None
    sequence: int
    trade_id: int

    @property
    def price(self) -> float:
        """The price as it travels."""
        return self.price_u / UNIT

    @property
    def volume(self) -> float:
        """The size as it travels."""
        return self.volume_u / UNIT


class Load(Protocol):
    """Trades in the order in which they arrive."""

    @property
    def name(self) -> str:
        """What a report calls it."""
        ...

    def trades(self) -> Iterator[LoadTrade]:
        """Yield all of them, the same each time."""
        ...


@dataclass(frozen=True, slots=True)
class SeededLoad:
    """`count` messages of `symbols` symbols."""

    count: int
    symbols: int = 50
    seed: int = 1
    start_ms: int = START_MS

    @property
    def name(self) -> str:
        """What a report calls it."""
        return f"{self.count:,} trades of {self.symbols:,} symbols, seed {self.seed}"

    def trades(self) -> Iterator[LoadTrade]:
        """Yield the trades; late ones and copies come where they arrive."""
        rng = random.Random(self.seed)  # noqa: S311 - a load, not a secret
        waiting: dict[int, list[LoadTrade]] = {}
        fresh = self._in_order(rng)
        position = 0
        while position < self.count:
            due = waiting.pop(position, None)
            if due is not None:
                # What waits moves on by one place when several are due at one.
                trade, rest = due[0], due[1:]
                if rest:
                    waiting.setdefault(position + 1, []).extend(rest)
            else:
                trade = next(fresh)
                luck = rng.random()
                if luck < _LATE_CHANCE:
                    place = position + 1 + rng.randrange(_LATEST_BY)
                    waiting.setdefault(place, []).append(trade)
                    continue
                if luck < _LATE_CHANCE + _AGAIN_CHANCE:
                    place = position + 1 + rng.randrange(_LATEST_BY)
                    waiting.setdefault(place, []).append(trade)
            yield trade
            position += 1

    def _in_order(self, rng: random.Random) -> Iterator[LoadTrade]:
        """Yield trades by event time, without end."""
        names = [symbol_name(n) for n in range(self.symbols)]
        weights = list(accumulate(zipf_weights(self.symbols)))
        prices = [rng.randrange(500, 50_000) for _ in names]  # cents
        shares = list(accumulate(share for share, _ in MIX))
        lists = [conditions for _, conditions in MIX]
        index = symbol = at_ms = sequence = 0
        while True:
            symbols = rng.choices(range(self.symbols), cum_weights=weights, k=_CHUNK)
            kinds = rng.choices(lists, cum_weights=shares, k=_CHUNK)
            for drawn, kind in zip(symbols, kinds, strict=True):
                luck = rng.random()
                if luck < _BURST_CHANCE and index:
                    sequence += 1
                else:
                    new_ms = self.start_ms + index * SPAN_MS // _MILLION
                    is_same = drawn == symbol and new_ms == at_ms
                    symbol, at_ms, sequence = drawn, new_ms, sequence + 1 if is_same else 0
                prices[symbol] = max(100, prices[symbol] + int(luck * 7) - 3)
                is_crypto = symbol % _CRYPTO_EVERY == _CRYPTO_EVERY - 1
                size = int(luck * 1e6) * 1000 + 1 if is_crypto else (int(luck * 400) + 1) * UNIT
                yield LoadTrade(
                    names[symbol],
                    prices[symbol] * (UNIT // 100),
                    size,
                    at_ms,
                    None if is_crypto else kind,
                    sequence,
                    trade_id(self.seed, index),
                )
                index += 1


@dataclass(frozen=True, slots=True)
class TapeLoad:
    """Recorded trades: CSV with `event_time_ms,symbol,price,volume,conditions`, gzip or not."""

    path: Path

    @property
    def name(self) -> str:
        """What a report calls it."""
        return f"tape {self.path.name}"

    def trades(self) -> Iterator[LoadTrade]:
        """Yield the trades in the tape's order."""
        opened = gzip.open if self.path.suffix == ".gz" else open
        ranks: dict[tuple[str, int], int] = {}
        with opened(self.path, "rt", encoding="utf-8") as lines:  # type: ignore[operator]
            for index, row in enumerate(csv.DictReader(lines)):
                symbol, at_ms = row["symbol"], int(row["event_time_ms"])
                rank = ranks.get((symbol, at_ms), 0)
                ranks[symbol, at_ms] = rank + 1
                yield LoadTrade(
                    symbol,
                    units(row["price"]),
                    units(row["volume"]),
                    at_ms,
                    tuple(row["conditions"].split("|")) if row["conditions"] else None,
                    rank,
                    trade_id(0, index),
                )


def symbol_name(number: int) -> str:
    """Return the name of a symbol; each tenth is of a crypto venue."""
    is_crypto = number % _CRYPTO_EVERY == _CRYPTO_EVERY - 1
    return f"BINANCE:C{number:04d}USDT" if is_crypto else f"S{number:04d}"


def zipf_weights(symbols: int) -> list[float]:
    """Return how often each symbol trades: the n-th as 1 / n."""
    return [1 / (n + 1) ** _ZIPF_EXPONENT for n in range(symbols)]


def trade_id(seed: int, index: int) -> int:
    """Return a signed 64-bit id that no other index has (splitmix64)."""
    z = (seed * 0x632BE59BD9B4E019 + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    z ^= z >> 31
    return z - (1 << 64) if z & _SIGN else z


def units(text: str) -> int:
    """Return a decimal number in units of ten places; further places are refused."""
    value = Decimal(text) * UNIT
    if value != int(value):
        message = f"{text} has more than ten decimal places"
        raise ValueError(message)
    return int(value)
