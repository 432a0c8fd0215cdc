"""Splits of shares, and bars as if there had been none: adjusted on reading, never stored."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from itertools import accumulate
from typing import Final

from tapeline.model.bar import Bar

UNSPLIT: Final = Fraction(1)
_QUANTUM: Final = Decimal("1e-10")
_EXACT: Final = Context(prec=80, rounding=ROUND_HALF_UP)


@dataclass(frozen=True, slots=True)
class Split:
    """From a time on, `factor` shares are what one was: 4 for four to one, 1/10 for one to ten."""

    symbol: str
    effective: datetime
    factor: Fraction


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits of some symbols, those of one symbol by time.

    Attributes:
        times_of: when each symbol is split.
        factors_of: by how much its bars are adjusted, before the first split, and from each on; 1
            from the last on.
        fingerprint: the same for the same splits, None without any.
        every: all of them, by symbol and time.
    """

    times_of: Mapping[str, tuple[datetime, ...]] = field(default_factory=dict)
    factors_of: Mapping[str, tuple[Fraction, ...]] = field(default_factory=dict, repr=False)
    fingerprint: str | None = None
    every: tuple[Split, ...] = ()

    @classmethod
    def of(cls, splits: Iterable[Split]) -> Splits:
        """Return splits in whatever order they come; none of a symbol twice at one time."""
        ordered = sorted(splits, key=lambda split: (split.symbol, split.effective))
        by_symbol: dict[str, list[Split]] = {}
        for split in ordered:
            by_symbol.setdefault(split.symbol, []).append(split)
        lines = (f"{s.symbol} {s.effective.isoformat()} {s.factor}" for s in ordered)
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:10]
        return cls(
            {symbol: tuple(s.effective for s in some) for symbol, some in by_symbol.items()},
            {symbol: _from_each_on(some) for symbol, some in by_symbol.items()},
            digest if ordered else None,
            tuple(ordered),
        )

    def factor_at(self, symbol: str, instant: datetime) -> Fraction:
        """Return by how much what was traded at an instant is adjusted."""
        times = self.times_of.get(symbol)
        if times is None:
            return UNSPLIT
        return self.factors_of[symbol][bisect_right(times, instant)]

    def since(self, fingerprint: str | None) -> list[Split]:
        """Return the newest of these, without which they have a fingerprint; none if they never do.

        So it is known which have come into effect since others had that fingerprint.
        """
        by_time = sorted(self.every, key=lambda split: split.effective)
        for count in reversed(range(len(by_time))):
            if Splits.of(by_time[:count]).fingerprint == fingerprint:
                return by_time[count:]
        return []


NO_SPLITS: Final = Splits()


def _from_each_on(splits: list[Split]) -> tuple[Fraction, ...]:
    products = accumulate((s.factor for s in reversed(splits)), Fraction.__mul__, initial=UNSPLIT)
    return tuple(reversed(list(products)))


def adjusted(bar: Bar, factor: Fraction) -> Bar:
    """Return a bar with prices divided and volumes multiplied by a factor.

    Volumes are rounded to ten places, halves up; notional and counts stay as they are.
    """
    if factor == UNSPLIT:
        return bar
    volume = _times(bar.volume, factor)
    return replace(
        bar,
        open=_divided(bar.open, factor),
        high=_divided(bar.high, factor),
        low=_divided(bar.low, factor),
        close=_divided(bar.close, factor),
        volume=volume,
        vwap=float(bar.notional) / float(volume) if volume else None,
        unpriced_volume=_times(bar.unpriced_volume, factor),
    )


def _divided(price: float | None, factor: Fraction) -> float | None:
    # The shortest text that reads back as this number is what the feed sent.
    return None if price is None else float(Fraction(repr(price)) / factor)


def _times(volume: Decimal, factor: Fraction) -> Decimal:
    product = _EXACT.multiply(volume, Decimal(factor.numerator))
    quotient = _EXACT.divide(product, Decimal(factor.denominator))
    return quotient.quantize(_QUANTUM, context=_EXACT)
