"""Sizes and sums of money as whole numbers of 1e-10, and so exact."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

_PLACES: Final = 10
_ONE: Final = 10**_PLACES
_QUANTUM: Final = Decimal(1).scaleb(-_PLACES)
_PRICE_QUANTUM: Final = Decimal("1e-26")
_EXACT: Final = Context(prec=80, rounding=ROUND_HALF_UP)


def units_of(size: float) -> int:
    """Return a size in units of 1e-10."""
    whole = int(size)
    if whole == size:
        return whole * _ONE
    # The shortest text that reads back as this number is what the feed sent.
    rounded = Decimal(repr(size)).quantize(_QUANTUM, context=_EXACT)
    return int(rounded.scaleb(_PLACES, context=_EXACT))


def product_of(price: float, units: int) -> int:
    """Return price times size, both sizes in units, rounded once; the price keeps 26 places."""
    whole = int(price)
    if whole == price:
        return whole * units
    exact = Decimal(repr(price)).quantize(_PRICE_QUANTUM, context=_EXACT)
    return int(_EXACT.multiply(exact, units).to_integral_value(context=_EXACT))


def amount_of(units: int) -> Decimal:
    """Return what so many units are."""
    return Decimal(units).scaleb(-_PLACES, context=_EXACT)
