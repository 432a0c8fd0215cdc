"""Where a symbol trades, by its name: `venues.csv` lists what stands before a colon or after a dot.

The names are Finnhub's and Yahoo's: `VOD.L`, `7203.T`, `NASDAQ:AAPL`, `OANDA:EUR_USD`,
`BINANCE:BTCUSDT`. A name with neither is American, and so is one with a class of shares, a unit, a
warrant or a series after the dot: `BRK.B`, `XYZ.U`, `XYZ.WS`, `JPM.PR.L`. No American share has a
month's letter and a year behind its name, as the contract `CLK20` has.
"""

from __future__ import annotations

import csv
import re
from enum import Enum
from functools import lru_cache
from importlib.resources import files
from typing import Final, NamedTuple

AMERICAN: Final = "XNYS"
"""The hours of American shares: a calendar's code in `exchange_hours.csv`."""
ALWAYS: Final = "always"
CURRENCIES: Final = "currencies"
METALS: Final = "metals"
UNKNOWN_HOURS: Final = "unknown"

_CONTRACT: Final = "[A-Z0-9]{1,3}[FGHJKMNQUVXZ][0-9]{1,2}"
"""A product, the letter of its month of delivery, the last digits of its year."""
FUTURES: Final = (
    f"(?:{_CONTRACT}(?:-{_CONTRACT})?|[A-Z0-9]+=F"
    "|(?:NYMEX|COMEX|CME|CME_MINI|CBOT|CBOT_MINI|ICE|ICEUS|ICEEUR|EUREX):.+)"
)
"""A regular expression of the whole name of a future or of a spread of two: `CLK20`, `CL=F`,
`NYMEX:CL1!`. It means the same in Python, Java and RE2."""

_VENUES: Final = files("tapeline.model") / "venues.csv"
_METALS: Final = ("XAU", "XAG", "XPT", "XPD", "XCU")
"""Gold, silver, platinum, palladium and copper at a venue of currencies."""
_OF_A_SERIES: Final = ("PR", "WS", "WT")
"""`XYZ.PR.L` is a preferred share, series L, and none of London's."""


class AssetClass(str, Enum):
    """What kind of instrument a symbol names."""

    EQUITY = "equity"
    CRYPTO = "crypto"
    FX = "fx"
    """Currencies and metals, and what else their venues trade."""
    FUTURE = "future"
    """Futures and spreads of them, whose prices may be 0 and below."""
    UNKNOWN = "unknown"
    """The venue is not known by its name."""


class Venue(NamedTuple):
    """What is known of a symbol by its name.

    `hours` is an exchange's calendar, or one of the constants above.
    """

    asset_class: AssetClass
    hours: str


_OF_NO_VENUE: Final = Venue(AssetClass.UNKNOWN, UNKNOWN_HOURS)
_OF_FUTURES: Final = Venue(AssetClass.FUTURE, UNKNOWN_HOURS)


@lru_cache(maxsize=20_000)
def venue_of(symbol: str) -> Venue:
    """Return where a symbol trades; one whose prefix or suffix is not known has no hours.

    To take it for an American share would give it a session that is wrong; to call it continuous
    would say that its market is always open, and make each night a gap of the feed.
    """
    if re.fullmatch(FUTURES, symbol):
        return _OF_FUTURES
    prefix, colon, name = symbol.upper().partition(":")
    if colon:
        found = _venues("prefixes").get(prefix, _OF_NO_VENUE)
        is_metal = found.hours == CURRENCIES and name.startswith(_METALS)
        return found._replace(hours=METALS) if is_metal else found
    *before, suffix = prefix.split(".")
    if not before or _is_series(before, suffix):
        return Venue(AssetClass.EQUITY, AMERICAN)
    return _venues("suffixes").get(suffix, _OF_NO_VENUE)


def _is_series(before: list[str], suffix: str) -> bool:
    """Return whether a suffix names a series of American preferred shares or warrants."""
    is_one_word = suffix.startswith("PR") and len(suffix) == len("PRA")
    return is_one_word or (len(suffix) == 1 and before[-1] in _OF_A_SERIES)


@lru_cache
def _venues(column: str) -> dict[str, Venue]:
    rows = csv.DictReader(_VENUES.read_text(encoding="utf-8").splitlines())
    return {
        name: Venue(AssetClass(row["asset_class"]), row["hours"])
        for row in rows
        for name in row[column].split("|")
        if name
    }


def may_be_below_zero(symbol: str) -> bool:
    """Return whether a symbol may trade at 0 and below, as oil did in April 2020."""
    return venue_of(symbol).asset_class is AssetClass.FUTURE
