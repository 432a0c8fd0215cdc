"""Which state of each bar a stream has given, so that none is given twice."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

_DAY: Final = timedelta(days=1)
_REPEATED_S: Final = 1_800.0
"""The API may send a final bar again for eleven minutes, however old its window is."""
_CONTENT_BITS: Final = 32
_CONTENT: Final = (1 << _CONTENT_BITS) - 1
_MOST: Final = (1 << 31) - 1
_IS_FINAL: Final = 1 << 63


@dataclass(slots=True)
class _Day:
    """A state for each window of a symbol and day; 0 where no bar was given."""

    states: array[int]
    touched_s: float


class Passed:
    """The newest state of each bar that was given, in eight bytes.

    A state is one number: whether the bar is final (1 bit), its revision or, while it is
    provisional, its number of trades (31 bits), and a hash of its content (32 bits).

    Args:
        length: of the bars; it divides a day.
        clock: monotonic, in seconds.
    """

    def __init__(self, length: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._length = length
        self._clock = clock
        self._days: dict[tuple[str, date], _Day] = {}

    def take(
        self, symbol: str, start: datetime, *, is_final: bool, number: int, content: int
    ) -> bool:
        """Take a state of a bar; return whether neither it nor a later one was taken before.

        Args:
            symbol: of the bar.
            start: of its window, in UTC.
            is_final: a final state is later than any provisional one.
            number: the revision of a final state, else the trades in it: what never gets less.
            content: a hash of the whole bar.
        """
        state = _IS_FINAL * is_final | min(number, _MOST) << _CONTENT_BITS | content & _CONTENT
        day = self._days.get((symbol, start.date()))
        if day is None:
            states = array("Q", bytes(8 * (_DAY // self._length)))
            day = self._days[symbol, start.date()] = _Day(states, 0.0)
        place = timedelta(hours=start.hour, minutes=start.minute) // self._length
        known = day.states[place]
        if state == known or state >> _CONTENT_BITS < known >> _CONTENT_BITS:
            return False
        day.states[place] = state
        day.touched_s = self._clock()
        return True

    def forget_open(self) -> None:
        """Forget the provisional bars."""
        for day in self._days.values():
            for place, state in enumerate(day.states):
                if state < _IS_FINAL:
                    day.states[place] = 0

    def forget(self, before: Mapping[str, datetime]) -> None:
        """Forget days that end by a time of their symbol, unless a bar of them was given lately."""
        given_s = self._clock() - _REPEATED_S
        for (symbol, day), known in list(self._days.items()):
            floor = before.get(symbol)
            if floor is not None and day < floor.date() and known.touched_s < given_s:
                del self._days[symbol, day]
