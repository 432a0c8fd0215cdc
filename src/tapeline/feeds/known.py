"""Which feeds there are, by the names that `--source` and a trade's source have for them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from tapeline.feeds.binance import Binance
from tapeline.feeds.coinbase import Coinbase
from tapeline.feeds.feed import Feed
from tapeline.feeds.finnhub import FINNHUB
from tapeline.feeds.kraken import Kraken

PUBLIC: Final[dict[str, Feed]] = {feed.name: feed for feed in (Coinbase(), Kraken(), Binance())}
"""The feeds that want no key."""

BACKFILL: Final = ":backfill"
"""What follows a feed's name in the source of trades that were fetched from its history."""


class Source(str, Enum):
    """Where trades come from; it travels with each trade."""

    FINNHUB = "finnhub"
    COINBASE = "coinbase"
    KRAKEN = "kraken"
    BINANCE = "binance"
    SIMULATOR = "simulator"
    REPLAY = "replay"


def feed_of(source: str) -> Feed:
    """Return the feed whose frames a source has; a simulated market and a tape have Finnhub's."""
    return PUBLIC.get(source.partition(":")[0], FINNHUB)


def source_for(symbol: str, running: Iterable[str]) -> str:
    """Return which source a symbol is asked of: one that runs, where one has such names.

    Finnhub too has symbols such as `BINANCE:BTCUSDT`.

    Args:
        symbol: in our names.
        running: the sources of which a producer runs.
    """
    names = set(running)
    venue = symbol.partition(":")[0].upper()
    public = next((feed.name for feed in PUBLIC.values() if feed.venue == venue), None)
    others = sorted(names - PUBLIC.keys())
    if public is not None and (public in names or not others):
        return public
    return others[0] if others else FINNHUB.name
