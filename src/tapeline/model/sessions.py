"""Trading sessions: when a symbol's market is open.

One definition for every part: bars, gaps, the audit. `venues.py` says where a symbol trades,
`exchange_hours.py` when exchanges are open. Each session begins and ends at full five minutes, so a
five-minute bar lies in one of them.

**American shares.** Regular hours are those of the New York Stock Exchange. Before and after them
shares trade from 04:00 and until 20:00, on half days until 17:00: the late sessions of NYSE Arca,
NYSE American, NYSE National and NYSE Texas, by the NYSE's yearly notice of holidays and early
closings.

Trading at night, 24 hours a day but for a pause, is `closed` here unless `overnight_from` is set.
The SEC registered 24X National Exchange in November 2024; its night is to be 20:00 to 04:00, Sunday
to Thursday evening, once the tapes carry it (release 34-101431). NYSE Arca has filed for 22 hours,
01:30 to 23:30. Nasdaq has filed for a night from 21:00 to 04:00 from Sunday evening on, with trades
before midnight belonging to the next day (SR-NASDAQ-2025-109, 91 FR 1350). Nothing opens in the
evening before a day without trading.

**Currencies and metals.** Trading begins on Sunday at 17:00 New York time and ends on Friday at
17:00, as OANDA's hours of operation and others say. Metals begin on Sunday at 18:00 and pause from
17:00 to 18:00 every day. Holidays are each venue's own and not known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from enum import Enum
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from tapeline.model.exchange_hours import Hours, exchange
from tapeline.model.venues import (
    ALWAYS,
    AMERICAN,
    CURRENCIES,
    METALS,
    UNKNOWN_HOURS,
    AssetClass,
    venue_of,
)

NEW_YORK: Final = "America/New_York"
PRE_OPEN: Final = time(4, 0)
POST_CLOSE: Final = time(20, 0)
HALF_DAY_POST_CLOSE: Final = time(17, 0)

_NEW_YORK: Final = ZoneInfo(NEW_YORK)
_USUAL_CLOSE: Final = time(16, 0)
_MIDNIGHT: Final = time(0, 0)
_WEEK_ENDS: Final = time(17, 0)
_METALS_OPEN: Final = time(18, 0)
_FRIDAY: Final = 4
_SATURDAY: Final = 5
_SUNDAY: Final = 6
_ONE_DAY: Final = timedelta(days=1)
_LONGEST_REST: Final = 30
"""Days; the longest holidays of an exchange are shorter."""


class Session(str, Enum):
    """When a bar's trades were made, by the clock of the symbol's market."""

    PRE = "pre"
    REGULAR = "regular"
    POST = "post"
    OVERNIGHT = "overnight"
    """Round-the-clock trading of American shares, where it is set."""
    CLOSED = "closed"
    """At night, at noon where an exchange rests then, on weekends and on holidays."""
    MIXED = "mixed"
    """An hour that lies in more than one."""
    CONTINUOUS = "continuous"
    """Crypto at any time; currencies and metals through the week."""
    UNKNOWN = "unknown"
    """The hours of the venue are not known, or not in this year."""


_Changes = tuple[tuple[time, Session], ...]
"""When sessions begin in a day, by the market's clock; the first at midnight."""


def asset_class_of(symbol: str) -> AssetClass:
    """Return the asset class; a name without a venue is an equity."""
    return venue_of(symbol).asset_class


def session_at(symbol: str, instant: datetime) -> Session:
    """Return the session of a symbol at an instant (aware)."""
    hours = venue_of(symbol).hours
    local = instant.astimezone(_zone(hours))
    clock = local.time()
    return next(s for begin, s in reversed(_changes(hours, local.date())) if begin <= clock)


def sessions_between(
    symbol: str, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime, Session]]:
    """Yield the sessions of a symbol in [start, end), each with its part of that time, UTC."""
    hours = venue_of(symbol).hours
    zone = _zone(hours)
    day = start.astimezone(zone).date() - _ONE_DAY
    begun, current = start, session_at(symbol, start)
    while datetime.combine(day, _MIDNIGHT, zone) < end:
        for clock, session in _changes(hours, day):
            at = datetime.combine(day, clock, zone).astimezone(timezone.utc)
            if start < at < end and session is not current:
                yield begun, at, current
                begun, current = at, session
        day += _ONE_DAY
    if begun < end:
        yield begun, end, current


def trading_day(symbol: str, instant: datetime) -> tuple[datetime, datetime] | None:
    """Return when an exchange's regular hours of the day of an instant begin and end, UTC.

    Of its own calendar's day; None where the symbol trades at no exchange or the exchange does not
    trade that day, and where its hours are not known.
    """
    hours = venue_of(symbol).hours
    zone = _zone(hours)
    day = instant.astimezone(zone).date()
    regular = _regular(hours, day)
    if not regular:
        return None
    start, end = (datetime.combine(day, c, zone) for c in (regular[0][0], regular[-1][1]))
    return start.astimezone(timezone.utc), end.astimezone(timezone.utc)


