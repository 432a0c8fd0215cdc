"""Coinbase Exchange: channel `matches`, one trade a message, numbered for each product.

Public, without a key. `last_match`, with which it answers a subscription, is a trade from before
it: of a window that began without us, and repeated at each reconnect, so it is taken for an answer.
Heartbeats of each product come every second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import quote

import orjson

from tapeline.feeds.feed import (
    FeedMessage,
    IdHole,
    Message,
    OfferedTrade,
    Ping,
    items_of,
    millis,
    number,
    with_venue,
    without_venue,
)
from tapeline.model.reasons import Reason

_ANSWERS: Final = frozenset({"heartbeat", "last_match", "subscriptions"})
_PAGE: Final = 1000
_NOT_VALID: Final = " is not a valid product"


class CoinbaseHistory:
    """A thousand trades a page, the newest first."""

    requests_per_s: Final = 5.0
    forwards: Final = False

    def page(self, hole: IdHole) -> str:
        """Ask for what is older than a number."""
        product = quote(without_venue(hole.symbol), safe="")
        return f"/products/{product}/trades?after={hole.before_id}&limit={_PAGE}"

    def read(self, answer: Any, symbol: str) -> Sequence[OfferedTrade] | None:
        """Read a list of trades, which name no product."""
        items = items_of(answer)
        if items is None:
            return None
        product = without_venue(symbol)
        return [_trade({**item, "product_id": product}) for item in items]


class Coinbase:
    """Coinbase's protocol; symbols as `COINBASE:BTC-USD`."""

    name: Final = "coinbase"
    venue: Final = "COINBASE"
    default_symbols: Final = ("BTC-USD", "ETH-USD", "SOL-USD")
    has_ids: Final = True
    most_symbols: Final = None
    messages_per_s: Final = 20.0
    keep_alive: Final = None
    history: Final = CoinbaseHistory()

    def symbol_of(self, name: str) -> str:
        """Return it with the venue; products are in capitals."""
        return f"{self.venue}:{name.upper()}"

    def address(self, url: str) -> str:
        """Return the address as it is."""
        return url

    def subscribe(self, symbols: Sequence[str]) -> Iterable[str]:
        """Yield a message for each symbol: one that is refused takes no other along."""
        return _each("subscribe", symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> Iterable[str]:
        """Yield a message for each symbol."""
        return _each("unsubscribe", symbols)

    def read(self, message: Any) -> Message:
        """Read one trade, an answer, a heartbeat or an error."""
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "match":
            return [_trade(message)]
        if not isinstance(kind, str):
            return Reason.UNKNOWN_MESSAGE
        if kind in _ANSWERS:
            return Ping()
        if kind == "error":
            return _error(message)
        return Reason.UNKNOWN_MESSAGE


def _trade(match: dict[str, Any]) -> OfferedTrade:
    return OfferedTrade(
        with_venue(Coinbase.venue, match.get("product_id")),
        number(match.get("price")),
        number(match.get("size")),
        millis(match.get("time")),
        trade_id=match.get("trade_id"),
    )


def _error(message: dict[str, Any]) -> FeedMessage:
    reason = str(message.get("reason") or "")
    text = ": ".join(filter(None, (str(message.get("message")), reason)))
    product, is_not_valid, _ = reason.partition(_NOT_VALID)
    return FeedMessage(text, (f"{Coinbase.venue}:{product}",) if is_not_valid else ())


def _each(kind: str, symbols: Sequence[str]) -> Iterable[str]:
    for symbol in symbols:
        product = without_venue(symbol)
        message = {"type": kind, "product_ids": [product], "channels": ["matches", "heartbeat"]}
        yield orjson.dumps(message).decode()
