"""Where a symbol trades, by its name: `venues.csv` lists what stands before a colon or after a dot.

The names are Finnhub's and Yahoo's: `VOD.L`, `7203.T`, `NASDAQ:AAPL`, `OANDA:EUR_USD`,
`BINANCE:BTCUSDT`. A name with neither is American, and so is one with a class of shares, a unit, a
warrant or a series after the dot: `BRK.B`, `XYZ.U`, `XYZ.WS`, `JPM.PR.L`.
"""

from __future__ import annotations

import csv
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
    UNKNOWN = "unknown"
    """The venue is not known by its name."""


class Venue(NamedTuple):
    """What is known of a symbol by its name.

    `hours` is an exchange's calendar, or one of the constants above.
    """

    asset_class: AssetClass
    hours: str


_OF_NO_VENUE: Final = Venue(AssetClass.UNKNOWN, UNKNOWN_HOURS)


@lru_cache(maxsize=20_000)
def venue_of(symbol: str) -> Venue:
    """Return where a symbol trades; one whose prefix or suffix is not known has no hours.

    To take it for an American share would give it a session that is wrong; to call it continuous
    would say that its market is always open, and make each night a gap of the feed.
    """
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