def whole_day(symbol: str, instant: datetime) -> tuple[datetime, datetime] | None:
    """Return when the day of an exchange begins and ends, UTC, to which an instant's trades count.

    It ends with the exchange's calendar day, in America at 20:00, and begins where the trading day
    before it ended: a weekend counts to Monday. None as for `trading_day`.
    """
    hours = venue_of(symbol).hours
    day = instant.astimezone(_zone(hours)).date()
    after = (day + n * _ONE_DAY for n in range(_LONGEST_REST))
    found = next((d for d in after if instant < _end_of(hours, d) and _regular(hours, d)), None)
    if found is None:
        return None
    before = (found - n * _ONE_DAY for n in range(1, _LONGEST_REST))
    last = next((d for d in before if _regular(hours, d)), found - _ONE_DAY)
    return _end_of(hours, last), _end_of(hours, found)


def day_begins(symbol: str, day: date) -> datetime:
    """Return when the trades of a day begin, UTC.

    Of what trades at an exchange, with the exchange's calendar day, in America at 20:00 the evening
    before; of anything else, with the UTC day.
    """
    hours = venue_of(symbol).hours
    if hours in {ALWAYS, UNKNOWN_HOURS, CURRENCIES, METALS}:
        return datetime.combine(day, _MIDNIGHT, timezone.utc)
    return _end_of(hours, day - _ONE_DAY)


def _end_of(hours: str, day: date) -> datetime:
    """Return when an exchange's calendar day ends, UTC; in America at 20:00."""
    ends, day = (POST_CLOSE, day) if hours == AMERICAN else (_MIDNIGHT, day + _ONE_DAY)
    return datetime.combine(day, ends, _zone(hours)).astimezone(timezone.utc)


class _Overnight:
    """Since when American shares trade in the evening; None is not at all."""

    begins: time | None = None


def set_overnight(begins: time | None) -> None:
    """Set when `overnight` begins, New York time, 20:00 or later; None has no such session.

    Settings do so when they are read: the hours of a market are the same for all of a process.
    """
    if begins != _Overnight.begins:
        _Overnight.begins = begins
        _changes.cache_clear()


def _zone(hours: str) -> ZoneInfo | timezone:
    if hours in {ALWAYS, UNKNOWN_HOURS}:
        return timezone.utc
    return _NEW_YORK if hours in {CURRENCIES, METALS} else exchange(hours).zone


def _regular(hours: str, day: date) -> Hours | None:
    if hours in {ALWAYS, UNKNOWN_HOURS, CURRENCIES, METALS}:
        return None
    return exchange(hours).hours_on(day)


@lru_cache(maxsize=4096)
def _changes(hours: str, day: date) -> _Changes:
    if hours == ALWAYS:
        return ((_MIDNIGHT, Session.CONTINUOUS),)
    if hours in {CURRENCIES, METALS}:
        return _changes_of_currencies(day, is_metal=hours == METALS)
    regular = _regular(hours, day)
    if regular is None:
        return ((_MIDNIGHT, Session.UNKNOWN),)
    if hours == AMERICAN:
        return _changes_in_america(day, regular)
    opened = (
        change
        for start, end in regular
        for change in ((start, Session.REGULAR), (end, Session.CLOSED))
    )
    return ((_MIDNIGHT, Session.CLOSED), *opened)


def _changes_in_america(day: date, regular: Hours) -> _Changes:
    begins = _Overnight.begins
    night = Session.CLOSED if begins is None else Session.OVERNIGHT
    evening: _Changes = ()
    if begins is not None and exchange(AMERICAN).hours_on(day + _ONE_DAY):
        evening = ((begins, night),)
    if not regular:
        return ((_MIDNIGHT, Session.CLOSED), *evening)
    ((start, end),) = regular
    post_close = POST_CLOSE if end >= _USUAL_CLOSE else HALF_DAY_POST_CLOSE
    return (
        (_MIDNIGHT, night),
        (PRE_OPEN, Session.PRE),
        (start, Session.REGULAR),
        (end, Session.POST),
        (post_close, Session.CLOSED),
        *evening,
    )


def _changes_of_currencies(day: date, *, is_metal: bool) -> _Changes:
    weekday = day.weekday()
    if weekday == _SATURDAY:
        return ((_MIDNIGHT, Session.CLOSED),)
    if weekday == _SUNDAY:
        opens = _METALS_OPEN if is_metal else _WEEK_ENDS
        return ((_MIDNIGHT, Session.CLOSED), (opens, Session.CONTINUOUS))
    changes: list[tuple[time, Session]] = [(_MIDNIGHT, Session.CONTINUOUS)]
    if is_metal or weekday == _FRIDAY:
        changes.append((_WEEK_ENDS, Session.CLOSED))
    if is_metal and weekday != _FRIDAY:
        changes.append((_METALS_OPEN, Session.CONTINUOUS))
    return tuple(changes)
