"""Bars that end by what was traded and not by the clock: tick, volume and dollar bars."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Final, TypeVar

from tapeline.model.bar import Interval
from tapeline.model.read_interval import ReadInterval
from tapeline.model.sessions import Session


class Measure(str, Enum):
    """What of a bar is measured."""

    TICK = "tick"
    """Its trades, all of them, as `trade_count` has them."""
    VOLUME = "volume"
    """The sizes that count."""
    DOLLAR = "dollar"
    """The money that changed hands, in the currency of the prices."""


_FORM: Final = re.compile(r"(\d{1,18}(?:\.\d{1,10})?)(tick|volume|dollar)", re.ASCII)
_SESSIONS: Final = tuple(s.value for s in Session if s is not Session.MIXED)
_T = TypeVar("_T")
_EXAMPLES: Final = "1000tick, 50000volume or 1000000dollar"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bar ends with the trade that brings what is measured of it to an amount, or above."""

    amount: Decimal
    measure: Measure
    session: Session | None = None
    """The only one whose trades are wanted."""

    @property
    def name(self) -> str:
        """As it is asked for, e.g. `1000tick`."""
        return f"{self.amount:f}{self.measure.value}"

    @property
    def stored(self) -> Interval:
        """The stored bars that say which trades there are, and whether they are final."""
        return Interval.FIVE_MINUTES

    def of_session(self, name: str) -> Threshold:
        """Return the same bars of one session alone.

        Raises:
            ValueError: there is no such session.
        """
        if name not in _SESSIONS:
            message = f"{name!r} is no session: give {', '.join(_SESSIONS)}."
            raise ValueError(message)
        return replace(self, session=Session(name))


Length = ReadInterval | Threshold
"""When bars end: by the clock, or by what was traded."""


def parse_length(text: str) -> Length:
    """Read e.g. `15m`, `1d`, `1000tick`, `0.5volume` or `1000000dollar`.

    Raises:
        ValueError: it is no number of minutes that divides a day, and no amount above 0 of what
            can be measured; ticks are whole.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        try:
            return ReadInterval.parse(text)
        except ValueError as error:
            by_clock = str(error).removesuffix(".")
            message = f"{by_clock}; or what is to be traded in a bar, such as {_EXAMPLES}."
            raise ValueError(message) from error
    amount, measure = Decimal(found[1]), Measure(found[2])
    if not amount or (measure is Measure.TICK and amount % 1):
        least = "a whole number of ticks" if measure is Measure.TICK else "an amount"
        message = f"{text!r} is no interval: give {least} above 0, such as {_EXAMPLES}."
        raise ValueError(message)
    whole = amount.to_integral_value()
    return Threshold(whole if whole == amount else amount.normalize(), measure)


def require_time(value: _T) -> _T:
    """Return what may name a length of time as it was given.

    Raises:
        ValueError: it names, alone or among others, bars that end by what was traded.
    """
    for name in value.split(",") if isinstance(value, str) else ():
        if _FORM.fullmatch(name):
            message = (
                f"{name!r} bars are made of trades when they are read, and are neither paged nor "
                "streamed: take them from `tapeline bars`, `tapeline export bars` or read_bars"
            )
            raise ValueError(message)
    return value
