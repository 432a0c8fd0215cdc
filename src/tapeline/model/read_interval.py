"""The lengths of bars that readers may ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from tapeline.model.bar import Bar, Interval
from tapeline.model.sessions import Session

_DAY: Final = timedelta(days=1)
_SESSIONS: Final = tuple(s.value for s in Session if s is not Session.MIXED)
_SESSIONS_OF_DAYS: Final = tuple(
    s.value for s in (Session.REGULAR, Session.CONTINUOUS, Session.UNKNOWN)
)
"""Of an exchange's day only regular hours can be wanted alone; others have these."""


@dataclass(frozen=True, slots=True)
class ReadInterval:
    """A length of bars that readers may ask for, and the stored bars that it is made of."""

    name: str
    duration: timedelta
    session: Session | None = None
    """The only one whose trades are wanted."""

    @property
    def stored(self) -> Interval:
        """The stored interval that is read; a day or one session needs one below the hour."""
        if self.duration % Interval.FIVE_MINUTES.duration:
            return Interval.ONE_MINUTE
        is_of_hours = not self.duration % Interval.ONE_HOUR.duration
        is_whole = is_of_hours and not self.is_day and self.session is None
        return Interval.ONE_HOUR if is_whole else Interval.FIVE_MINUTES

    @property
    def is_stored(self) -> bool:
        """Whether stored bars are of just this length."""
        return self.duration == self.stored.duration

    def of_session(self, name: str) -> ReadInterval:
        """Return the same length for the trades of one session alone.

        Raises:
            ValueError: there is no such session, or bars of this length never hold it.
        """
        held = _SESSIONS_OF_DAYS if self.is_day else _SESSIONS
        if name not in held:
            message = f"{name!r} is no session of {self.name} bars: give {', '.join(held)}."
            raise ValueError(message)
        return replace(self, session=Session(name))

    def of_wanted(self, bars: Iterable[Bar]) -> Iterator[Bar]:
        """Yield those of stored bars whose trades are wanted."""
        return (b for b in bars if self.session is None or b.session == self.session.value)

    @property
    def is_day(self) -> bool:
        """Whether a bar is a trading day."""
        return self.duration == _DAY

    @classmethod
    def parse(cls, text: str) -> ReadInterval:
        """Read e.g. `15m`, `4h` or `1d`.

        Raises:
            ValueError: it is no number of minutes that divides a day.
        """
        found = re.fullmatch(r"([1-9]\d{0,3})([mhd])", text)
        minutes = int(found[1]) * {"m": 1, "h": 60, "d": 1440}[found[2]] if found else 0
        duration = timedelta(minutes=minutes)
        if not minutes or _DAY % duration:
            message = (
                f"{text!r} is no interval: give minutes that divide a day, such as 5m, 15m, 30m, "
                "1h, 4h or 1d."
            )
            raise ValueError(message)
        return cls(text, duration)
