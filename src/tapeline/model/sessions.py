"""Trading sessions: which asset class a symbol has, and when its market is open.

The days are those of the New York Stock Exchange: its holidays, and the half days on which
regular hours end at 13:00. `scripts/make_exchange_days.py` writes their file.
"""

from __future__ import annotations

import csv
from datetime import date, datetime, time, timezone
from enum import Enum
from functools import lru_cache
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

NEW_YORK: Final = "America/New_York"
PRE_OPEN: Final = time(4, 0)
REGULAR_OPEN: Final = time(9, 30)
REGULAR_CLOSE: Final = time(16, 0)
HALF_DAY_CLOSE: Final = time(13, 0)
POST_CLOSE: Final = time(20, 0)

FX_VENUES: Final = frozenset({"OANDA", "FXCM", "FOREX", "FOREX.COM", "IC MARKETS", "FXPIG"})
"""What stands before the colon of a currency pair; any other venue trades crypto."""

_DAYS: Final = files("tapeline.model") / "exchange_days.csv"
_SATURDAY: Final = 5


class AssetClass(str, Enum):
    """What kind of instrument a symbol names."""

    EQUITY = "equity"
    CRYPTO = "crypto"
    FX = "fx"


class Session(str, Enum):
    """When a bar's trades were made, by New York time for equities."""

    PRE = "pre"
    REGULAR = "regular"
    POST = "post"
    CLOSED = "closed"
    """At night, on weekends and on holidays."""
    MIXED = "mixed"
    """An hour that lies in more than one."""
    CONTINUOUS = "continuous"
    """Crypto and currencies, which have no sessions."""


def asset_class_of(symbol: str) -> AssetClass:
    """Return the asset class; a name without a venue is an equity."""
    venue, colon, _ = symbol.partition(":")
    if not colon:
        return AssetClass.EQUITY
    return AssetClass.FX if venue in FX_VENUES else AssetClass.CRYPTO


def session_at(symbol: str, instant: datetime) -> Session:
    """Return the session of a symbol at an instant (aware)."""
    if asset_class_of(symbol) is not AssetClass.EQUITY:
        return Session.CONTINUOUS
    local = instant.astimezone(ZoneInfo(NEW_YORK))
    day, clock = local.date(), local.time()
    if day.weekday() >= _SATURDAY or day in holidays():
        return Session.CLOSED
    close = HALF_DAY_CLOSE if day in half_days() else REGULAR_CLOSE
    for end, session in (
        (PRE_OPEN, Session.CLOSED),
        (REGULAR_OPEN, Session.PRE),
        (close, Session.REGULAR),
        (POST_CLOSE, Session.POST),
    ):
        if clock < end:
            return session
    return Session.CLOSED


def regular_hours(day: date) -> tuple[datetime, datetime]:
    """Return when the exchange opens and closes on a trading day, UTC."""
    close = HALF_DAY_CLOSE if day in half_days() else REGULAR_CLOSE
    zone = ZoneInfo(NEW_YORK)
    start, end = (datetime.combine(day, clock, zone) for clock in (REGULAR_OPEN, close))
    return start.astimezone(timezone.utc), end.astimezone(timezone.utc)


@lru_cache
def holidays() -> frozenset[date]:
    """Return the weekdays on which the exchange is closed, from 2000 to 2049."""
    return _days("holiday")


@lru_cache
def half_days() -> frozenset[date]:
    """Return the days on which regular hours end at 13:00, from 2000 to 2049."""
    return _days("half day")


def _days(kind: str) -> frozenset[date]:
    rows = csv.DictReader(_DAYS.read_text(encoding="utf-8").splitlines())
    return frozenset(date.fromisoformat(row["date"]) for row in rows if row["kind"] == kind)
