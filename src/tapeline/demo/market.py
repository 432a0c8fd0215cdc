"""Which market a demo shows: a simulated one, or a public feed that can be reached from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tapeline.feeds.feed import our_symbols
from tapeline.feeds.known import PUBLIC
from tapeline.model.errors import FeedError
from tapeline.producer.feed_address import proxy_of, tls_of, url_of
from tapeline.program.settings import Settings
from tapeline.simulator.child import DEMO
from tapeline.simulator.market import INSTRUMENTS

_LIVE: Final = "demo_live"
_ANSWER_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Market:
    """What is shown, and where its trades go.

    `symbols` are stored ones; `source` is the producer's, and `name` is for people.
    """

    name: str
    source: str
    symbols: tuple[str, ...]
    target: str
    """Topic and keyspace."""

    @property
    def is_simulated(self) -> bool:
        """Whether nobody really trades there."""
        return self.target == DEMO


SIMULATED: Final = Market(
    "a simulated market", "simulator", tuple(i.symbol for i in INSTRUMENTS), DEMO
)


def public_market(settings: Settings) -> Market:
    """Return the first of the feeds without a key that answers.

    Raises:
        FeedError: none does.
    """
    for feed in PUBLIC.values():
        if _answers(url_of(feed, settings)):
            symbols = our_symbols(feed, feed.default_symbols)
            return Market(feed.name.capitalize(), feed.name, symbols, _LIVE)
    names = ", ".join(feed.name.capitalize() for feed in PUBLIC.values())
    message = f"None of {names} can be reached from here."
    raise FeedError(message)


def _answers(url: str) -> bool:
    tls = tls_of(url)
    try:
        proxy = proxy_of(url)
        with connect(url, open_timeout=_ANSWER_S, close_timeout=_ANSWER_S, proxy=proxy, **tls):
            return True
    except (OSError, WebSocketException):
        return False
