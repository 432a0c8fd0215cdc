"""Which feeds there are, by the names that `--source` and a trade's source have for them."""

from __future__ import annotations

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


def feed_of(source: str) -> Feed:
    """Return the feed whose frames a source has; a simulated market and a tape have Finnhub's."""
    return PUBLIC.get(source.partition(":")[0], FINNHUB)
