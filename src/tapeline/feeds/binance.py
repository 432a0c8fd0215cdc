"""Binance's spot market: a stream `<symbol>@trade` each, one trade a message, numbered for each.

Public, without a key. Nothing comes while nothing is traded, so it is asked what is subscribed now
and then; its answer is the sign of life. It takes any name and never sends a symbol that it does
not know. A connection ends after 24 hours.
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
    chunks,
    items_of,
    number,
    with_venue,
    without_venue,
)
from tapeline.model.reasons import Reason

_AT_ONCE: Final = 100
_PAGE: Final = 1000
_SHUTDOWN: Final = "serverShutdown"


class BinanceHistory:
    """A thousand trades a page, the oldest first, from a number on."""

    requests_per_s: Final = 2.0
    forwards: Final = True

    def page(self, hole: IdHole) -> str:
        """Ask from the first number that is missing."""
        name = quote(without_venue(hole.symbol), safe="")
        return f"/api/v3/historicalTrades?symbol={name}&fromId={hole.after_id + 1}&limit={_PAGE}"

    def read(self, answer: Any, symbol: str) -> Sequence[OfferedTrade] | None:
        """Read a list of trades, which name no symbol."""
        items = items_of(answer)
        if items is None:
            return None
        return [
            OfferedTrade(
                symbol,
                number(item.get("price")),
                number(item.get("qty")),
                item.get("time"),
                trade_id=item.get("id"),
            )
            for item in items
        ]


class Binance:
    """Binance's protocol; symbols as `BINANCE:BTCUSDT`, the names that Finnhub has for them."""

    name: Final = "binance"
    venue: Final = "BINANCE"
    default_symbols: Final = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    has_ids: Final = True
    most_symbols: Final = 1024
    messages_per_s: Final = 4.0
    keep_alive: Final = '{"method":"LIST_SUBSCRIPTIONS","id":0}'
    history: Final = BinanceHistory()

    def symbol_of(self, name: str) -> str:
        """Return it with the venue; symbols are in capitals."""
        return f"{self.venue}:{name.upper()}"

    def address(self, url: str) -> str:
        """Return the address as it is."""
        return url

    def subscribe(self, symbols: Sequence[str]) -> Iterable[str]:
        """Yield messages of a hundred symbols."""
        return _in_groups("SUBSCRIBE", symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> Iterable[str]:
        """Yield messages of a hundred symbols."""
        return _in_groups("UNSUBSCRIBE", symbols)

    def read(self, message: Any) -> Message:
        """Read one trade, alone or in the envelope of a combined stream, or an answer."""
        if not isinstance(message, dict):
            return Reason.UNKNOWN_MESSAGE
        event = message.get("data", message)
        kind = event.get("e") if isinstance(event, dict) else None
        if kind == "trade":
            return [_trade(event)]
        if kind == _SHUTDOWN:
            return FeedMessage("The server is about to close the connection.")
        error = message.get("error", message)
        if isinstance(error, dict) and "code" in error:
            return FeedMessage(f"{error.get('msg')} (code {error['code']})")
        return Ping() if "result" in message else Reason.UNKNOWN_MESSAGE


def _trade(event: dict[str, Any]) -> OfferedTrade:
    return OfferedTrade(
        with_venue(Binance.venue, event.get("s")),
        number(event.get("p")),
        number(event.get("q")),
        event.get("T"),
        trade_id=event.get("t"),
    )


def _in_groups(method: str, symbols: Sequence[str]) -> Iterable[str]:
    for number_of_message, group in enumerate(chunks(symbols, _AT_ONCE), 1):
        names = [without_venue(symbol).lower() for symbol in group]
        streams = [f"{name}@trade" for name in names]
        message = {"method": method, "params": streams, "id": number_of_message}
        yield orjson.dumps(message).decode()
